"""Every status that an object can come to show, found by walking the small world breadth first.

One job, one object, and whatever may happen to the two: looks, faults, calls, edits, other people, time, a restart.
Two worlds count as one when nothing that a decision weighs tells them apart; times count by the marks they have passed.
From each of them it is one step to what an access policy makes of it.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from copy import copy
from dataclasses import replace
from functools import cache, partial
from itertools import chain
from typing import Any, Final

from awsbatch_operator.domain.access import Mark, Refusal
from awsbatch_operator.domain.cadence import MINUTE
from awsbatch_operator.domain.decide import decide
from awsbatch_operator.domain.denied import withheld
from awsbatch_operator.domain.job import ABSENT
from awsbatch_operator.domain.verdict import Allowed, Record
from awsbatch_operator.kube import names
from awsbatch_operator.kube.status import render
from builders import CADENCE, DENIED, REJECTED, THROTTLED, WHY
from contract.schema import SCHEMA
from unit.domain.small_world import Answer, SmallWorld

Move = Callable[[SmallWorld], None]
Object = dict[str, Any]

FAULTS: Final = (THROTTLED, DENIED, REJECTED)
KIN: Final = {"AWSUnavailable": "Throttled", "CredentialsUnavailable": "AccessDenied"}
"""Reasons that a decision treats as it treats another, but for the word: the walk counts the two as one."""
ADMITTED: Final = Mark("team-a", "0123456789abcdef")
ACCESS: Final[tuple[Allowed | Refusal, ...]] = (
    *(
        Refusal(reason, "ask the platform team")
        for reason in ("NoAccessPolicy", "AmbiguousPolicy", "PolicyUnreadable", "JobNotAllowed")
    ),
    Refusal("AccountChanged", "ask the platform team", hides=False),
    Allowed(ADMITTED),
    Allowed(ADMITTED, ending=Refusal("TerminationNotAllowed", "ask the platform team")),
    Allowed(absence=Refusal("JobNotAllowed", "ask the platform team")),
)
"""What a policy can make of an object."""
TOLD: Final = 2
BELIEVED: Final = 4
"""So many failed looks in a row are told of at the latest; so many absences are believed."""
STUCK_AFTER: Final = 30 * MINUTE


@cache
def reachable() -> tuple[Object, ...]:
    """One object, as the API server shows it, for every status that can be told from the others."""
    shown: dict[Hashable, Record] = {}
    seen, ahead = set[Hashable](), deque([SmallWorld()])
    while ahead:
        world = ahead.popleft()
        for move in chain(_of_people(world), _of_aws(world), _of_the_process(world)):
            after = _fork(world)
            move(after)
            record, counts = after.records[0], _all_that_counts(after)
            shown.setdefault(_looks_like(record), record)
            if counts not in seen:
                seen.add(counts)
                ahead.append(after)
                for ruled in _of_the_platform_team(after):
                    shown.setdefault(_looks_like(ruled), ruled)
    return tuple(map(_object, shown.values()))


def current() -> list[Object]:
    """Those whose status answers the spec that stands there."""
    return [body for body in reachable() if body["status"].get("observedGeneration") == body["metadata"]["generation"]]


def _fork(world: SmallWorld) -> SmallWorld:
    fork = copy(world)
    fork.batch, fork.records, fork.written = copy(world.batch), [*world.records], [*world.written]
    fork.real_times = {**world.real_times}
    return fork


def _of_people(world: SmallWorld) -> Iterator[Move]:
    yield partial(SmallWorld.state, index=0, reason=None if world.records[0].asked else WHY)
    if world.batch.alive:
        for status in ("PENDING", "RUNNING"):
            yield partial(_move, status=status)
        for status in ("SUCCEEDED", "FAILED"):
            yield partial(_end, status=status)
        yield _interfere
    elif not world.batch.forgotten:
        yield _forget


def _move(world: SmallWorld, status: str) -> None:
    world.batch.move(status, 0)


def _end(world: SmallWorld, status: str) -> None:
    world.batch.end(status, world.now)


def _interfere(world: SmallWorld) -> None:
    world.batch.interfere(cancel=False)


def _forget(world: SmallWorld) -> None:
    world.batch.forgotten = True


def _of_aws(world: SmallWorld) -> Iterator[Move]:
    if world.look_at is not None:
        yield partial(_looks, looks=[world.batch.answer()])
        yield partial(_looks, looks=[ABSENT])
        yield partial(_looks, looks=[ABSENT] * BELIEVED)
        yield partial(_looks, looks=[THROTTLED] * TOLD)
        for fault in FAULTS:
            yield partial(_looks, looks=[fault])
    if world.call is not None:
        for effect in (True, False):
            yield partial(SmallWorld.answer, fault=None, effect=effect)
        for fault in FAULTS:
            yield partial(SmallWorld.answer, fault=fault, effect=False)


def _looks(world: SmallWorld, looks: list[Answer]) -> None:
    for look in looks:
        if world.look_at is not None:
            world.wait_for_look()
            world.learn(look)


def _of_the_process(world: SmallWorld) -> Iterator[Move]:
    yield partial(_wake, after=STUCK_AFTER)
    yield _restart


def _wake(world: SmallWorld, after: int) -> None:
    world.wait(after)
    world.decide()


def _restart(world: SmallWorld) -> None:
    world.write()
    world.crash(call_arrives=True)


def _of_the_platform_team(world: SmallWorld) -> Iterator[Record]:
    record = world.records[0]
    for access in ACCESS:
        ruled = replace(record, access=access)
        yield replace(ruled, status=decide(ruled, world.known, world.now, CADENCE).status)
    if record.status.job is not None:
        yield replace(record, status=withheld(record, world.now))


def _all_that_counts(world: SmallWorld) -> Hashable:
    known, record, job = world.known, world.records[0], world.batch.job
    asked_at = None if known.request is None else known.request.requested_at
    return (
        (job.finished and job.status, job.flagged and job.status, world.batch.end_reason == WHY),
        (record.asked, record.status.phase, known.calling, known.request is None, known.absences > 0),
        tuple((c.type, c.status, KIN.get(c.reason, c.reason)) for c in record.status.conditions),
        asked_at is not None and world.now - asked_at >= STUCK_AFTER,
    )


def _looks_like(record: Record) -> Hashable:
    says = tuple((c.type, c.status, c.reason) for c in record.status.conditions)
    return record.asked, record.generation == record.status.observed_generation, record.status.phase, says


def _object(record: Record) -> Object:
    stated = {"terminate": {"reason": record.spec.terminate}} if record.asked else {}
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "train-42", "generation": record.generation},
        "spec": {"jobId": record.spec.job_id, **stated},
        # As the API server fills it in where the operator has written nothing yet.
        "status": render(record.status) or SCHEMA["properties"]["status"].get("default", {}),
    }
