"""A boto3-like client without a network: stateful, with scripted replies and recorded calls."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

ALIVE = "RUNNING"
REQUEST_ID = "5f0c1a52-8d27-4f3c-9d0e-7d7c3a5f0001"


def refusal(code: str, status: int, message: str = "", operation: str = "DescribeJobs") -> ClientError:
    """Return the exception that botocore raises for an error response."""
    response: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, operation)


class FakeClient:
    """Knows the jobs of `jobs` (id to status); ids in `malformed` spoil a whole call, as with real Batch.

    `script` gives a reply for the next calls of an operation, first come first served: an exception is raised, a
    mapping is the body of the answer, None lets the call through. Calls wait for `held` of their operation.
    """

    def __init__(self, *jobs: str) -> None:
        self.jobs = dict.fromkeys(jobs, ALIVE)
        self.malformed: set[str] = set()
        self.calls: list[tuple[str, tuple[str, ...], str | None]] = []
        self.script: dict[str, list[BaseException | Mapping[str, Any] | None]] = {}
        self.always: dict[str, BaseException | Mapping[str, Any]] = {}
        self.held: dict[str, threading.Event] = {}
        self.closed = False
        self._lock = threading.Lock()

    def describe_jobs(self, *, jobs: Sequence[str]) -> Mapping[str, Any]:
        def answer() -> Mapping[str, Any]:
            if bad := self.malformed.intersection(jobs):
                raise refusal("ClientException", 400, f"{min(bad)} is not supported")
            known = [job_id for job_id in reversed(jobs) if job_id in self.jobs]
            return {"jobs": [{"jobId": job_id, "status": self.jobs[job_id]} for job_id in known]}

        return self._reply("DescribeJobs", jobs, None, answer)

    def list_jobs(self, **request: Any) -> Mapping[str, Any]:
        """Lists all jobs whatever is requested; the request is recorded as texts."""
        listed = [{"jobId": job_id, "jobName": job_id, "status": status} for job_id, status in self.jobs.items()]
        texts = [f"{name}={value}" for name, value in request.items()]
        return self._reply("ListJobs", texts, None, lambda: {"jobSummaryList": listed})

    def terminate_job(self, *, jobId: str, reason: str) -> Mapping[str, Any]:  # noqa: N803 (the SDK's own spelling)
        return self._reply("TerminateJob", [jobId], reason, dict)

    def terminate_jobs(self, *, jobs: Sequence[str], reason: str) -> Mapping[str, Any]:
        return self._reply("TerminateJobs", jobs, reason, lambda: {"successful": list(jobs), "errors": []})

    def close(self) -> None:
        self.closed = True

    def sizes(self, operation: str) -> list[int]:
        return [len(ids) for name, ids, _ in self.calls if name == operation]

    def count(self, operation: str) -> int:
        return len(self.sizes(operation))

    def _reply(
        self, operation: str, ids: Sequence[str], reason: str | None, answer: Callable[[], Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        with self._lock:
            self.calls.append((operation, tuple(ids), reason))
            waiting = self.script.get(operation)
            reply = waiting.pop(0) if waiting else self.always.get(operation)
        if operation in self.held:
            self.held[operation].wait(5)
        if isinstance(reply, BaseException):
            raise reply
        body = json.dumps(answer() if reply is None else reply).encode()
        return {"body": body, "ResponseMetadata": {"RequestId": REQUEST_ID}}
