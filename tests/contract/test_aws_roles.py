"""Roles of policies with real botocore over HTTP, against the simulated Batch and STS in this process."""

import asyncio
import datetime as dt
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.config import Config
from structlog.testing import capture_logs

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import Accepted, CallLabels, DescribedJob
from awsbatch_operator.api.job import NOT_FOUND, Target
from awsbatch_operator.aws.caller_identity import LIFETIME
from awsbatch_operator.aws.sdk_session import CONFIG, ClientFactory
from awsbatch_operator.aws.sessions import FAILED_REFRESH_INTERVAL
from awsbatch_sandbox.batch.server import serve
from awsbatch_sandbox.batch.simulator import BatchSimulator
from awsbatch_sandbox.sts.server import serve as serve_sts
from awsbatch_sandbox.sts.simulator import StsSimulator
from fakes.aws import HERE, FakePermit, classes, describe, expires_after, make_batch, terminate
from fakes.telemetry import FakeTelemetry

THERE = "us-east-1"
OURS, THEIRS = "123456789012", "222222222222"
ROLE = f"arn:aws:iam::{THEIRS}:role/teams/batch-team-a"
OTHER_ROLE = "arn:aws:iam::333333333333:role/batch-team-b"
THEIR_TARGET, OTHER_TARGET, OUR_TARGET = Target(HERE, ROLE, "team-a"), Target(HERE, OTHER_ROLE, "team-b"), Target(HERE)
ONE_ATTEMPT = CONFIG.merge(Config(retries={"mode": "standard", "total_max_attempts": 1}))
WORDS = "the operator cannot assume the role of the BatchAccessPolicy team-a"
REMEDY = "ask the platform team: the status of the policy shows the cause; the operator retries every 5 minutes"


@dataclass
class World:
    """`ahead`: by how many seconds the operator's clocks go ahead of the sandbox's."""

    simulator: BatchSimulator
    sts: StsSimulator
    telemetry: FakeTelemetry = field(default_factory=FakeTelemetry)
    ahead: float = 0.0

    def __post_init__(self) -> None:
        self.batch = make_batch(
            telemetry=self.telemetry,
            make_client=ClientFactory(lambda: True, ONE_ATTEMPT),
            now=lambda: dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self.ahead),
            monotonic=lambda: time.monotonic() + self.ahead,
        )

    async def describe(self, target: Target, job_id: str) -> Any:
        return (await describe(self.batch, target, job_id))[job_id]

    async def terminate(
        self, *ids: str, target: Target = THEIR_TARGET, namespace: str = "blue"
    ) -> list[Accepted | CallError]:
        return await terminate(self.batch, *(FakePermit(job_id, target, namespace) for job_id in ids))

    def seed(self, account: str = THEIRS, **job: Any) -> str:
        return self.simulator.seed(account=account, **job)

    def assumed(self) -> list[dict[str, Any]]:
        return self.sts.calls("AssumeRole")


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "sandbox")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ACCOUNT_ID"):
        monkeypatch.delenv(name, raising=False)
    simulator = BatchSimulator()
    sts = StsSimulator(simulator.credentials, simulator.aws_time, issuing_clock=lambda: time.time() + made.ahead)
    async with serve(simulator) as batch_url, serve_sts(sts) as sts_url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_BATCH", batch_url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts_url)
        made = World(simulator, sts)
        yield made
        made.batch.close()


async def test_a_role_is_assumed_once_by_its_policy_and_all_describes_share_it(world: World) -> None:
    ids = [world.seed() for _ in range(3)]
    for job_id in ids:
        assert isinstance(await world.describe(THEIR_TARGET, job_id), DescribedJob)
    (requested,) = world.assumed()
    assert (requested["role"], requested["external_id"], requested["role_session"]) == (
        ROLE,
        "awsbatch-operator/prod/team-a",
        "policy,team-a@prod",
    )
    assert (requested["tags"], requested["duration"]) == ({"kubernetes-cluster": "prod"}, LIFETIME)
    assert (requested["account"], requested["region"]) == (OURS, HERE)
    assert {(call["account"], call["role"]) for call in world.simulator.calls()} == {(THEIRS, ROLE)}


async def test_assume_role_goes_to_sts_in_the_region_of_the_target(world: World) -> None:
    await world.describe(Target(THERE, ROLE, "team-a"), "x")
    assert [call["region"] for call in world.assumed()] == [THERE]


async def test_without_a_role_no_role_is_assumed(world: World) -> None:
    job_id = world.seed(OURS)
    assert isinstance(await world.describe(OUR_TARGET, job_id), DescribedJob)
    assert classes(await world.terminate(job_id, target=OUR_TARGET)) == [None]
    assert world.sts.calls() == []


