"""Reports a run: one line if it passed, the history of the job if not."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from chaos.event_invariants import event_figures
from chaos.invariants import Violation
from chaos.ledger import Evidence, Statement
from chaos.scenario import Outcome

_MOST: Final = 5
_TAIL: Final = 40
_WIDTH: Final = 400
"""Characters of a line: a log's line may hold a whole traceback."""


def summary(outcome: Outcome) -> str:
    """One line: what was done to the operators, what they did, and which races were let pass."""
    calls = outcome.evidence.calls
    tried = [call for call in calls if call.terminates]
    accepted = sum(len(call.accepted) for call in tried)
    effective = sum(len(call.effective) for call in tried)
    causes = Counter(_cause(outcome, call.reason or "") for call in tried for _ in call.effective)
    by_cause = ", ".join(f"{cause} {count}" for cause, count in sorted(causes.items()))
    done = ", ".join(f"{kind} {count}" for kind, count in sorted(outcome.counts.items()))
    races = ", ".join(f"{what} {count}" for what, count in sorted(outcome.races.items())) or "none"
    lives = len({call.access_key for call in calls})
    calms = ", ".join(f"{seconds:.0f}" for seconds in outcome.calms)
    return (
        f"{len(outcome.ledger.objects)} objects, {len(outcome.evidence.jobs)} jobs; done: {done}; "
        f"{lives} processes made {len(calls)} calls, {len(tried)} of them to terminate: {accepted} accepted, "
        f"{effective} took effect ({by_cause}); "
        f"{event_figures(outcome.evidence)}; settled after {calms} s; races allowed: {races}"
    )


def _cause(outcome: Outcome, reason: str) -> str:
    if any(bulk.reason == reason for bulk in outcome.ledger.bulks.values()):
        return "BatchTermination"
    found = (history.cause_of(reason) for history in outcome.ledger.objects.values())
    return next((cause for cause in found if cause is not None), "nobody")


def failure(outcome: Outcome, seed: int) -> str:
    """The violations, for the first few the timeline of the job, and how both logs ended."""
    lines = [f"seed {seed}: {len(outcome.violations)} violations"]
    for violation in outcome.violations[:_MOST]:
        lines += ["", f"{violation.invariant}: {violation.text}", *timeline(outcome.evidence, violation)]
    lines += [f"and {one.invariant}: {one.text}" for one in outcome.violations[_MOST : 6 * _MOST]]
    for name, text in outcome.logs.items():
        lines += ["", f"-- {name}, the end of its log", *text.splitlines()[-_TAIL:]]
    return "\n".join(line[:_WIDTH] for line in lines)


def timeline(evidence: Evidence, violation: Violation) -> Iterator[str]:
    if not violation.job_id:
        return
    moments = [*_stated(evidence, violation.job_id), *_called(evidence, violation.job_id)]
    job = evidence.jobs.get(violation.job_id)
    if job is not None and job.finished:
        moments.append((evidence.ledger.ended_at(job), f"job {job.status}, {job.status_reason!r}"))
    if not moments:
        return
    first = min(at for at, _ in moments)
    moments += [
        (one.at, f"{one.kind} {one.life or 'all'} {one.until - one.at:.1f} s") for one in evidence.ledger.strikes
    ]
    moments += [(at, f"the clock of Batch jumps {seconds:.1f} s") for at, seconds in evidence.ledger.jumps]
    yield f"   job {violation.job_id}"
    for at, text in sorted(moments):
        if at >= first - 30:
            yield f"   {datetime.fromtimestamp(at, UTC):%H:%M:%S.%f} {text}"


def _stated(evidence: Evidence, job_id: str) -> Iterator[tuple[float, str]]:
    for history in evidence.ledger.naming(job_id):
        for one in history.statements:
            yield one.began, f"{history.name} states {_words(one)} ({one.certain - one.began:.3f} s)"
        if history.deletion is not None:
            held = {True: ", held", False: "", None: ", perhaps held"}[history.held]
            yield history.deletion.began, f"{history.name} is deleted{held}"
        if history.gone is not None:
            yield history.gone.certain, f"{history.name} is gone ({history.gone.certain - history.gone.began:.3f} s)"
    for bulk in evidence.ledger.bulks.values():
        if job_id in bulk.jobs:
            for approval in bulk.approvals:
                yield approval.began, f"{bulk.name} is {'' if approval.approved else 'not '}approved"
    if job_id in evidence.ledger.rivals:
        yield evidence.ledger.rivals[job_id], "somebody else asks for its end"


def _words(stated: Statement) -> str:
    words = [repr(stated.terminate)]
    if stated.deadline is not None:
        words.append(str(stated.deadline))
    if stated.on_delete is not None:
        words.append(f"onDelete {stated.on_delete!r}")
    return ", ".join(words)


def _called(evidence: Evidence, job_id: str) -> Iterator[tuple[float, str]]:
    last_poll: dict[str, float] = {}
    for call in evidence.calls:
        if job_id not in call.job_ids:
            continue
        if call.terminates:
            fault = f", fault {call.fault}" if call.fault else ""
            took = "took effect" if job_id in call.effective else "had no effect"
            yield call.at, f"call {call.n} {call.operation} by {call.access_key}: {call.http_status}{fault}, {took}"
        elif call.shown and call.at - last_poll.get(call.access_key, 0.0) > 5:
            last_poll[call.access_key] = call.at
            yield call.at, f"poll {call.n} by {call.access_key}"
