"""Histories for the checker, good ones, of which a test spoils one thing."""

from dataclasses import replace
from typing import Any

from chaos.ledger import Evidence, History, Ledger, Statement
from chaos.record import Call, Job

JOB = "job-a"
REASON = "INC-4711"
FIRST, SECOND = "first-1", "second-1"


def poll(n: int, at: float, key: str = FIRST, **more: Any) -> Call:
    return Call(n, at, "DescribeJobs", key, (JOB,), answered_at=at + 0.01, **more)


def call(n: int, at: float, key: str = FIRST, *, effective: bool = True, **more: Any) -> Call:
    """A TerminateJob that was granted at once."""
    given: dict[str, Any] = {
        "reason": REASON,
        "answered_at": at + 0.01,
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
    gone = None if deleted is None else Statement(None, deleted, deleted + 0.01)
    return Ledger(objects={"a": History("a", job_id, line, gone)})


def evidence(ledger: Ledger, *calls: Call, **job: Any) -> Evidence:
    """Evidence of these calls. The job is RUNNING, with the fields of `job`; `unknown`: Batch does not know it."""
    if job.get("unknown"):
        return Evidence(ledger, calls, {})
    return Evidence(ledger, calls, {JOB: replace(Job(JOB, "RUNNING"), **job)})