async def test_terminations_go_by_a_session_of_their_namespace(world: World) -> None:
    blue, green = [world.seed(), world.seed()], [world.seed(), world.seed()]
    await world.describe(THEIR_TARGET, blue[0])
    await asyncio.gather(world.terminate(*blue), world.terminate(*green, namespace="green"))
    await world.terminate(world.seed())
    tags = [call["tags"].get("kubernetes-namespace") for call in world.assumed()]
    assert sorted(filter(None, tags)) == ["blue", "green"], "one session each, and none of describes"
    assert all(call["tags"]["kubernetes-cluster"] == "prod" for call in world.assumed())
    sent = {request["job_id"]: request["role_session"] for request in world.simulator.terminate_requests()}
    assert [sent[job_id] for job_id in (*blue, *green)] == ["ns,blue@prod"] * 2 + ["ns,green@prod"] * 2
    assert [len(call["job_ids"]) for call in world.simulator.calls("TerminateJobs")] == [2, 2]


async def test_iam_decides_by_the_namespace_of_the_session(world: World) -> None:
    world.simulator.deny("TerminateJob", account=THEIRS, job_tag="k8s-namespace", principal_tag="kubernetes-namespace")
    mine, other = world.seed(tags={"k8s-namespace": "blue"}), world.seed(tags={"k8s-namespace": "green"})
    assert classes(await world.terminate(mine, other)) == [None, ErrorClass.DENIED]


async def test_in_a_storm_no_termination_is_signed_for_another_namespace(world: World) -> None:
    world.simulator.deny("TerminateJob", account=THEIRS, job_tag="k8s-namespace", principal_tag="kubernetes-namespace")
    names, targets = [f"n{number}" for number in range(12)], [THEIR_TARGET, THEIR_TARGET._replace(policy="team-a2")]
    owners: dict[str, str] = {}

    async def storm(name: str, target: Target) -> list[Accepted | CallError]:
        results = list[Accepted | CallError]()
        for size in (1, 2, 1):
            ids = [world.seed(tags={"k8s-namespace": name}) for _ in range(size)]
            owners.update(dict.fromkeys(ids, name))
            results += await world.terminate(*ids, target=target, namespace=name)
        return results

    for _ in range(2):
        results = await asyncio.gather(*(storm(name, target) for name in names for target in targets))
        assert {error_class for some in results for error_class in classes(some)} == {None}
        # The second time all sessions have to be had anew, in the middle of it.
        world.sts.expire(ROLE)
        world.ahead += 11
    tags = {call["issued"]: call["tags"]["kubernetes-namespace"] for call in world.assumed()}
    signed = {job_id: tags[call["access_key"]] for call in world.simulator.calls() for job_id in call["job_ids"]}
    assert signed == owners
    assert len(world.assumed()) == 2 * len(names) * len(targets), "each once, and once more when it had ended"


async def test_a_revoked_session_is_renewed_for_its_namespace_only(world: World) -> None:
    blue, green = [[world.seed() for _ in range(2)] for _ in range(2)]
    await asyncio.gather(world.terminate(blue[0]), world.terminate(green[0], namespace="green"))
    world.sts.trust(ROLE, refuses="AccessDenied")
    world.sts.expire(ROLE)
    (error,) = await world.terminate(blue[1])
    assert error == CallError(ErrorClass.DENIED, WORDS, "AccessDenied", REMEDY)
    world.sts.clear_trust()
    assert classes(await world.terminate(green[1], namespace="green")) == [None]
    assert [call["role_session"] for call in world.assumed()[2:]] == ["ns,blue@prod", "ns,green@prod"]
    assert world.batch.assume_error(THEIR_TARGET) is not None, "blue's"
    world.ahead = 2
    assert classes(await world.terminate(blue[1])) == [None]
    assert world.batch.assume_error(THEIR_TARGET) is None


async def test_credentials_are_renewed_before_they_expire(world: World) -> None:
    job_id = world.seed()
    await world.describe(THEIR_TARGET, job_id)
    world.ahead = LIFETIME - 601
    await world.describe(THEIR_TARGET, job_id)
    assert len(world.assumed()) == 1
    world.ahead = LIFETIME - 599
    assert isinstance(await world.describe(THEIR_TARGET, job_id), DescribedJob)
    first, second = world.assumed()
    used = [call["access_key"] for call in world.simulator.calls()]
    assert used == [first["issued"], first["issued"], second["issued"]]


