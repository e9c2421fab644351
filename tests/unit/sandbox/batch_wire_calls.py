"""Calls to a simulated Batch without a socket."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from awsbatch_sandbox.batch.credentials import Caller
from awsbatch_sandbox.batch.signature import SignedRequest, sign
from awsbatch_sandbox.batch.simulator import BatchSimulator

START = 1_700_000_000.0
HERE = Caller(account="123456789012", region="eu-west-1")


def frozen(**settings: Any) -> BatchSimulator:
    """A simulator whose clock stands still until it is advanced."""
    return BatchSimulator(now=lambda: START, **settings)


def signed(
    path: str,
    body: Any = None,
    *,
    at: float = START,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    **signer: str,
) -> dict[str, Any]:
    """`data` and `headers` of a call, for aiohttp. `signer`: access_key, secret, region, service."""
    raw = b"" if body is None else json.dumps(body).encode()
    named = {"host": "batch.test", **(headers or {})} | ({} if token is None else {"x-amz-security-token": token})
    who = {"access_key": "sandbox", "secret": "sandbox", "region": HERE.region} | signer
    return {"data": raw, "headers": sign(SignedRequest("POST", path, named, raw), at=at, **who)}


@dataclass
class Wire:
    """Speaks for one account and region."""

    batch: BatchSimulator = field(default_factory=frozen)
    caller: Caller = HERE

    def call(self, operation: str, **body: Any) -> tuple[int, dict[str, Any]]:
        frontend = self.batch.frontend
        reply = frontend.perform(frontend.admit(operation, self.caller, json.dumps(body).encode()))
        return reply.status, json.loads(reply.body or b"{}")

    def describe(self, job_id: str) -> dict[str, Any]:
        """The JobDetail of a job that must be there."""
        (detail,) = self.shown(job_id)
        return detail

    def shown(self, *job_ids: str) -> list[dict[str, Any]]:
        status, answer = self.call("DescribeJobs", jobs=list(job_ids))
        assert status == 200, answer
        details: list[dict[str, Any]] = answer["jobs"]
        return details

    def terminate(self, job_id: str, reason: str = "runaway cost") -> None:
        assert self.call("TerminateJob", jobId=job_id, reason=reason) == (200, {})

    def cancel(self, job_id: str, reason: str = "not needed") -> None:
        assert self.call("CancelJob", jobId=job_id, reason=reason) == (200, {})
