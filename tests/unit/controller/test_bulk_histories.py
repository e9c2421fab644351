"""Random histories of BatchTerminations: what is approved can only shrink, and all of it is requested in the end.

The oracle knows the jobs, the objects and the policy as they are, and decides by itself at the moment of each call.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import looptime
from hypothesis import given
from hypothesis import strategies as st

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import Accepted, JobPage, P
from awsbatch_operator.api.job import Array, Job, Target
from awsbatch_operator.policy.resolution import Mode
from fakes.batch import FakeProvider
from unit.controller.world import REGION, World, now
from unit.policy.policies import a_policy

START = 100_000
CUTOFF, CUTOFF_TEXT = START * 1000, "1970-01-02T03:46:40Z"
FRESH = 30_001
"""Milliseconds for which tags count after they were requested; one is rounded away."""
ERRORS = (
    CallError(ErrorClass.THROTTLED, "Too Many Requests", "TooManyRequestsException"),
    CallError(ErrorClass.UNAVAILABLE, "Service Unavailable", "503"),
    CallError(ErrorClass.DENIED, "not authorized", "AccessDeniedException"),
)
FORWARD = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED")
SELECTS: tuple[dict[str, Any], ...] = (
    {"queues": ["gpu"], "jobNames": ["train-*"]},
    {"queues": ["gpu", "cpu"], "tags": {"run": "42"}},
    {"queues": ["cpu"], "jobNames": ["train-1", "eval-*"], "tags": {"run": "42"}},
)
BOTH = {"run": "42", "ns": "ns"}
TAGS: tuple[dict[str, str], ...] = (BOTH, BOTH, {}, {"run": "42"}, {"ns": "other"})


@dataclass(frozen=True)
class Rules:
    """A policy for all namespaces. `queues`: names; empty: all of them."""

    queues: tuple[str, ...] = ()
    own_tag: bool = False
    allow: tuple[str, ...] = ("Observe", "List", "Terminate")
    suspend: bool = False

    def policy(self) -> Any:
        tags = {"tags": {"ns": "${namespace}"}} if self.own_tag else {}
        jobs = {"queues": [*self.queues] or ["*"], **tags}
        return a_policy(jobs=jobs, allow=list(self.allow), suspend=self.suspend)

    def admits(self, namespace: str, queue: str, tags: Mapping[str, str]) -> bool:
        tagged = not self.own_tag or tags.get("ns") == namespace
        return not self.suspend and len(self.allow) == 3 and (not self.queues or queue in self.queues) and tagged


POLICIES = (
    Rules(),
    Rules(own_tag=True),
    Rules(queues=("gpu",)),
    Rules(suspend=True),
    Rules(allow=("Observe", "Terminate")),
    Rules(allow=("Observe", "List")),
    None,
)
JOBS = st.integers(0, 11)
NEW_JOBS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["train-1", "train-1", "train-2", "Train-1", "eval-1"]),
        "queue": st.sampled_from(["gpu", "gpu", "cpu", "gpu-2"]),
        "created_at": st.sampled_from([*[CUTOFF - 1] * 6, CUTOFF, CUTOFF + 1, None]),
        "array": st.sampled_from([None, None, None, Array(size=3)]),
        "tags": st.sampled_from(TAGS),
    }
)
WAIT = st.tuples(st.just("wait"), st.sampled_from([0.0, 0.011, 0.025, 0.1, 0.1, 1.0, 11.0, 70.0, 400.0]))
OFTEN = st.one_of(
    st.tuples(st.just("submit"), NEW_JOBS),
    st.tuples(st.just("approve"), st.integers(0, 2), st.sampled_from([True, True, False])),
    st.tuples(st.just("tag"), JOBS, st.sampled_from(TAGS)),
    WAIT,
)
SELDOM = st.one_of(
    st.tuples(st.just("move"), JOBS, st.sampled_from(FORWARD)),
    st.tuples(st.just("create"), st.integers(0, 2), st.sampled_from([2, 5, 100])),
    st.tuples(st.just("delete"), st.integers(0, 2)),
    st.tuples(st.just("policy"), st.sampled_from(POLICIES)),
    st.tuples(st.just("errors"), st.sampled_from(["list", "describe", "call", "id"]), st.sampled_from(ERRORS)),
    st.tuples(st.just("list"), st.sampled_from(["whole", "lost", "repeated", "no token", "small"]), JOBS),
    st.tuples(st.just("budget"), st.booleans()),
    st.tuples(st.just("flags"), st.booleans()),
    st.tuples(st.just("watch"), st.sampled_from(["stale", "doubt", "fresh"])),
    st.tuples(st.just("leader"), st.booleans()),
    st.tuples(st.just("restart")),
)
RACES = st.tuples(
    st.just("race"),
    st.one_of(
        st.tuples(st.just("approve"), st.integers(0, 1), st.just(False)),
        st.tuples(st.just("delete"), st.integers(0, 1)),
        st.tuples(st.just("policy"), st.sampled_from(POLICIES)),
        st.tuples(st.just("watch"), st.sampled_from(["stale", "doubt"])),
    ),
)
"""What happens between the decision to send a call and its last byte."""
STEPS = st.one_of(OFTEN, OFTEN, WAIT, SELDOM, RACES)


class Watched(FakeProvider):
    """Asks the oracle about each call that leaves, a moment after the operator has decided to send it."""

    def __init__(self) -> None:
        super().__init__()
        self.oracle: History
        self.terminate_interval = 0.02

    def terminate_limit(self, target: Target) -> int:
        """So few that a sweep needs several calls, and more than it makes at once."""
        assert target.region
        return 1

    async def terminate(
        self, target: Target, permits: Sequence[P], reason: str
    ) -> Mapping[P, Accepted | CallError] | CallError:
        await asyncio.sleep(0.012)
        if self.oracle.races:
            await self.oracle.step(*self.oracle.races.pop(0))
        if all(permit.valid() for permit in permits):
            for permit in permits:
                self.oracle.check(reason, permit.job_id)
        answer = await super().terminate(target, permits, reason)
        if not isinstance(answer, CallError):
            self.oracle.record(reason, [one.job_id for one, result in answer.items() if isinstance(result, Accepted)])
        return answer


@dataclass
class History:
    """`objects`: uids by number; the reason of an object is its uid. `accepted`: by reason, by this process.

    `tags`: those of each job, each with the time from which it had them.
    """

    world: World
    policy: Rules | None = field(default_factory=Rules)
    objects: dict[int, str] = field(default_factory=dict)
    accepted: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    requested: set[str] = field(default_factory=set)
    tags: dict[str, list[tuple[int, Mapping[str, str]]]] = field(default_factory=dict)
    names: Any = field(default_factory=count)
    held: bool = False
    races: list[tuple[Any, ...]] = field(default_factory=list)

    # -- oracle -------------------------------------------------------------------------------------------------------

    def matches(self, uid: str, job_id: str, tags: Mapping[str, str]) -> bool:
        body, job = self.world.objects.bodies[uid], self.world.batch.jobs[job_id]
        select = body["spec"]["select"]
        patterns = select.get("jobNames", ["*"])
        return (
            self.policy is not None
            and self.policy.admits(body["metadata"]["namespace"], job.queue or "", tags)
            and job.queue in select["queues"]
            and any(
                job.name == one or (one[-1] == "*" and (job.name or "")[: len(one) - 1] == one[:-1]) for one in patterns
            )
            and select.get("tags", {}).items() <= tags.items()
            and job.created_at is not None
            and job.created_at < CUTOFF
        )

    def check(self, uid: str, job_id: str) -> None:
        body = self.world.objects.bodies.get(uid)
        assert body is not None, f"{job_id}: its object is deleted"
        assert body["spec"]["approved"] is True, f"{job_id}: not approved"
        assert not self.held, f"{job_id}: the operator does not know what is approved"
        had = self.tags[job_id]
        ends = [*(since for since, _ in had[1:]), now()]
        fresh = [tags for (_, tags), end in zip(had, ends, strict=True) if end >= now() - FRESH]
        assert any(self.matches(uid, job_id, tags) for tags in fresh), f"{job_id} does not match"
        assert self.size({*self.accepted[uid], job_id}) <= body["spec"]["maxJobs"], f"{job_id} is one too many"

    def record(self, uid: str, job_ids: Sequence[str]) -> None:
        self.accepted[uid].update(job_ids)
        self.requested.update(job_ids)

    def size(self, job_ids: set[str]) -> int:
        arrays = (self.world.batch.jobs[job_id].array for job_id in job_ids)
        return sum(3 if array is not None else 1 for array in arrays)

    # -- what happens -------------------------------------------------------------------------------------------------

    def submit(self, job: dict[str, Any]) -> None:
        tags = job["tags"]
        job_id = f"j{next(self.names)}"
        self.world.batch.jobs[job_id] = Job("SUBMITTED", **{name: job[name] for name in job if name != "tags"})
        self.tags[job_id] = []
        self.tag(job_id, tags)

    def tag(self, job_id: str, tags: Mapping[str, str]) -> None:
        if job_id in self.tags:
            self.tags[job_id].append((now(), tags))
            self.world.batch.tags[job_id] = dict(tags)

    def move(self, job_id: str, status: str) -> None:
        """Forward, to the end, or back by a retry."""
        job = self.world.batch.jobs.get(job_id)
        if job is not None and not job.finished:
            self.world.batch.jobs[job_id] = job.replace(status=status)

    def create(self, number: int, most: int) -> None:
        self.delete(number)
        namespace, name = "other" if number == 2 else "ns", f"o{next(self.names)}"
        uid = f"bt-{namespace}-{name}"
        stated = {"region": REGION, "select": SELECTS[number], "createdBefore": CUTOFF_TEXT, "reason": uid}
        self.objects[number] = self.world.objects.create_termination(
            name, {**stated, "maxJobs": most, "approved": False}, namespace
        )
        assert self.objects[number] == uid

    def delete(self, number: int) -> None:
        if number in self.objects:
            self.world.objects.delete(self.objects.pop(number))

    def approve(self, number: int, approved: bool) -> None:
        if number in self.objects:
            self.world.objects.edit(self.objects[number], {"approved": approved})

    def use(self, policy: Rules | None) -> None:
        self.policy = policy
        self.world.set_policies(*([] if policy is None else [policy.policy()]), ns={"team": "a"}, other={"team": "a"})

    def list_as(self, how: str, job_id: str) -> None:
        batch = self.world.batch
        batch.not_listed = {job_id} if how == "lost" else set()
        batch.jobs_per_page = 2 if how in ("small", "no token") else 1000
        changed = {
            "repeated": lambda page: JobPage(page.jobs + page.jobs[:1], page.next_token),
            "no token": lambda page: JobPage(page.jobs, page.next_token and "made up"),
        }
        batch.on_list = changed.get(how, lambda page: page)

    def watch(self, how: str) -> None:
        bulk = self.world.controller.bulk
        if how == "stale":
            bulk.on_stale_since(START - 100.0)
        elif how == "doubt":
            bulk.doubt()
        else:
            bulk.on_stale_since(None)
        self.held = how != "fresh"

    async def step(self, what: str, *more: Any) -> None:  # noqa: PLR0912  one branch for each kind
        batch = self.world.batch
        match what:
            case "wait":
                await asyncio.sleep(*more)
            case "move" | "tag":
                getattr(self, what)(f"j{more[0]}", more[1])
            case "policy":
                self.use(*more)
            case "race":
                self.races += more
            case "errors" if more[0] == "id":
                batch.id_errors["j1"] = more[1]
            case "errors":
                getattr(batch, f"{more[0]}_errors").append(more[1])
            case "list":
                self.list_as(more[0], f"j{more[1]}")
            case "budget":
                for turns in (batch.turns, batch.describes_granted):
                    (turns.set if more[0] else turns.clear)()
            case "flags":
                (batch.shows_flag,) = more
            case "leader" if more[0]:
                await self.world.controller.on_started_leading()
            case "leader":
                self.world.controller.on_stopped_leading()
            case _:
                getattr(self, what)(*more)

    async def restarted(self) -> None:
        self.world = await self.world.restarted()
        self.accepted.clear()
        self.held = False
        self.use(self.policy)

    async def calm(self) -> None:
        """Everything answers and stays as it is."""
        batch = self.world.batch
        self.races.clear()
        for errors in (batch.list_errors, batch.describe_errors, batch.call_errors, batch.id_errors):
            errors.clear()
        batch.shows_flag = True
        await self.step("budget", True)
        await self.step("leader", True)
        self.list_as("whole", "")
        self.watch("fresh")
        self.use(Rules())
        for approved in (False, True):
            for number in self.objects:
                self.approve(number, approved)
            await asyncio.sleep(1_000)

    def check_end(self) -> None:
        for uid in self.objects.values():
            active = {job_id for job_id, job in self.world.batch.jobs.items() if not job.finished}
            matching = {job_id for job_id in active if self.matches(uid, job_id, self.tags[job_id][-1][1])}
            body = self.world.objects.bodies[uid]
            status = self.world.objects.bulk_status(uid)
            if self.size(matching | self.accepted[uid]) > body["spec"]["maxJobs"]:
                assert (status.phase, status.reason("Stalled")) == ("Refused", "TooManyJobs")
            else:
                assert (status.phase, status.matched) == ("Finished", 0)
                assert matching <= self.requested
                assert status.ending == self.size(matching)


async def play(steps: list[tuple[Any, ...]]) -> None:
    batch = Watched()
    history = batch.oracle = History(World(batch, mode=Mode.OPTIONAL))
    history.use(Rules())
    remaining = list(steps)
    restarts = True
    while restarts:
        async with history.world.running() as world:
            while remaining and remaining[0][0] != "restart":
                await history.step(*remaining.pop(0))
            restarts = world.killed = bool(remaining)
            if not restarts:
                await history.calm()
                history.check_end()
        if restarts:
            remaining.pop(0)
            await history.restarted()


@given(st.lists(NEW_JOBS, min_size=4, max_size=10), st.booleans(), RACES, st.lists(STEPS, min_size=5, max_size=40))
def test_only_what_is_approved_and_matches_is_terminated_and_all_of_it_in_the_end(
    jobs: list[dict[str, Any]], approved: bool, race: tuple[Any, ...], steps: list[tuple[Any, ...]]
) -> None:
    begin = [("submit", job) for job in jobs]
    objects = [("create", number, most) for number, most in enumerate((100, 5, 100))]
    approvals = [("approve", number, True) for number in range(3 * approved)]
    loop = looptime.new_event_loop(start=START, noop_cycles=0)
    try:
        loop.run_until_complete(play([*begin, *objects, race, *approvals, *steps]))
    finally:
        loop.close()
