"""No sequence of edits terminates a job that the policy in force does not admit; admitted ones end when all is calm."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import looptime
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.interfaces import DescribedJob, DescribeResult, TerminatePermit
from awsbatch_operator.api.job import Target
from awsbatch_operator.policy.resolution import Mode
from builders import THROTTLED
from fakes.batch import EXPIRED
from unit.controller.world import World
from unit.policy.oracle import TERMINATE, Described, Oracle, PolicyText

ROLE = "arn:aws:iam::111122223333:role/batch"
NAMESPACES, TEAMS = ("ns-a", "ns-b"), ("a", "b")
JOBS = ("mine", "other", "array", "array:3")
FOREIGN, NOTHING = "foreign", "nothing"
STEP = 0.5
SHOWN_FOR = 2.0
CALM_FOR = 20.0
MAX_DESCRIBES = 100
SKEW = 0.5
"""Seconds that the answers of two calls may lie apart."""

POLICIES = st.builds(
    PolicyText,
    team=st.sampled_from(["a", "a", "b", None]),
    queue=st.sampled_from(["a-*", "a-gpu", "b-*", None]),
    tag=st.sampled_from([None, "x", "x", "${namespace}"]),
    role=st.sampled_from([None, None, ROLE]),
    regions=st.sampled_from([(), (), ("us-east-1",)]),
    terminate=st.sampled_from([True, True, True, False]),
    later=st.sampled_from([False, False, False, False, True]),
).map(lambda one: one if one.queue or one.tag else replace(one, tag="x"))


class Storm(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = looptime.new_event_loop(start=1_000, noop_cycles=0)
        self.broken: list[str] = []
        self.errors = 0
        self.denied_since: dict[str, float] = {}
        self.differ_since: dict[str, float] = {}
        self.is_leader, self.stale = True, False

    @initialize(mode=st.sampled_from(Mode), policy=POLICIES)
    def begin(self, mode: Mode, policy: PolicyText) -> None:
        self.written: dict[str, PolicyText] = {"one": policy}
        self.teams: dict[str, str] = dict(zip(NAMESPACES, TEAMS, strict=True))
        self.seen: dict[tuple[str | None, str], Described] = {}
        self.oracle = Oracle(mode, self.written, self.teams, self.seen)
        self._run(self._start(mode))
        for namespace in NAMESPACES:
            for job_id in (*JOBS, FOREIGN, NOTHING):
                self.create(namespace, job_id, None)
        self._pass(1)

    async def _start(self, mode: Mode) -> None:
        self.world = World(mode=mode, jitter=lambda low, _high: low, is_leader=lambda: self.is_leader)
        batch = self.world.batch
        batch.with_last_byte, batch.on_describe = self.leaves, self.described
        for job_id in JOBS:
            self.world.a_job(job_id, queue="a-gpu" if job_id != "other" else "b-gpu")
            batch.tags[job_id] = {"owner": "x"} if ":" not in job_id else {}
        self.world.a_job(FOREIGN, queue="z")
        self.world.policies.on_policies({name: one.parsed(name) for name, one in self.written.items()})
        self.world.policies.on_namespaces({name: {"team": team} for name, team in self.teams.items()})
        self.going = self.world.running()
        await self.going.__aenter__()

    # -- what the oracle watches --------------------------------------------------------------------------------------

    def leaves(self, permit: TerminatePermit) -> CallError | None:
        if not self.is_leader or not permit.valid():
            return EXPIRED
        at, namespace = self.loop.time(), permit.namespace
        allowed = self.oracle.allows(namespace, permit.job_id, region=permit.target.region, wanted=TERMINATE, now=at)
        if not allowed:
            self.broken.append(f"{permit.job_id} was terminated from {namespace} at {at}")
        if self.stale_for() > 10:
            self.broken.append(f"{permit.job_id} was terminated without news of policies for {self.stale_for()} s")
        return None

    def described(self, target: Target, results: Mapping[str, DescribeResult], requested_at: float) -> None:
        for job_id, result in results.items():
            if isinstance(result, DescribedJob) and result.job.queue is not None:
                self.seen[target.role, job_id] = Described(result.job.queue, result.tags or {}, requested_at)
        recent = sum(at > requested_at - 60 for at, _ in self.world.batch.describes[-MAX_DESCRIBES:])
        if recent == MAX_DESCRIBES:
            self.broken.append(f"{recent} describes in a minute at {requested_at}: {self.world.batch.describes[-8:]}")
        self.loop.call_soon(self.compare)

    def stale_for(self) -> float:
        matters = self.oracle.mode is Mode.REQUIRED or self.written
        return self.loop.time() - self.stale_since if self.stale and matters else 0.0

    def compare(self) -> None:
        """Note which objects are not admitted, and since when: none of them may show a job for long."""
        at = self.loop.time()
        for uid, body in self.world.objects.bodies.items():
            namespace, job_id = body["metadata"]["namespace"], body["spec"]["jobId"]
            if not self.is_leader or self.teams.get(namespace) is None or self.oracle.allows(namespace, job_id):
                self.denied_since.pop(uid, None)
                continue
            if at - self.denied_since.setdefault(uid, at) > SHOWN_FOR:
                shown = set(body["status"]) - {"phase", "conditions", "observedGeneration", "region", "termination"}
                if shown - {"accountId"}:
                    self.broken.append(f"{uid} shows {shown} at {at}")
        if self.oracle.mode is Mode.REQUIRED:
            for namespace in NAMESPACES:
                one, other = (self.world.objects.bodies.get(f"uid-{namespace}-{j}") for j in (FOREIGN, NOTHING))
                statuses = [
                    # Messages name the job that was asked for; nothing else may differ.
                    repr(self.world.controller.cache.objects[body["metadata"]["uid"]].record.status).replace(
                        body["spec"]["jobId"], "JOB"
                    )
                    for body in (one, other)
                    if body
                ]
                if len(statuses) < 2 or statuses[0] == statuses[1] or not self.is_leader:
                    self.differ_since.pop(namespace, None)
                elif at - self.differ_since.setdefault(namespace, at) > SKEW:
                    self.broken.append(f"in {namespace} the foreign and the missing job differ at {at}: {statuses}")

    # -- edits --------------------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(["one", "one", "two"]), policy=POLICIES)
    def write_policy(self, name: str, policy: PolicyText) -> None:
        self.written[name] = policy
        self._do(self.world.policies.on_policy, name, policy.parsed(name))

    @precondition(lambda self: self.written)
    @rule(data=st.data())
    def delete_policy(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.written)))
        del self.written[name]
        self._do(self.world.policies.on_policy, name, None)

    @rule(namespace=st.sampled_from(NAMESPACES), team=st.sampled_from(["a", "a", "b", "c", None]))
    def label(self, namespace: str, team: str | None) -> None:
        if team is None:
            self.teams.pop(namespace, None)
        else:
            self.teams[namespace] = team
        self._do(self.world.policies.on_namespace, namespace, None if team is None else {"team": team})

    @rule(
        namespace=st.sampled_from(NAMESPACES), job_id=st.sampled_from(JOBS), why=st.sampled_from(["why", "why", None])
    )
    def state(self, namespace: str, job_id: str, why: str | None) -> None:
        uid = f"uid-{namespace}-{job_id}"
        if uid in self.world.objects.bodies:
            self._do(self.world.objects.edit, uid, {"terminate": {"reason": why} if why else None})

    @rule(namespace=st.sampled_from(NAMESPACES), why=st.sampled_from(["why", None]))
    def state_twins(self, namespace: str, why: str | None) -> None:
        def both() -> None:
            for job_id in (FOREIGN, NOTHING):
                spec = {"terminate": {"reason": why} if why else None}
                self.world.objects.edit(f"uid-{namespace}-{job_id}", spec)

        self._do(both)

    @rule(namespace=st.sampled_from(NAMESPACES), job_id=st.sampled_from(JOBS), why=st.sampled_from(["why", None]))
    def delete_or_create(self, namespace: str, job_id: str, why: str | None) -> None:
        uid = f"uid-{namespace}-{job_id}"
        if self.world.objects.bodies.pop(uid, None) is not None:
            self._do(self.world.controller.objects.on_delete, uid)
        else:
            self.create(namespace, job_id, why)

    def create(self, namespace: str, job_id: str, why: str | None) -> None:
        spec: dict[str, Any] = {"jobId": job_id} | ({"terminate": {"reason": why}} if why else {})
        self._do(lambda: self.world.objects.create(job_id, spec, namespace=namespace))

    # -- the world ----------------------------------------------------------------------------------------------------

    @rule(job_id=st.sampled_from(JOBS[:3]), owner=st.sampled_from(["x", "y", *NAMESPACES, None]))
    def tag(self, job_id: str, owner: str | None) -> None:
        self.world.batch.tags[job_id] = {} if owner is None else {"owner": owner}

    @rule(job_id=st.sampled_from(JOBS))
    def job_is_replaced(self, job_id: str) -> None:
        """Another job takes the place of the terminated one, so that there is something to terminate again."""
        job = self.world.batch.jobs[job_id]
        self.world.batch.jobs[job_id] = job.replace(is_terminated=False)

    @precondition(lambda self: self.errors < 6)
    @rule(times=st.integers(1, 3))
    def describes_fail(self, times: int) -> None:
        self.errors += times
        self.world.batch.describe_errors += [THROTTLED] * times

    @rule(times=st.integers(1, 2))
    def terminations_fail(self, times: int) -> None:
        self.world.batch.call_errors = [THROTTLED] * times

    @rule(open_=st.booleans())
    def slots_open_or_close(self, open_: bool) -> None:
        self._do(self.world.batch.turns.set if open_ else self.world.batch.turns.clear)

    @rule()
    def the_watch_fails_or_recovers(self) -> None:
        self.stale = not self.stale
        self.stale_since = self.loop.time()
        self._do(self.world.policies.on_stale_since, self.stale_since if self.stale else None, "Namespaces")

    @rule()
    def leadership_changes(self) -> None:
        self.is_leader = not self.is_leader
        if self.is_leader:
            self._run(self.world.controller.on_started_leading())
        else:
            self._do(self.world.controller.on_stopped_leading)

    @rule(seconds=st.sampled_from([0.01, 0.05, 1, 3, 12, 31, 70, 150]))
    def time_passes(self, seconds: float) -> None:
        self._pass(seconds)

    # -- the end ------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "going"):
            self.loop.close()
            return
        try:
            if not self.broken:
                self._calm()
        finally:
            self.loop.run_until_complete(self.going.__aexit__(None, None, None))
            self.loop.close()

    def _calm(self) -> None:
        batch = self.world.batch
        batch.describe_errors, batch.call_errors = [], []
        if self.stale:
            self.the_watch_fails_or_recovers()
        if not self.is_leader:
            self.leadership_changes()
        self.slots_open_or_close(True)
        for namespace, team in zip(NAMESPACES, TEAMS, strict=True):
            self.label(namespace, team)
        for name in list(self.written)[1:]:
            del self.written[name]
            self._do(self.world.policies.on_policy, name, None)
        [name] = self.written or ["one"]
        self.write_policy(name, PolicyText(team=None, queue="*-gpu"))
        self._pass(CALM_FOR)
        for body in self.world.objects.bodies.values():
            job = batch.jobs.get(body["spec"]["jobId"])
            if job is not None and job.queue != "z" and body["spec"].get("terminate"):
                sent = {job_id for _, job_id, _ in batch.terminations}
                assert body["spec"]["jobId"] in sent, f"{body['metadata']['uid']}: the stated termination was lost"

    def _do(self, call: Any, *arguments: Any) -> None:
        async def doing() -> None:
            call(*arguments)
            self.compare()

        self._run(doing())

    def _pass(self, seconds: float) -> None:
        async def passing() -> None:
            for _ in range(max(int(seconds / STEP), 1)):
                await asyncio.sleep(min(STEP, seconds))
                self.compare()
                if self.broken:
                    break

        self._run(passing())

    def _run(self, what: Any) -> None:
        self.loop.run_until_complete(what)
        assert not self.broken, self.broken[:2]


TestStorm = Storm.TestCase
TestStorm.settings = settings(max_examples=settings().max_examples // 2, stateful_step_count=30)
