"""No sequence of edits ends a job that the policy in force does not admit; what is admitted ends when it is calm."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import looptime
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from awsbatch_operator.domain.access import Mode
from awsbatch_operator.domain.admission import MayEnd
from awsbatch_operator.domain.errors import Fault
from awsbatch_operator.domain.job import Place
from awsbatch_operator.domain.ports import Look, Sight
from builders import THROTTLED
from fakes.batch import LAPSED, STOPPING
from unit.engine.access_oracle import Oracle, Sighted, Written
from unit.engine.world import World, now

ROLE = "arn:aws:iam::111122223333:role/batch"
NAMESPACES, TEAMS = ("ns-a", "ns-b"), ("a", "b")
JOBS = ("mine", "other", "array", "array:3")
FOREIGN, NOTHING = "foreign", "nothing"
STEP = 0.5
SHOWN_FOR = 2.0
CALM_FOR = 20.0
MOST_LOOKS = 100
SKEW = 0.5
"""Seconds that the answers of two calls may lie apart."""

WRITTEN = st.builds(
    Written,
    team=st.sampled_from(["a", "a", "b", None]),
    queue=st.sampled_from(["a-*", "a-gpu", "b-*", None]),
    tag=st.sampled_from([None, "x", "x", "${namespace}"]),
    role=st.sampled_from([None, None, ROLE]),
    regions=st.sampled_from([(), (), ("us-east-1",)]),
    ends=st.sampled_from([True, True, True, False]),
    later=st.sampled_from([False, False, False, False, True]),
).map(lambda one: one if one.queue or one.tag else replace(one, tag="x"))


class Storm(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = looptime.new_event_loop(start=1_000)
        self.broken: list[str] = []
        self.faults = 0
        self.denied_since: dict[str, float] = {}
        self.differ_since: dict[str, float] = {}
        self.leads, self.blind = True, False

    @initialize(mode=st.sampled_from(Mode), policy=WRITTEN)
    def begin(self, mode: Mode, policy: Written) -> None:
        self.written: dict[str, Written] = {"one": policy}
        self.teams: dict[str, str] = dict(zip(NAMESPACES, TEAMS, strict=True))
        self.seen: dict[tuple[str | None, str], Sighted] = {}
        self.oracle = Oracle(mode is Mode.REQUIRED, self.written, self.teams, self.seen)
        self.world = World(mode=mode, jitter=lambda low, _high: low, acts=lambda: self.leads)
        batch = self.world.batch
        batch.at_the_door, batch.on_look = self.leaves, self.looked
        for job_id in JOBS:
            self.world.a_job(job_id, queue="a-gpu" if job_id != "other" else "b-gpu")
            batch.tags[job_id] = {"owner": "x"} if ":" not in job_id else {}
        self.world.a_job(FOREIGN, queue="z")
        self._run(self._start())
        for namespace in NAMESPACES:
            for job_id in (*JOBS, FOREIGN, NOTHING):
                self.create(namespace, job_id, None)
        self._pass(1)

    async def _start(self) -> None:
        self.world.book.policies_are({name: one.read(name) for name, one in self.written.items()})
        self.world.book.namespaces_are({name: {"team": team} for name, team in self.teams.items()})
        self.going = self.world.running()
        await self.going.__aenter__()

    # -- what the oracle watches --------------------------------------------------------------------------------------

    def leaves(self, leave: MayEnd) -> Fault | None:
        if not self.leads:
            return STOPPING
        if not self.world.book.holds(leave, now()):
            return LAPSED
        at, namespace = self.loop.time(), leave.grant.namespace
        if not self.oracle.admits(namespace, leave.job_id, region=leave.grant.place.region, end=True, now=at):
            self.broken.append(f"{leave.job_id} was ended from {namespace} at {at}")
        if self.blind_for() > 10:
            self.broken.append(f"{leave.job_id} was ended without news of policies for {self.blind_for()} s")
        return None

    def looked(self, place: Place, looks: Mapping[str, Look], asked_at: float) -> None:
        for job_id, look in looks.items():
            if isinstance(look, Sight) and look.job.queue is not None:
                self.seen[place.role, job_id] = Sighted(look.job.queue, look.tags or {}, asked_at)
        recent = sum(at > asked_at - 60 for at, _ in self.world.batch.looks[-MOST_LOOKS:])
        if recent == MOST_LOOKS:
            self.broken.append(f"{recent} looks within a minute of {asked_at}: {self.world.batch.looks[-8:]}")
        self.loop.call_soon(self.compare)

    def blind_for(self) -> float:
        at_stake = self.oracle.required or self.written
        return self.loop.time() - self.blind_since if self.blind and at_stake else 0.0

    def compare(self) -> None:
        """Who is not admitted, and since when; and nobody of them may show a job for long."""
        at = self.loop.time()
        for uid, body in self.world.objects.bodies.items():
            namespace, job_id = body["metadata"]["namespace"], body["spec"]["jobId"]
            if not self.leads or self.teams.get(namespace) is None or self.oracle.admits(namespace, job_id):
                self.denied_since.pop(uid, None)
                continue
            if at - self.denied_since.setdefault(uid, at) > SHOWN_FOR:
                shown = set(body["status"]) - {"phase", "conditions", "observedGeneration", "region", "termination"}
                if shown - {"accountId"}:
                    self.broken.append(f"{uid} shows {shown} at {at}")
        if self.oracle.required:
            for namespace in NAMESPACES:
                one, other = (self.world.objects.bodies.get(f"uid-{namespace}-{j}") for j in (FOREIGN, NOTHING))
                told = [
                    self.world.engine.store.objects[body["metadata"]["uid"]].record.status
                    for body in (one, other)
                    if body
                ]
                if len(told) < 2 or told[0] == told[1] or not self.leads:
                    self.differ_since.pop(namespace, None)
                elif at - self.differ_since.setdefault(namespace, at) > SKEW:
                    self.broken.append(f"in {namespace} the foreign and the missing job differ at {at}: {told}")

    # -- people -------------------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(["one", "one", "two"]), policy=WRITTEN)
    def write_policy(self, name: str, policy: Written) -> None:
        self.written[name] = policy
        self._do(self.world.book.policy_is, name, policy.read(name))

    @precondition(lambda self: self.written)
    @rule(data=st.data())
    def delete_policy(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.written)))
        del self.written[name]
        self._do(self.world.book.policy_is, name, None)

    @rule(namespace=st.sampled_from(NAMESPACES), team=st.sampled_from(["a", "a", "b", "c", None]))
    def label(self, namespace: str, team: str | None) -> None:
        if team is None:
            self.teams.pop(namespace, None)
        else:
            self.teams[namespace] = team
        self._do(self.world.book.namespace_is, namespace, None if team is None else {"team": team})

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
            self._do(self.world.engine.gone, uid)
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
    def job_starts_anew(self, job_id: str) -> None:
        """So that there is something to end again: as another job that took the place of the ended one."""
        job = self.world.batch.jobs[job_id]
        self.world.batch.jobs[job_id] = replace(job, is_terminated=False)

    @precondition(lambda self: self.faults < 6)
    @rule(times=st.integers(1, 3))
    def looks_fail(self, times: int) -> None:
        self.faults += times
        self.world.batch.look_faults += [THROTTLED] * times

    @rule(times=st.integers(1, 2))
    def calls_fail(self, times: int) -> None:
        self.world.batch.call_faults = [THROTTLED] * times

    @rule(open_=st.booleans())
    def turns_come_or_not(self, open_: bool) -> None:
        self._do(self.world.batch.turns.set if open_ else self.world.batch.turns.clear)

    @rule()
    def news_stop_or_come(self) -> None:
        self.blind = not self.blind
        self.blind_since = self.loop.time()
        self._do(self.world.book.blind, self.blind_since if self.blind else None)

    @rule()
    def lead_goes_or_comes(self) -> None:
        self.leads = not self.leads
        if self.leads:
            self._run(self.world.engine.lead())
        else:
            self._do(self.world.engine.follow)

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
        batch.look_faults, batch.call_faults = [], []
        if self.blind:
            self.news_stop_or_come()
        if not self.leads:
            self.lead_goes_or_comes()
        self.turns_come_or_not(True)
        for namespace, team in zip(NAMESPACES, TEAMS, strict=True):
            self.label(namespace, team)
        for name in list(self.written)[1:]:
            del self.written[name]
            self._do(self.world.book.policy_is, name, None)
        [name] = self.written or ["one"]
        self.write_policy(name, Written(team=None, queue="*-gpu"))
        self._pass(CALM_FOR)
        for body in self.world.objects.bodies.values():
            job = batch.jobs.get(body["spec"]["jobId"])
            if job is not None and job.queue != "z" and body["spec"].get("terminate"):
                sent = {job_id for _, job_id, _ in batch.terminations}
                assert body["spec"]["jobId"] in sent, f"{body['metadata']['uid']}: the stated end was lost"

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
TestStorm.settings = settings(max_examples=40, stateful_step_count=30, deadline=None, derandomize=True)