@pytest.mark.parametrize("refuses", ["Throttling", "InternalFailure"])
async def test_valid_credentials_are_used_while_sts_is_unavailable(world: World, refuses: str) -> None:
    job_id = world.seed()
    await world.describe(THEIR_TARGET, job_id)
    world.sts.trust(ROLE, refuses=refuses)
    world.ahead = LIFETIME - 500
    for _ in range(3):
        assert isinstance(await world.describe(THEIR_TARGET, job_id), DescribedJob)
    assert len(world.assumed()) == 2, "asked again a while later, not with each describe"
    world.ahead += FAILED_REFRESH_INTERVAL
    await world.describe(THEIR_TARGET, job_id)
    assert len(world.assumed()) == 3
    world.ahead = LIFETIME
    result = await world.describe(THEIR_TARGET, job_id)
    assert isinstance(result, CallError)
    assert result.error_class.transient
    world.sts.clear_trust()
    world.ahead += 2
    assert isinstance(await world.describe(THEIR_TARGET, job_id), DescribedJob)


async def test_a_denied_refresh_ends_the_use_of_valid_credentials(world: World) -> None:
    job_id = world.seed()
    await world.describe(THEIR_TARGET, job_id)
    world.sts.trust(ROLE, refuses="AccessDenied")
    world.ahead = LIFETIME - 500
    assert (await world.describe(THEIR_TARGET, job_id)).error_class is ErrorClass.DENIED


REFUSALS = {
    "AccessDenied": ErrorClass.DENIED,
    "RegionDisabledException": ErrorClass.DENIED,
    "PackedPolicyTooLarge": ErrorClass.DENIED,
    "Throttling": ErrorClass.THROTTLED,
    "InternalFailure": ErrorClass.UNAVAILABLE,
    "ServiceUnavailable": ErrorClass.UNAVAILABLE,
}


@pytest.mark.parametrize(("code", "error_class"), REFUSALS.items())
async def test_a_role_that_cannot_be_assumed_does_not_affect_others(
    world: World, code: str, error_class: ErrorClass
) -> None:
    world.sts.trust(ROLE, refuses=code)
    mine, other, ours = world.seed(), world.seed("333333333333"), world.seed(OURS)
    result = await world.describe(THEIR_TARGET, mine)
    assert result == CallError(error_class, WORDS, code, REMEDY)
    assert await world.terminate(mine) == [result]
    assert isinstance(await world.describe(OTHER_TARGET, other), DescribedJob)
    assert isinstance(await world.describe(OUR_TARGET, ours), DescribedJob)
    error = world.batch.assume_error(THEIR_TARGET)
    assert error is not None
    assert (error.error_class, error.code) == (error_class, code)
    assert (world.batch.assume_error(OTHER_TARGET), world.batch.assume_error(OUR_TARGET)) == (None, None)
    assert world.simulator.calls(account=THEIRS) == []


async def test_the_message_of_aws_is_shown_in_the_policy_only(world: World) -> None:
    world.sts.trust(ROLE, external_id="another")
    with capture_logs() as lines:
        result = await world.describe(THEIR_TARGET, world.seed())
    assert result.message == WORDS
    error = world.batch.assume_error(THEIR_TARGET)
    assert error is not None
    assert f"not authorized to perform: sts:AssumeRole on resource: {ROLE}" in error.message
    (line,) = lines
    assert (line["account"], line["role"], line["region"]) == (THEIRS, "batch-team-a", HERE)
    assert ROLE not in str(line)


async def test_a_role_that_trusts_again_is_assumed_with_the_next_describe(world: World) -> None:
    job_id = world.seed()
    world.sts.trust(ROLE, refuses="AccessDenied")
    await world.describe(THEIR_TARGET, job_id)
    world.sts.clear_trust()
    world.ahead = 2
    assert isinstance(await world.describe(THEIR_TARGET, job_id), DescribedJob)
    assert world.batch.assume_error(THEIR_TARGET) is None


async def test_calls_that_wait_for_one_denied_assume_role_share_its_error(world: World) -> None:
    world.sts.trust(ROLE, refuses="AccessDenied", latency=0.1)
    results = await asyncio.gather(*(world.describe(THEIR_TARGET, f"j{n}") for n in range(12)))
    assert {result.error_class for result in results} == {ErrorClass.DENIED}
    assert len(world.assumed()) == 1


async def test_a_hanging_role_delays_no_other(world: World) -> None:
    world.sts.trust(ROLE, latency=1)
    other, ours = world.seed("333333333333"), world.seed(OURS)
    hanging = [asyncio.create_task(world.describe(THEIR_TARGET, f"j{n}")) for n in range(20)]
    hanging += [asyncio.create_task(world.terminate("x", namespace=f"n{n}")) for n in range(20)]
    await asyncio.sleep(0.2)
    began = time.monotonic()
    for target, job_id in ((OTHER_TARGET, other), (OUR_TARGET, ours)):
        assert isinstance(await world.describe(target, job_id), DescribedJob)
        assert classes(await world.terminate(job_id, target=target)) == [None]
    assert time.monotonic() - began < 1
    assert not any(task.done() for task in hanging)
    await asyncio.gather(*hanging)


