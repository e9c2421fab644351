"""Every status that an object can show, found by a breadth-first walk through the model.

One job, one object, and all that can happen to them: polls, errors, calls, edits, other clients, time, restarts.
Two states of the model count as one if reconcile cannot distinguish them; times count by the limits that they exceed.
Access policies are applied to each state, but the walk does not continue from there.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from copy import copy
from functools import cache, partial
from itertools import chain
from typing import Any, Final

from awsbatch_operator.api import names
from awsbatch_operator.api.batchjob import AdmittedBy
from awsbatch_operator.api.codec import encode
from awsbatch_operator.api.job import NOT_FOUND
from awsbatch_operator.api.timestamps import MINUTE
from awsbatch_operator.policy.resolution import Deny
from awsbatch_operator.reconcile.not_allowed import unconfirmed
from awsbatch_operator.reconcile.outcome import Record, Visible
from awsbatch_operator.reconcile.reconcile import reconcile
from builders import DENIED, INTERVALS, REJECTED, THROTTLED, WHY
from contract.schema import SCHEMA
from unit.reconcile.model import Answer, Model

Move = Callable[[Model], None]
Object = dict[str, Any]

ERRORS: Final = (THROTTLED, DENIED, REJECTED)
KIN: Final = {"AWSUnavailable": "Throttled", "CredentialsUnavailable": "AccessDenied"}
"""Reasons that reconcile treats like another one, except for the name: the walk counts both as one."""
ADMITTED: Final = AdmittedBy("team-a", "0123456789abcdef")
ACCESS: Final[tuple[Visible | Deny, ...]] = (
    *(
        Deny(reason, "ask the platform team")
        for reason in ("NoAccessPolicy", "AmbiguousPolicy", "PolicyUnreadable", "JobNotAllowed")
    ),
    *(Deny(reason, "ask the platform team", hidden=False) for reason in ("AccountChanged", "InvalidRegion")),
    Visible(ADMITTED),
    Visible(ADMITTED, terminate_denied=Deny("TerminationNotAllowed", "ask the platform team")),
    Visible(missing_as=Deny("JobNotAllowed", "ask the platform team")),
)
"""Results of the policies for an object."""
SHOWN_AFTER: Final = 2
MISSING_AFTER: Final = 4
"""Failed polls in a row after which a status shows the failure; polls without the job after which it is Missing."""
STUCK_AFTER: Final = 30 * MINUTE


@cache
def reachable() -> tuple[Object, ...]:
    """One object, as the API server shows it, for every distinguishable status."""
    shown: dict[Hashable, Record] = {}
    seen, governed, ahead = set[Hashable](), set[Hashable](), deque([Model(checked=False)])
    while ahead:
        world = ahead.popleft()
        for move in chain(_of_people(world), _of_aws(world), _of_the_process(world)):
            after = _fork(world)
            move(after)
            record, counts = after.records[0], _state_of(after)
            shown.setdefault(_identity(record), record)
            if counts not in seen:
                seen.add(counts)
                ahead.append(after)
                # Only polls show reconcile the state of Batch: it makes no other case for the platform team.
                if counts[1:] not in governed:
                    governed.add(counts[1:])
                    for denied in _of_the_platform_team(after):
                        shown.setdefault(_identity(denied), denied)
    return tuple(map(_object, shown.values()))


def current() -> list[Object]:
    """Those whose status answers the current generation."""
    return [body for body in reachable() if body["status"].get("observedGeneration") == body["metadata"]["generation"]]


def _fork(world: Model) -> Model:
    fork = copy(world)
    fork.batch, fork.records, fork.written = copy(world.batch), [*world.records], [*world.written]
    fork.real_times = {**world.real_times}
    return fork


def _of_people(world: Model) -> Iterator[Move]:
    yield partial(Model.state, index=0, reason=None if world.records[0].termination_wanted else WHY)
    if world.batch.alive:
        for status in ("PENDING", "RUNNING"):
            yield partial(_move, status=status)
        for status in ("SUCCEEDED", "FAILED"):
            yield partial(_end, status=status)
        yield _interfere
    elif not world.batch.forgotten:
        yield _forget


def _move(world: Model, status: str) -> None:
    world.batch.move(status, 0)


def _end(world: Model, status: str) -> None:
    world.batch.end(status, world.now)


def _interfere(world: Model) -> None:
    world.batch.interfere(cancel=False)


def _forget(world: Model) -> None:
    world.batch.forgotten = True


def _of_aws(world: Model) -> Iterator[Move]:
    if world.next_poll_at is not None:
        yield partial(_poll, answers=[world.batch.answer()])
        yield partial(_poll, answers=[NOT_FOUND])
        yield partial(_poll, answers=[NOT_FOUND] * MISSING_AFTER)
        yield partial(_poll, answers=[THROTTLED] * SHOWN_AFTER)
        for error in ERRORS:
            yield partial(_poll, answers=[error])
    if world.call is not None:
        for effect in (True, False):
            yield partial(Model.answer, error=None, effect=effect)
        for error in ERRORS:
            yield partial(Model.answer, error=error, effect=False)


def _poll(world: Model, answers: list[Answer]) -> None:
    for answer in answers:
        if world.next_poll_at is not None:
            world.wait_for_poll()
            world.on_poll(answer)


def _of_the_process(world: Model) -> Iterator[Move]:
    yield partial(_wake, after=STUCK_AFTER)
    yield _restart
    yield partial(Model.hold, cause=None if world.records[0].held else "the policies are not up to date")


def _wake(world: Model, after: int) -> None:
    world.wait(after)
    world.reconcile()


def _restart(world: Model) -> None:
    world.write()
    world.crash(call_arrives=True)


def _of_the_platform_team(world: Model) -> Iterator[Record]:
    record = world.records[0]
    for access in ACCESS:
        governed = record.replace(access=access)
        yield governed.replace(status=reconcile(governed, world.known, world.now, INTERVALS).status)
    if record.status.job is not None:
        yield record.replace(status=unconfirmed(record, world.now))


def _state_of(world: Model) -> tuple[Hashable, ...]:
    known, record, job = world.known, world.records[0], world.batch.job
    requested_at = None if known.request is None else known.request.requested_at
    return (
        (job.finished and job.status, job.flagged and job.status, world.batch.end_reason == WHY),
        (
            record.termination_wanted,
            record.status.phase,
            known.call_in_flight,
            known.request is None,
            known.misses > 0,
            record.held,
        ),
        tuple((c.type, c.status, KIN.get(c.reason, c.reason)) for c in record.status.conditions),
        requested_at is not None and world.now - requested_at >= STUCK_AFTER,
    )


def _identity(record: Record) -> Hashable:
    conditions = tuple((c.type, c.status, c.reason) for c in record.status.conditions)
    return (
        record.termination_wanted,
        record.generation == record.status.observed_generation,
        record.status.phase,
        conditions,
    )


def _object(record: Record) -> Object:
    stated = {"terminate": {"reason": record.spec.terminate}} if record.termination_wanted else {}
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "train-42", "generation": record.generation},
        "spec": {"jobId": record.spec.job_id, **stated},
        # The API server's default where the operator has written nothing yet.
        "status": encode(record.status) or SCHEMA["properties"]["status"].get("default", {}),
    }
