"""Invariants of the whole history, from the simulator's record and the script's ledger alone.

What is allowed as a race is defined here, and counted; docs/decisions/2026-11-25-chaos.md says why.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from chaos.bulks import Bulk
from chaos.ledger import Evidence, History
from chaos.record import Call

RESEND_AFTER: Final = 60.0
"""Seconds; what the operators run with."""
STALE: Final = 15.0
"""Seconds for which a leader that is frozen or cut off may act on what it knew (DESIGN §1): it loses the Lease after
10, and a watch takes up to 4 s to start again."""
KNOWN: Final = 2.0
"""Seconds after which a process on a busy machine has drawn its conclusions from an answer."""
QUEUED: Final = 15.0
"""The same, while AWS throttles: a call may wait for its budget."""
WRITTEN: Final = 10.0
"""Seconds that the status write after an acceptance may take when nothing was broken."""
HANDOVER: Final = 4.0
"""Seconds between the last act of a leader that was not asked to give up and the first of the next: 15 of the Lease
less 10 to its renewal make 5; the rest is for requests on their way."""
FINISH: Final = 10.0
"""Seconds that a leader may go on to act after SIGTERM."""
_THROTTLES: Final = frozenset({"throttle_429", "bare_429", "limit_429", "throttle_400"})
_MUTE: Final = ("kill", "freeze", "hang", "refuse", "cut", "restart")
"""Strikes after which an acceptance may not have been written down."""


@dataclass(frozen=True, slots=True)
class Violation:
    """`invariant`: its letter and name. `job_id`: whose timeline tells more; "" for none."""

    invariant: str
    text: str
    job_id: str = ""


@dataclass(slots=True)
class Judgement:
    violations: list[Violation] = field(default_factory=list)
    races: Counter[str] = field(default_factory=Counter)


STATED: Final = "(b) nothing without a statement"
FINISHED: Final = "(c) no call to a finished or unknown job"
ONCE: Final = "(d) accepted once is asked once"
ONE_LEADER: Final = "(g) one acts at a time"
NOT_EARLY: Final = "(h) no limit is past before its time"
RELEASED: Final = "(i) the operator lets go of an object only once its job is asked to end"


def judge(evidence: Evidence) -> Judgement:
    judgement = Judgement()
    bulks = {job_id: bulk for bulk in evidence.ledger.bulks.values() for job_id in bulk.jobs}
    for job_id, calls in evidence.terminations.items():
        if job_id in bulks:
            for finding in (*_by_bulk(evidence, bulks[job_id], job_id, calls), *_twice(evidence, job_id, calls)):
                _enter(judgement, finding)
            continue
        for finding in (
            *_without_statement(evidence, job_id, calls),
            *_before_the_limit(evidence, job_id, calls),
            *_without_poll(evidence, job_id, calls),
            *_after_the_end(evidence, job_id, calls),
            *_twice(evidence, job_id, calls),
        ):
            _enter(judgement, finding)
    for violation in (*_released_too_soon(evidence), *_two_leaders(evidence)):
        _enter(judgement, violation)
    return judgement


def _enter(judgement: Judgement, finding: Violation | str) -> None:
    if isinstance(finding, Violation):
        judgement.violations.append(finding)
    else:
        judgement.races[finding] += 1


def _without_statement(evidence: Evidence, job_id: str, calls: Iterable[Call]) -> Iterator[Violation | str]:
    """Each reason is one that an object of the job stated STALE before or later."""
    for call in calls:
        reason, began = call.reason or "", evidence.first_attempt(call, job_id).at
        naming = evidence.ledger.naming(job_id)
        if any(one.stated_at(reason, began, began) for one in naming):
            pass
        elif any(one.stated_at(reason, began - STALE, began) for one in naming):
            yield "called within 15 s of the withdrawal"
        else:
            yield Violation(STATED, f"call {call.n} with {reason!r}, which nobody stated", job_id)


def _by_bulk(evidence: Evidence, bulk: Bulk, job_id: str, calls: Iterable[Call]) -> Iterator[Violation | str]:
    """The object selects the job, states the reason, and was approved STALE before or later."""
    for call in calls:
        began = evidence.first_attempt(call, job_id).at
        if call.reason != bulk.reason or not bulk.jobs[job_id]:
            yield Violation(
                STATED, f"call {call.n} with {call.reason!r} of a job that {bulk.name} leaves alone", job_id
            )
        elif bulk.approved_at(began - STALE, began):
            if not bulk.approved_at(began, began):
                yield "called within 15 s of the withdrawal"
        else:
            yield Violation(STATED, f"call {call.n} while {bulk.name} was not approved", job_id)


def _before_the_limit(evidence: Evidence, job_id: str, calls: Iterable[Call]) -> Iterator[Violation | str]:
    """A request by a deadline is sent after the limit, by the clock of AWS Batch.

    A deadline that was raised up to STALE before may count as it was, and a start that is no older as not seen yet.
    """
    job = evidence.jobs.get(job_id)
    for call in calls if job is not None else ():
        reason, began = call.reason or "", evidence.first_attempt(call, job_id).at
        of_deadline = [one for one in evidence.ledger.naming(job_id) if one.states_deadline(reason)]
        if not of_deadline or _is_past(evidence, of_deadline, reason, began, began):
            continue
        if _is_past(evidence, of_deadline, reason, began - STALE, began):
            yield "called within 15 s of the raise of a deadline"
        else:
            yield Violation(NOT_EARLY, f"call {call.n} with {reason!r}, before that limit", job_id)


def _is_past(evidence: Evidence, of_deadline: Iterable[History], reason: str, since: float, until: float) -> bool:
    """Whether a deadline with this reason that was stated in this time was past at its end."""
    at = evidence.ledger.batch_time(until)
    for history in of_deadline:
        for stated in history.causes_at(reason, since, until):
            due = stated.deadline.due(evidence.jobs[history.job_id], at - STALE) if stated.deadline else None
            if due is not None and due[0] <= at:
                return True
    return False


def _without_poll(evidence: Evidence, job_id: str, calls: Iterable[Call]) -> Iterator[Violation | str]:
    """Each process sees a job alive before it asks for its end; Batch would say yes to anything."""
    for call in calls:
        began = evidence.first_attempt(call, job_id).at
        if evidence.poll(call.access_key, job_id, 0.0, began) is None:
            yield Violation(FINISHED, f"call {call.n} by {call.access_key}, which had never seen the job", job_id)


def _after_the_end(evidence: Evidence, job_id: str, calls: Iterable[Call]) -> Iterator[Violation | str]:
    """No call by a process that had been shown, KNOWN before, that the job has ended or is asked to."""
    job = evidence.jobs.get(job_id)
    if job is None:
        yield Violation(FINISHED, "a job that Batch does not know was asked to end", job_id)
        return
    ended_at, flagged_at = evidence.ledger.ended_at(job), _flagged_at(evidence, job_id)
    for call in calls:
        began = evidence.first_attempt(call, job_id).at
        for what, since, invariant in (("ended", ended_at, FINISHED), ("was asked to end", flagged_at, ONCE)):
            if call.at <= since:
                continue
            poll = evidence.poll(call.access_key, job_id, since, began - _conclusion(evidence, call, began))
            if poll is not None and not evidence.ledger.struck(("freeze",), call.access_key, poll.at, call.at):
                text = f"call {call.n} by {call.access_key}, though its poll {poll.n} had shown that the job {what}"
                yield Violation(invariant, text, job_id)
            elif what == "ended":
                yield "called after an end not yet seen"


def _conclusion(evidence: Evidence, call: Call, began: float) -> float:
    throttled = any(
        one.access_key == call.access_key and (one.fault in _THROTTLES or one.http_status == 429)
        for one in evidence.between(began - QUEUED, began)
    )
    return QUEUED if throttled else KNOWN


def _flagged_at(evidence: Evidence, job_id: str) -> float:
    """From when on DescribeJobs shows the flag of a termination."""
    calls = evidence.terminations.get(job_id, ())
    effects = (one.acted_at or one.at for one in calls if job_id in one.effective)
    return min((*effects, evidence.ledger.rivals.get(job_id, float("inf"))))


def _twice(evidence: Evidence, job_id: str, calls: Sequence[Call]) -> Iterator[Violation | str]:
    flagged_at = _flagged_at(evidence, job_id)
    for number, call in enumerate(calls):
        for later in calls[number + 1 :]:
            if later.at > call.left_at + RESEND_AFTER:
                break
            if later.at < call.left_at and later.access_key == call.access_key:
                yield Violation(ONCE, f"call {later.n} while call {call.n} was under way", job_id)
            elif call.granted(job_id) and evidence.first_attempt(later, job_id).at > call.left_at:
                yield _repeated(evidence, job_id, call, later, flagged_at)


def _repeated(evidence: Evidence, job_id: str, call: Call, later: Call, flagged_at: float) -> Violation | str:
    """A call within a minute of one that its caller knows to be accepted.

    Allowed for another process when the first could not write it down, and Batch showed no sign of it either.
    """
    unwritten = evidence.ledger.struck(_MUTE, call.access_key, call.at, min(later.at, call.left_at + WRITTEN))
    if later.access_key != call.access_key and unwritten and later.at < flagged_at:
        return "repeated by another: neither written down nor flagged"
    seconds = later.at - call.left_at
    return Violation(
        ONCE, f"call {later.n} by {later.access_key} {seconds:.1f} s after call {call.n} was granted", job_id
    )


def _released_too_soon(evidence: Evidence) -> Iterator[Violation]:
    """An object that was held by onDelete goes after the request, an end of the job, or somebody else's request."""
    for history in evidence.ledger.objects.values():
        job, gone = evidence.jobs.get(history.job_id), history.gone
        if not history.owes or gone is None or job is None:
            continue
        calls = evidence.terminations.get(history.job_id, ())
        granted = (call.answered_at or call.at for call in calls if call.granted(history.job_id))
        asked_at = min(*granted, _flagged_at(evidence, history.job_id), evidence.ledger.ended_at(job), math.inf)
        if asked_at > gone.certain:
            yield Violation(RELEASED, f"{history.name} is gone, and its job was not asked to end", history.job_id)


def _two_leaders(evidence: Evidence) -> Iterator[Violation]:
    """A leader acts for 10 s after its last renewal at the most, another takes over 15 s after it at the soonest."""
    last: Call | None = None
    for call in (one for one in evidence.calls if not one.of_events):
        if last is not None and call.access_key != last.access_key:
            gap = call.at - last.at
            if gap < HANDOVER and not evidence.ledger.struck(
                ("term", "ended"), last.access_key, last.at - FINISH, call.at
            ):
                text = f"{call.access_key} acted (call {call.n}) {gap:.2f} s after {last.access_key} (call {last.n})"
                yield Violation(ONE_LEADER, text, call.job_ids[0] if call.job_ids else "")
        last = call
