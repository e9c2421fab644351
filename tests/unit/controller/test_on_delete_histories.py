"""Random histories with spec.onDelete: no deletion of the CRD ends a job, and every other stated deletion does."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import looptime
from hypothesis import given
from hypothesis import strategies as st

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import NotWritten
from awsbatch_operator.api.names import FINALIZER
from unit.controller.world import World

NAMES = "abc"
ERRORS = (
    CallError(ErrorClass.THROTTLED, "Too Many Requests", "TooManyRequestsException"),
    CallError(ErrorClass.UNAVAILABLE, "Service Unavailable", "503"),
    CallError(ErrorClass.DENIED, "not authorized", "AccessDeniedException"),
)
STEPS = st.one_of(
    st.tuples(st.just("delete"), st.sampled_from(NAMES)),
    st.tuples(st.just("reword"), st.sampled_from(NAMES), st.sampled_from(["one", "two", None])),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.004, 0.011, 1.0, 70.0, 700.0])),
    st.tuples(st.just("error"), st.sampled_from(ERRORS)),
    st.tuples(st.just("api"), st.booleans()),
    st.tuples(st.just("crd unreadable"), st.booleans()),
    st.tuples(st.just("suspend"), st.booleans()),
    st.tuples(st.just("restart")),
)


def stating(reason: str | None) -> dict[str, Any]:
    return {"onDelete": None if reason is None else {"terminate": {"reason": reason}}}


@dataclass
class History:
    """`held`: objects that were deleted with the finalizer, while the CRD stayed.

    `allowed`: what each of them stated at its deletion or after it; `reworded`: objects whose spec.onDelete was edited.
    """

    world: World
    held: set[str] = field(default_factory=set)
    allowed: dict[str, set[str]] = field(default_factory=dict)
    uids: dict[str, str] = field(default_factory=dict)
    reworded: set[str] = field(default_factory=set)

    def states(self, name: str) -> str | None:
        body = self.world.objects.bodies.get(self.uids[name])
        on_delete = body["spec"]["onDelete"] if body is not None else None
        return on_delete["terminate"]["reason"] if on_delete else None

    def delete(self, name: str) -> None:
        body = self.world.objects.bodies.get(self.uids[name])
        if body is not None and FINALIZER in body["metadata"].get("finalizers", []):
            self.held.add(name)
            self._allow(name)
        if body is not None:
            self.world.objects.delete(self.uids[name])

    def reword(self, name: str, reason: str | None) -> None:
        if self.uids[name] in self.world.objects.bodies:
            self.reworded.add(name)
            self.world.objects.edit(self.uids[name], stating(reason))
            self._allow(name)

    def _allow(self, name: str) -> None:
        reason = self.states(name)
        if name in self.held and reason is not None:
            self.allowed.setdefault(name, set()).add(reason)

    async def step(self, what: str, *arguments: Any) -> bool:
        """Return whether the process is to restart."""
        world = self.world
        match what:
            case "delete":
                self.delete(*arguments)
            case "reword":
                self.reword(*arguments)
            case "wait":
                await asyncio.sleep(*arguments)
            case "error":
                world.batch.call_errors += arguments
                world.batch.describe_errors += arguments
            case "api":
                world.objects.away = arguments[0]
            case "crd unreadable":
                world.objects.crd = NotWritten("away") if arguments[0] else False
            case "suspend":
                world.controller.holds.on_lease(
                    "ops/op", {"awsbatch.dev/suspend-terminations": ""} if arguments[0] else {}
                )
        return what == "restart"


async def play(steps: list[tuple[Any, ...]], *, crd_goes: bool) -> None:
    history = History(World(on_delete_timeout=100 * 3_600_000))
    for name in NAMES:
        body = {"jobId": history.world.a_job(name), **stating("one")}
        history.uids[name] = history.world.objects.create(name, body, finalizers=(FINALIZER,))
    remaining = list(steps)
    restart = True
    while restart:
        restart = False
        async with history.world.running() as world:
            while remaining and not restart:
                restart = await history.step(*remaining.pop(0))
            if restart:
                world.killed = True
            else:
                await end(history, crd_goes=crd_goes)
        history.world = await history.world.restarted()


async def end(history: History, *, crd_goes: bool) -> None:
    """Calm: everything answers. Then either the CRD is deleted, with all that is left, or nothing more happens."""
    world = history.world
    world.objects.away, world.objects.crd = False, False
    world.controller.holds.on_lease("ops/op", {})
    world.batch.call_errors.clear()
    world.batch.describe_errors.clear()
    await asyncio.sleep(1_000)
    sent = list(world.batch.terminations)
    for _, job, reason in sent:
        assert reason in history.allowed.get(job, ()), f"{job} was terminated with {reason}"
    left = [uid for uid in history.uids.values() if uid in world.objects.bodies]
    for name in history.held:
        assert history.uids[name] not in world.objects.bodies, f"{name} is not released"
        if name not in history.reworded:
            assert (name, "one") in {(job, reason) for _, job, reason in sent}, f"the end of {name} was lost"
    assert world.telemetry.orphans == 0
    if crd_goes:
        world.objects.crd = True
        for uid in left:
            world.objects.delete(uid)
        await asyncio.sleep(1_000)
        assert world.batch.terminations == sent, "the deletion of the CRD terminated a job"
        assert world.objects.bodies == {}


def run(steps: list[tuple[Any, ...]], *, crd_goes: bool) -> None:
    loop = looptime.new_event_loop(start=1_000, noop_cycles=0)
    try:
        loop.run_until_complete(play(steps, crd_goes=crd_goes))
    finally:
        loop.close()


@given(st.lists(STEPS, max_size=25), st.booleans())
def test_requests_come_from_deleted_objects_and_no_object_hangs(steps: list[tuple[Any, ...]], crd_goes: bool) -> None:
    run(steps, crd_goes=crd_goes)


@given(st.lists(STEPS.filter(lambda step: step[0] != "reword"), max_size=25))
def test_a_deletion_whose_words_stay_always_ends_its_job(steps: list[tuple[Any, ...]]) -> None:
    run(steps, crd_goes=False)
