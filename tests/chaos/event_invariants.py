"""Invariants while events arrive, get lost or are forged: they change only the times of polls."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from chaos.invariants import Violation
from chaos.ledger import Evidence
from chaos.record import Call
from chaos.settled import CLEAN, shows_end

HINTS: Final = "(j) an event makes the operator describe the jobs of objects only"
NOT_BEFORE: Final = "(k) no status shows an end before it"
SHOWN: Final = "(l) each end is shown by the next poll, with or without an event"
BUDGET: Final = "(m) polls keep their budget"
POISON: Final = "(n) a message that names no job ends in the dead-letter queue"
GRACE: Final = 40.0
"""Seconds more than --poll-with-events until an end is shown once the storm is over: 17 to the next leader, and calls
that wait for their budget after AWS has throttled."""
HANDLED: Final = 45.0
"""Seconds after which a message should have been deleted: it is received again 20 s after its first receive."""
_WINDOW: Final = 10.0
_IN_FLIGHT: Final = 10
"""Calls that wait in a queue of the operator or of the simulator, and then arrive together."""
_STRETCHED: Final = 3.0
"""Seconds between two polls of a job, which come each second without events."""

Body = Mapping[str, Any]


def judge_events(evidence: Evidence, rate: float) -> Iterator[Violation]:
    """`rate`: DescribeJobs and ListJobs a second that a replica may make."""
    yield from _described_others(evidence)
    yield from _shown_before(evidence)
    yield from _over_budget(evidence, rate)


def _described_others(evidence: Evidence) -> Iterator[Violation]:
    ledger = evidence.ledger
    named = {history.job_id for history in ledger.objects.values()}
    named |= {job_id for bulk in ledger.bulks.values() for job_id in bulk.jobs}
    found = {job_id: call for call in evidence.calls for job_id in call.job_ids if job_id not in named}
    for job_id, call in found.items():
        yield Violation(HINTS, f"call {call.n} {call.operation} names {job_id[:100]}, which no object names")


def _shown_before(evidence: Evidence) -> Iterator[Violation]:
    ledger = evidence.ledger
    for name, at in ledger.shown.items():
        history = ledger.objects.get(name)
        job = evidence.jobs.get(history.job_id) if history is not None else None
        ended_at = None if job is None else ledger.ended_at(job)
        if ended_at is None or at < ended_at:
            job_id = "" if history is None else history.job_id
            yield Violation(NOT_BEFORE, f"{name} showed an end at {at:.3f}, and the job ended at {ended_at}", job_id)


def _over_budget(evidence: Evidence, rate: float) -> Iterator[Violation]:
    """The rate in each window, a second's worth that a rest saves up, and boto3's attempts after an error."""
    by_life: dict[str, list[Call]] = {}
    for call in evidence.calls:
        if call.operation in ("DescribeJobs", "ListJobs"):
            by_life.setdefault(call.access_key, []).append(call)
    for life, calls in by_life.items():
        times = [call.at for call in calls]
        for number, at in enumerate(times):
            first = bisect_left(times, at - _WINDOW)
            within = calls[first : number + 1]
            failed = sum(one.http_status != 200 or one.fault is not None for one in within)
            if len(within) - failed > rate * (_WINDOW + 1) + _IN_FLIGHT:
                yield Violation(BUDGET, f"{life} made {len(within)} polls in {_WINDOW:g} s, {failed} of them failed")
                break


def unsettled_events(
    evidence: Evidence, messages: Sequence[Body], dead: Sequence[Body], *, strict: bool
) -> Iterator[Violation]:
    """Give what is not true yet. `strict`: SQS has had the time to give up on the poison."""
    poison, now = evidence.ledger.messages.poison, evidence.ledger.batch_time(evidence.at)
    for message in messages:
        if message["message_id"] not in poison and now - message["sent_at"] / 1000 > HANDLED:
            yield Violation(CLEAN, f"the message {message['body'][:100]} is still in the queue")
    left = {one["message_id"] for one in dead} | (set() if strict else {one["message_id"] for one in messages})
    for message_id in poison - left:
        yield Violation(POISON, f"{message_id} is not there")


def shown_late(
    evidence: Evidence, objects: Mapping[str, Body], calm_since: float, with_events: float
) -> Iterator[Violation]:
    """Ends that should have been shown by now."""
    for name, history in evidence.ledger.objects.items():
        body, job = objects.get(name), evidence.jobs.get(history.job_id)
        if body is None or job is None or not job.finished:
            continue
        since = max(evidence.ledger.ended_at(job), calm_since, history.statements[0].certain)
        if evidence.at > since + with_events + GRACE and not shows_end(body.get("status", {})):
            text = f"{name} does not show the end of {evidence.at - since:.0f} s ago"
            yield Violation(SHOWN, text, history.job_id)


def event_figures(evidence: Evidence) -> str:
    """Return a summary of the effect of events and lists."""
    received = sum(call.received for call in evidence.calls)
    lists = sum(call.operation == "ListJobs" for call in evidence.calls)
    return f"{received} messages received, {stretched(evidence)} polls after more than {_STRETCHED:g} s, {lists} lists"


def stretched(evidence: Evidence) -> int:
    """Return the number of polls whose interval was longer than without events."""
    last: dict[tuple[str, str], float] = {}
    count = 0
    for call in evidence.calls:
        for job_id in call.job_ids if call.shown else ():
            before = last.get((call.access_key, job_id))
            count += before is not None and call.at - before > _STRETCHED
            last[call.access_key, job_id] = call.at
    return count
