"""Histories for the checker, good ones, of which a test spoils one thing."""

from dataclasses import replace
from typing import Any

from chaos.ledger import Deadline, Evidence, History, Ledger, Moment, Statement
from chaos.record import Call, Job

JOB = "job-a"
REASON = "INC-4711"
FIRST, SECOND = "first-1", "second-1"


def poll(n: int, at: float, key: str = FIRST, **more: Any) -> Call:
    return Call(n, at, "DescribeJobs", key, (JOB,), answered_at=at + 0.01, **more)


def call(n: int, at: float, key: str = FIRST, *, effective: bool = True, **more: Any) -> Call:
    """A TerminateJob that was granted at once. Its answer leaves with its effect, unless `acted_at` is given."""
    answered_at = more.pop("answered_at", at + 0.01)
    given: dict[str, Any] = {
        "reason": REASON,
        "acted_at": answered_at,
        "answered_at": answered_at,
        "accepted": (JOB,),
        "effective": (JOB,) if effective else (),
    }
    return Call(n, at, "TerminateJob", key, (JOB,), **(given | more))


def refused(n: int, at: float, key: str = FIRST, **more: Any) -> Call:
    """A TerminateJob that was throttled."""
    given: dict[str, Any] = {"http_status": 429, "fault": "throttle_429", "accepted": (), "effective": False}
    return call(n, at, key, **(given | more))


def stating(*statements: tuple[str | None, float], job_id: str = JOB, deleted: float | None = None) -> Ledger:
    """One object that states these things, each certain a hundredth of a second after its begin."""
    line = [Statement(reason, began, began + 0.01) for reason, began in statements]
    gone = None if deleted is None else Moment(deleted, deleted + 0.01)
    return Ledger(objects={"a": History("a", job_id, line, deletion=gone, gone=gone)})


def limited(*deadlines: tuple[Deadline | None, float]) -> Ledger:
    """One object that states these deadlines, and nothing else."""
    line = [Statement(None, began, began + 0.01, deadline=deadline) for deadline, began in deadlines]
    return Ledger(objects={"a": History("a", JOB, line)})


def tied(*, deleted: float, gone: float | None, held: bool | None = True, untied: float | None = None) -> Ledger:
    """One object that states onDelete, which `untied` removes, and its deletion."""
    line = [Statement(None, 100.0, 100.01, on_delete=REASON)]
    if untied is not None:
        line.append(Statement(None, untied, untied + 0.01))
    went = None if gone is None else Moment(gone, gone + 0.5)
    return Ledger(objects={"a": History("a", JOB, line, 0.0, Moment(deleted, deleted + 0.01), held, went)})


def evidence(ledger: Ledger, *calls: Call, **job: Any) -> Evidence:
    """Evidence of these calls. The job is RUNNING, with the fields of `job`; `unknown`: Batch does not know it."""
    if job.get("unknown"):
        return Evidence(ledger, calls, {})
    return Evidence(ledger, calls, {JOB: replace(Job(JOB, "RUNNING"), **job)})
