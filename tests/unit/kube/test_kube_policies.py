"""What policies show, and how often it is written, on virtual time."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from awsbatch_operator.api import timestamps as times
from awsbatch_operator.api.conditions import ConditionValue
from awsbatch_operator.api.interfaces import PolicyStatus
from awsbatch_operator.kube.client import ApiError
from awsbatch_operator.kube.policy_status import PolicyStatusWriter
from unit.kube.scripted_client import Reply, ScriptedClient, not_found

pytestmark = pytest.mark.looptime(start=0)

PATH = "/apis/awsbatch.dev/v1alpha1/batchaccesspolicies"
IN_FORCE = PolicyStatus(ConditionValue("True", "InForce", ""), namespaces=3, jobs=8, account_id="111122223333")
DENIED = replace(IN_FORCE, ready=ConditionValue("False", "AccessDenied", "sts says no"))
FORBIDDEN = ApiError(403, "cannot patch resource")


class Cluster:
    """Policies that are kept as the API server keeps them; `send` reports one as the watch would."""

    def __init__(self) -> None:
        self.client = ScriptedClient(self._reply, latency=0.001)
        self.bodies: dict[str, dict[str, Any]] = {}
        self.refusal: ApiError | None = None
        self.policy_statuses: dict[str, PolicyStatus] = {}
        self.acts = True
        self.statuses = PolicyStatusWriter(self.client, lambda: self.policy_statuses, lambda: self.acts, now=self._now)

    def _now(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    def make(self, name: str, **status: Any) -> None:
        status = status or {"observedGeneration": 0}
        self.bodies[name] = {"metadata": {"name": name, "generation": 1, "resourceVersion": "1"}, "status": status}
        self.send(name)

    def send(self, name: str) -> None:
        self.statuses.on_upsert(name, self.bodies[name])

    def edit(self, name: str) -> None:
        metadata = self.bodies[name]["metadata"]
        new = {"generation": metadata["generation"] + 1, "resourceVersion": str(int(metadata["resourceVersion"]) + 1)}
        self.bodies[name] = self.bodies[name] | {"metadata": metadata | new}

    def _reply(self, verb: str, path: str, sent: Mapping[str, Any]) -> Reply:
        assert verb == "patch"
        name = path.removeprefix(f"{PATH}/").removesuffix("/status")
        body = self.bodies.get(name)
        if self.refusal is not None:
            return self.refusal
        if body is None:
            return not_found(name)
        if sent["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            return ApiError(409, "modified", "Conflict")
        version = str(int(body["metadata"]["resourceVersion"]) + 1)
        status = {key: value for key, value in (body["status"] | sent["status"]).items() if value is not None}
        self.bodies[name] = {"metadata": body["metadata"] | {"resourceVersion": version}, "status": status}
        return self.bodies[name]

    @property
    def written(self) -> list[dict[str, Any]]:
        return [sent["status"] for _, _, sent in self.client.calls]


@asynccontextmanager
async def running() -> AsyncIterator[Cluster]:
    """With one policy `a`, in force."""
    cluster = Cluster()
    cluster.make("a")
    cluster.policy_statuses["a"] = IN_FORCE
    task = asyncio.ensure_future(cluster.statuses.run())
    try:
        await asyncio.sleep(0.1)
        yield cluster
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task.exception()


def stamped(at: float, generation: int = 1, **claim: str) -> dict[str, Any]:
    return {**claim, "lastTransitionTime": times.meta_time(int(at * 1000)), "observedGeneration": generation}


async def test_a_new_policy_shows_where_it_stands_and_then_is_left_alone() -> None:
    async with running() as cluster:
        ready = stamped(0, type="Ready", status="True", reason="InForce", message="")
        assert cluster.bodies["a"]["status"] == {
            "observedGeneration": 1,
            "namespaces": 3,
            "jobs": 8,
            "accountId": "111122223333",
            "conditions": [ready],
        }
        cluster.send("a")
        await asyncio.sleep(100)
        assert len(cluster.written) == 1


async def test_a_policy_that_is_not_ready_is_stalled_for_the_same_reason() -> None:
    async with running() as cluster:
        cluster.policy_statuses["a"] = DENIED
        await asyncio.sleep(5)
        ready = stamped(1, type="Ready", status="False", reason="AccessDenied", message="sts says no")
        stalled = stamped(1, type="Stalled", status="True", reason="AccessDenied", message="sts says no")
        assert cluster.written[1:] == [{"conditions": [ready, stalled]}]
        cluster.policy_statuses["a"] = IN_FORCE
        await asyncio.sleep(5)
        again = stamped(6, type="Ready", status="True", reason="InForce", message="")
        assert cluster.written[2:] == [{"conditions": [again]}]


async def test_a_condition_keeps_its_time_for_as_long_as_its_status_stays() -> None:
    async with running() as cluster:
        cluster.policy_statuses["a"] = DENIED
        await asyncio.sleep(10)
        cluster.policy_statuses["a"] = replace(DENIED, ready=ConditionValue("False", "AmbiguousPolicy", "a and b"))
        await asyncio.sleep(10)
        cluster.edit("a")
        cluster.send("a")
        await asyncio.sleep(10)
        times_shown = [{one["lastTransitionTime"] for one in status["conditions"]} for status in cluster.written[1:]]
        assert times_shown == [{times.meta_time(1000)}] * 3
        assert {one["observedGeneration"] for one in cluster.written[-1]["conditions"]} == {2}
        assert cluster.written[-1]["observedGeneration"] == 2


async def test_an_unknown_readiness_is_no_stall() -> None:
    async with running() as cluster:
        cluster.policy_statuses["a"] = replace(IN_FORCE, ready=ConditionValue("Unknown", "NotReadYet", ""))
        await asyncio.sleep(2)
        assert [one["type"] for one in cluster.written[-1]["conditions"]] == ["Ready"]


async def test_an_account_that_is_not_known_any_more_is_not_shown() -> None:
    async with running() as cluster:
        cluster.policy_statuses["a"] = replace(IN_FORCE, account_id=None)
        await asyncio.sleep(2)
        assert cluster.written[1:] == [{"accountId": None}]


async def test_job_counts_are_written_every_ten_seconds_and_all_else_at_once() -> None:
    async with running() as cluster:
        for jobs in range(100, 129):
            cluster.policy_statuses["a"] = replace(cluster.policy_statuses["a"], jobs=jobs)
            await asyncio.sleep(1)
        assert [list(status) for status in cluster.written[1:]] == [["jobs"], ["jobs"]]
        cluster.policy_statuses["a"] = replace(cluster.policy_statuses["a"], namespaces=4)
        await asyncio.sleep(1)
        assert cluster.written[-1] == {"namespaces": 4, "jobs": 128}


async def test_a_follower_writes_no_policy_status() -> None:
    async with running() as cluster:
        cluster.acts = False
        cluster.policy_statuses["a"] = DENIED
        await asyncio.sleep(60)
        assert len(cluster.written) == 1


async def test_it_is_asked_before_each_write_whether_to_act() -> None:
    async with running() as cluster:
        cluster.make("b")
        cluster.make("c")
        cluster.policy_statuses |= {"b": IN_FORCE, "c": IN_FORCE}
        yes = iter([True, True, False])
        cluster.statuses._is_leader = lambda: next(yes, False)
        await asyncio.sleep(5)
        assert [path.split("/")[-2] for _, path, _ in cluster.client.calls] == ["a", "b"]


async def test_a_policy_that_is_gone_or_not_known_yet_is_left_alone() -> None:
    async with running() as cluster:
        cluster.policy_statuses["b"] = IN_FORCE
        cluster.policy_statuses["a"] = DENIED
        cluster.statuses.on_delete("a")
        await asyncio.sleep(5)
        cluster.statuses.on_relist({})
        await asyncio.sleep(5)
        del cluster.policy_statuses["a"]
        cluster.send("a")
        await asyncio.sleep(5)
        assert len(cluster.written) == 1


async def test_a_conflict_waits_for_the_watch() -> None:
    async with running() as cluster:
        cluster.edit("a")
        cluster.policy_statuses["a"] = DENIED
        with capture_logs() as logs:
            await asyncio.sleep(5)
        assert cluster.bodies["a"]["status"]["observedGeneration"] == 1
        assert logs == []
        cluster.send("a")
        await asyncio.sleep(1)
        assert cluster.bodies["a"]["status"]["observedGeneration"] == 2


@pytest.mark.parametrize("refusal", [FORBIDDEN, ApiError(0, "away"), ApiError(422, "status.jobs: too many")])
async def test_a_failed_write_is_logged_once_and_retried_with_back_off(refusal: ApiError) -> None:
    async with running() as cluster:
        cluster.make("b")
        cluster.policy_statuses |= {"a": DENIED, "b": IN_FORCE}
        cluster.refusal = refusal
        with capture_logs() as logs:
            await asyncio.sleep(600)
        assert [(line["log_level"], line["error"]) for line in logs] == [("warning", refusal.message)]
        assert ("remedy" in logs[0]) == (refusal is FORBIDDEN)
        tries = len(cluster.written) - 1
        assert 2 * 10 < tries < 2 * 20
        cluster.refusal = None
        await asyncio.sleep(61)
        assert [
            status["conditions"][0]["status"] for status in (body["status"] for body in cluster.bodies.values())
        ] == [
            "False",
            "True",
        ]
        cluster.policy_statuses["a"] = IN_FORCE
        await asyncio.sleep(1)
        assert cluster.bodies["a"]["status"]["conditions"][0]["status"] == "True"


async def test_a_foreign_policy_status_is_overwritten() -> None:
    async with running() as cluster:
        for foreign_status in ({"jobs": "many", "conditions": "none"}, {"conditions": [None, {"type": "Ready"}]}):
            wanted = cluster.bodies["a"]["status"]
            cluster.edit("a")
            cluster.bodies["a"]["metadata"]["generation"] = 1
            cluster.bodies["a"] |= {"status": foreign_status}
            cluster.send("a")
            await asyncio.sleep(11)
            ready = cluster.bodies["a"]["status"]["conditions"][0]
            assert {**ready, "lastTransitionTime": ""} == {**wanted["conditions"][0], "lastTransitionTime": ""}
            assert cluster.bodies["a"]["status"]["jobs"] == 8