async def test_a_session_that_batch_rejects_is_renewed_for_its_target_only(world: World) -> None:
    mine, other = world.seed(), world.seed("333333333333")
    await world.describe(THEIR_TARGET, mine)
    await world.describe(OTHER_TARGET, other)
    world.sts.expire(ROLE)
    assert isinstance(await world.describe(THEIR_TARGET, mine), DescribedJob)
    assert isinstance(await world.describe(OTHER_TARGET, other), DescribedJob)
    assert [call["role"] for call in world.assumed()] == [ROLE, OTHER_ROLE, ROLE]
    world.sts.expire(ROLE)
    again = await world.describe(THEIR_TARGET, mine)
    assert again.error_class is ErrorClass.CREDENTIALS, "not twice within ten seconds"
    assert len(world.assumed()) == 3


async def test_own_credentials_that_sts_rejects_are_reported_as_such(world: World) -> None:
    world.simulator.settings(unlisted_keys=False, accounts={}, secrets={"sandbox": "another"})
    result = await world.describe(THEIR_TARGET, world.seed())
    assert (result.error_class, result.code) == (ErrorClass.CREDENTIALS, "SignatureDoesNotMatch")
    assert len(world.assumed()) == 2, "tried once more with a new session"
    world.simulator.settings(secrets={})
    world.ahead = 2
    assert isinstance(await world.describe(THEIR_TARGET, world.seed()), DescribedJob)


async def test_a_termination_whose_permit_has_expired_is_not_sent_nor_those_of_the_same_request(world: World) -> None:
    await world.terminate(world.seed())
    world.simulator.clear_calls()
    ids = [world.seed() for _ in range(3)]
    for number in (1, 3):
        permits = [FakePermit(job_id, THEIR_TARGET, "blue") for job_id in ids[:number]]
        permits[number // 2] = FakePermit(ids[number // 2], THEIR_TARGET, "blue", expires_after(0))
        results = await terminate(world.batch, *permits)
        assert classes(results) == [ErrorClass.NOT_SENT] * number
        codes = ["Regrouped"] * number
        codes[number // 2] = "PermitExpiredError"
        assert [isinstance(one, CallError) and one.code for one in results] == codes
    assert world.simulator.calls() == []
    assert world.telemetry.requests == [("TerminateJob", "OK")], "it was no request to AWS"


async def test_a_permit_is_checked_once_with_the_last_byte(world: World) -> None:
    permit = FakePermit(world.seed(), THEIR_TARGET, "blue", expires_after(1))
    assert classes(await terminate(world.batch, permit)) == [None]


async def test_own_account_is_requested_once_and_only_if_a_job_is_missing(world: World) -> None:
    await world.batch.prepare(HERE)
    assert world.batch.account(OUR_TARGET) is None
    assert world.sts.calls() == []
    for _ in range(3):
        assert await world.describe(OUR_TARGET, "unknown") is NOT_FOUND
    assert [call["action"] for call in world.sts.calls()] == ["GetCallerIdentity"]
    assert world.batch.account(OUR_TARGET) == OURS
    assert list(world.telemetry.polled_at) == [CallLabels(OURS, HERE, "")]


async def test_own_account_is_known_from_an_answer(world: World) -> None:
    await world.describe(OUR_TARGET, world.seed(OURS))
    assert world.batch.account(OUR_TARGET) == OURS
    assert await world.describe(OUR_TARGET, "unknown") is NOT_FOUND
    assert world.sts.calls() == []


async def test_own_account_may_be_known_to_the_chain(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCOUNT_ID", "444444444444")
    await world.batch.prepare(HERE)
    assert world.batch.account(OUR_TARGET) == "444444444444"
    assert world.sts.calls() == []


async def test_an_account_that_sts_does_not_return_stays_unknown_and_the_poll_counts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    assert await world.describe(OUR_TARGET, "unknown") is NOT_FOUND
    assert world.batch.account(OUR_TARGET) is None
    assert list(world.telemetry.polled_at) == [CallLabels("", HERE, "")]


async def test_the_account_of_a_role_is_known_without_a_request(world: World) -> None:
    assert world.batch.account(THEIR_TARGET) == THEIRS
    await world.describe(THEIR_TARGET, "unknown")
    assert world.sts.calls("GetCallerIdentity") == []
    assert set(world.telemetry.labels) == {CallLabels(THEIRS, HERE, "batch-team-a")}
