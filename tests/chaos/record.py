"""The simulator's own record, as values: calls as they arrived, and jobs as they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

READ_TIMEOUT: Final = 10.0
"""Seconds after which the operator gives up waiting for an answer (awsbatch_operator.aws.sdk_session.CONFIG)."""
_WHOLE: Final = (None, "slow", "refused_in_bulk")
"""Faults that leave an answer whole."""


@dataclass(frozen=True, slots=True)
class Call:
    """`access_key` is the caller's access key id: each life of each replica has its own. Times are epoch seconds.

    `acted_at`: when it had its effect: a slow answer comes later. `accepted`: the jobs whose termination took place,
    whatever was answered. `effective`: those that it changed.
    `received`: messages of an answer of SQS.
    """

    n: int
    at: float
    operation: str
    access_key: str
    job_ids: tuple[str, ...]
    reason: str | None = None
    http_status: int | None = 200
    fault: str | None = None
    acted_at: float | None = None
    answered_at: float | None = None
    accepted: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    received: int = 0

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], known: dict[str, str]) -> Self:
        """`known` keeps one string for each job id: a long record names every job a thousand times."""
        plain = {field: raw[field] for field in _PLAIN_FIELDS}
        job_ids, accepted, effective = (
            tuple(known.setdefault(one, one) for one in raw[field]) for field in ("job_ids", "accepted", "effective")
        )
        more = {"accepted": accepted, "effective": effective, "received": raw.get("received", 0)}
        return cls(job_ids=job_ids, **more, **plain)

    @property
    def terminates(self) -> bool:
        return self.operation in ("TerminateJob", "TerminateJobs")

    @property
    def of_events(self) -> bool:
        """Whether it is one of SQS or EventBridge."""
        return self.operation in ("ReceiveMessage", "DeleteMessageBatch", "PutEvents")

    @property
    def in_time(self) -> bool:
        """Whether its caller still waited when the answer came."""
        return self.answered_at is not None and self.answered_at - self.at < READ_TIMEOUT

    @property
    def left_at(self) -> float:
        """Time at which the caller stopped waiting."""
        return self.answered_at if self.in_time and self.answered_at is not None else self.at + READ_TIMEOUT

    @property
    def shown(self) -> bool:
        """A poll whose answer came whole."""
        return self.operation == "DescribeJobs" and self.http_status == 200 and self.fault in _WHOLE and self.in_time

    def granted(self, job_id: str) -> bool:
        """Whether its caller received in time that the termination of this job was accepted."""
        if not self.terminates or self.http_status != 200 or not self.in_time:
            return False
        if self.operation == "TerminateJob":
            return job_id in self.job_ids  # its answer is empty: the 200 says all
        return self.fault in _WHOLE and job_id in self.accepted


_PLAIN_FIELDS: Final = (
    "n",
    "at",
    "operation",
    "access_key",
    "reason",
    "http_status",
    "fault",
    "acted_at",
    "answered_at",
)


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the simulator knows it; times in seconds of its own clock."""

    job_id: str
    status: str
    status_reason: str | None = None
    is_terminated: bool = False
    is_cancelled: bool = False
    stopped_at: float | None = None
    any_child_runs: bool = False
    created_at: float = 0.0
    started_at: float | None = None
    child_started: bool = False

    @property
    def finished(self) -> bool:
        return self.status in ("SUCCEEDED", "FAILED")

    @property
    def flagged(self) -> bool:
        return self.is_terminated or self.is_cancelled

    @property
    def runs(self) -> bool:
        return self.status == "RUNNING" or self.any_child_runs

    def started_before(self, at: float) -> bool:
        """Whether it, or a child, had started by then."""
        return self.child_started or (self.started_at is not None and self.started_at < at)


def jobs_from_json(raw: Sequence[Mapping[str, Any]]) -> dict[str, Job]:
    states = {one["job_id"]: one["status"] for one in raw}
    started = {one["job_id"] for one in raw if one["started_at"] is not None}
    return {
        one["job_id"]: Job(
            **{field: one[field] for field in ("job_id", "status", "status_reason", "is_terminated", "is_cancelled")},
            stopped_at=None if one["stopped_at"] is None else one["stopped_at"] / 1000,
            any_child_runs=one["kind"] == "array" and any(states.get(child) == "RUNNING" for child in one["children"]),
            created_at=one["created_at"] / 1000,
            started_at=None if one["started_at"] is None else one["started_at"] / 1000,
            child_started=one["kind"] == "array" and not started.isdisjoint(one["children"]),
        )
        for one in raw
    }
