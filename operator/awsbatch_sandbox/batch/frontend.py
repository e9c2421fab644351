"""A wire call in two steps: arrival and effect; faults and throttling apply between them."""

import json
from dataclasses import dataclass, replace
from typing import Any

from awsbatch_sandbox.batch.clock import Clock
from awsbatch_sandbox.batch.credentials import Caller
from awsbatch_sandbox.batch.faults import REPLIES, THROTTLED, Fault, Faults
from awsbatch_sandbox.batch.limits import Limits
from awsbatch_sandbox.batch.operations import Operations
from awsbatch_sandbox.batch.recorder import Recorder
from awsbatch_sandbox.batch.replies import Reply, error, ok
from awsbatch_sandbox.batch.signature import SignatureError, SignedRequest, Verifier

RESET = Reply(0, b"")
_LISTING = {"queue": "jobQueue", "job_status": "jobStatus", "token": "nextToken"}
"""Fields of the body of ListJobs that a record shows."""


@dataclass(frozen=True, slots=True)
class Call:
    """A wire call that has arrived; `wait_before` and `wait_after` are seconds around its effect."""

    operation: str
    caller: Caller
    body: dict[str, Any]
    job_ids: list[str]
    record: dict[str, Any]
    fault: Fault | None = None
    refused: Reply | None = None

    @property
    def wait_before(self) -> float:
        return self.fault.seconds if self.fault and self.fault.kind == "slow" and not self.fault.act_then else 0.0

    @property
    def wait_after(self) -> float:
        return self.fault.seconds if self.fault and self.fault.kind == "slow" and self.fault.act_then else 0.0


class Frontend:
    """The layer in front of the operations, as API Frontend on AWS."""

    def __init__(
        self,
        *,
        clock: Clock,
        verifier: Verifier,
        operations: Operations,
        faults: Faults,
        limits: Limits,
        recorder: Recorder,
    ) -> None:
        self._clock = clock
        self._verifier = verifier
        self._operations = operations
        self._faults = faults
        self._limits = limits
        self._recorder = recorder

    def batch_time(self) -> float:
        """Epoch seconds on the clock of the jobs, which every answer shows as its Date."""
        return self._clock.now_ms() / 1000

    def receive(self, operation: str, request: SignedRequest, path_values: dict[str, Any] | None = None) -> Call:
        """Handle the arrival of a request: authenticate it."""
        try:
            credential, region = self._verifier.verify(request)
        except SignatureError as wrong:
            return self._unsigned(operation, wrong)
        return self.admit(operation, Caller.of(credential, region), request.body, path_values)

    def _unsigned(self, operation: str, wrong: SignatureError) -> Call:
        """Reject such a call: it does not count for the account's rate limit, nor for a fault."""
        caller = Caller("", wrong.region, wrong.access_key)
        record = self._recorder.arrived(operation, caller, [], None, self._clock.wall())
        return Call(operation, caller, {}, [], record, None, error(403, wrong.problem.value, wrong.message))

    def admit(self, operation: str, caller: Caller, raw: bytes, path_values: dict[str, Any] | None = None) -> Call:
        """Handle the arrival of a call: parse, record, throttle, find its fault. It has no effect yet."""
        refused: Reply | None = None
        try:
            parsed = json.loads(raw or b"{}")
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            parsed, refused = {}, error(400, "SerializationException", "The body is not a JSON object")
        body = parsed | (path_values or {})
        job_ids = _job_ids(body)
        record = self._recorder.arrived(operation, caller, job_ids, body.get("reason"), self._clock.wall())
        record |= {name: body.get(key) for name, key in _LISTING.items()}
        fault = None
        if not self._limits.admits(caller.account_region, self._clock.now_ms()):
            refused = THROTTLED
        elif refused is None:
            fault = self._faults.pop(operation, job_ids, caller)
        return Call(operation, caller, body, job_ids, record, fault, refused)

    def perform(self, call: Call) -> Reply:
        """Apply the effect of the call and return its answer; status 0: cut the connection."""
        fault = call.fault
        if call.refused is not None:
            reply = call.refused
        elif fault is None or fault.kind == "slow":
            reply = self._act(call, call.body)
        elif fault.kind == "refused_in_bulk":
            reply = self._refuse_in_bulk(call, fault)
        elif fault.kind == "repeat_page":
            reply = self._repeat_page(call)
        else:
            acted = self._act(call, call.body) if fault.act_then else None
            answer = RESET if fault.kind == "reset" else REPLIES[fault.kind](call.operation, call.caller)
            reply = replace(answer, effective=acted.effective if acted else ())
        call.record["http_status"] = reply.status
        call.record["error"] = "reset" if reply is RESET or reply.status == 0 else reply.error_type
        call.record["effective"] = list(reply.effective)
        call.record["fault"] = fault.kind if fault and call.refused is None else None
        call.record["acted_at"] = self._clock.wall()
        call.record["answered_at"] = call.record["acted_at"] + call.wait_after
        return reply

    def _act(self, call: Call, body: dict[str, Any]) -> Reply:
        now = self._clock.now_ms()
        self._operations.settle(now)
        ends = call.operation in ("TerminateJob", "TerminateJobs")
        statuses = {one: self._status(call.caller, one) for one in call.job_ids} if ends else {}
        reply = self._operations.perform(call.operation, call.caller, body, now)
        if ends:
            self._recorder.accepted(call.record, reply.accepted, statuses)
        return reply

    def _status(self, caller: Caller, job_id: str) -> str | None:
        job = self._operations.find(caller, job_id)
        return None if job is None else job.status

    def _refuse_in_bulk(self, call: Call, fault: Fault) -> Reply:
        refused = [one for one in call.job_ids if fault.job_id in (None, one)]
        acted = call.job_ids if fault.act_then else [one for one in call.job_ids if one not in refused]
        reply = self._act(call, call.body | {"jobs": acted}) if acted else ok({"successful": [], "errors": []})
        answer = json.loads(reply.body)
        if reply.status != 200:
            return reply
        answer["successful"] = [one for one in answer["successful"] if one not in refused]
        answer["errors"] += [{"job": one, "code": fault.code, "message": f"{fault.code}: {one}"} for one in refused]
        return ok(answer, accepted=reply.accepted, effective=reply.effective)

    def _repeat_page(self, call: Call) -> Reply:
        reply = self._act(call, call.body)
        if reply.status != 200:
            return reply
        return ok(json.loads(reply.body) | {"nextToken": self._operations.same_page(call.caller, call.body)})


def _job_ids(body: dict[str, Any]) -> list[str]:
    jobs = body.get("jobs", [body["jobId"]] if "jobId" in body else [])
    return [one for one in jobs if isinstance(one, str)] if isinstance(jobs, list) else []
