"""The demo: `kubectl patch` terminates a running AWS Batch job."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from awsbatch_sandbox.cluster import Body, condition
from awsbatch_sandbox.fixtures import populate
from awsbatch_sandbox.narrator import Narrator, Witness
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import BY_EVENTS, World

JOBS: Final = 6
GRACE: Final = 2.5
"""Seconds between TerminateJob and the end of the job: a short one, of a container that handles SIGTERM."""
REASON: Final = "INC-4711: runaway cost"


class DemoError(Exception):
    """Something did not happen in time, or has another result."""


def play(control_plane: str, *, flags: Sequence[str] = BY_EVENTS, timeout: float = 10.0) -> None:
    """Run it and write each step to stdout. DemoError when a step needs more than `timeout` seconds.

    The operator polls as seldom as by default: without the event, the last step would take until the next poll.
    """
    title, hint = "kubectl patch terminates a running AWS Batch job", ". To try it yourself: make sandbox"
    with stage(title, control_plane, hint, grace=GRACE, flags=flags, events=True) as (narrator, world):
        _Demo(narrator, world, timeout).act()


@contextmanager
def stage(title: str, control_plane: str, hint: str = "", **world: Any) -> Iterator[tuple[Narrator, World]]:
    """Start a World with these arguments for the block of a demo. DemoError instead of a TimeoutError."""
    narrator = Narrator()
    narrator.title(title)
    narrator.text("in a sandbox: it needs no cluster and no AWS account, and it removes everything when it ends\n")
    more = ", and AWS STS" if world.get("roles") else ", EventBridge and SQS" if world.get("events") else ""
    narrator.progress(f"starting a Kubernetes API server{',' if more else ' and'} a simulated AWS Batch{more}")
    with World(control_plane, **world) as started:
        narrator.progress(f"up: {started.control_plane.description}")
        try:
            yield narrator, started
        except TimeoutError as late:
            words = started.operator.last_words()
            raise DemoError(f"{late}\nThe last lines of the operator's log:\n{words}") from late
    narrator.gap()
    narrator.title(f"All stopped after {narrator.elapsed:.1f} s{hint}")


def expect(holds: bool, what: str) -> None:
    """Raise a DemoError that names what does not hold."""
    if not holds:
        raise DemoError(f"expected: {what}")


class _Demo:
    def __init__(self, narrator: Narrator, world: World, timeout: float) -> None:
        self._narrator, self._world, self._timeout = narrator, world, timeout

    def act(self) -> None:
        narrator, world = self._narrator, self._world
        names = populate(world, JOBS)
        narrator.progress(f"{len(names)} BatchJob objects name jobs in AWS Batch; one of them has a mistyped job id")
        world.operator.start()
        narrator.progress(f"the operator is ready (process {world.operator.pid})")
        wait_for(self._all_have_a_phase, timeout=self._timeout, what="every BatchJob has a phase", every=0.05)
        together = max(len(call["job_ids"]) for call in world.batch.calls("DescribeJobs"))
        narrator.progress(f"each status shows the state of its job; one DescribeJobs call covers {together} jobs\n")
        narrator.run(world.cluster, "get", "batchjobs")
        narrator.gap()
        self._terminate(names[0])
        narrator.gap()
        narrator.run(world.cluster, "get", "batchjobs")
        narrator.gap()
        narrator.run(world.cluster, "describe", "batchjob", names[0])

    def _all_have_a_phase(self) -> bool:
        statuses = [one.get("status", {}) for one in self._world.cluster.objects()]
        return all(status.get("phase", "Unknown") != "Unknown" for status in statuses)

    def _terminate(self, name: str) -> None:
        """Every time is counted from the moment when the API server showed the patched object."""
        narrator, batch, timeout = self._narrator, self._world.batch, self._timeout
        with Witness(self._world.cluster, name) as witness:
            narrator.run(self._world.cluster, "patch", "batchjob", name, "--type=merge", "-p", patch_for(REASON))
            patched_at, _ = witness.until(_stated, timeout=timeout, what="the patch is shown")
            narrator.at(0, "the API server accepts the patch")
            request = wait_for(batch.terminate_requests, timeout=timeout, what="TerminateJob arrives at Batch")[0]
            sent = f'TerminateJob {request["job_id"][:8]}… reason "{request["reason"]}"'
            narrator.at(request["at"] - patched_at, f"AWS Batch receives {sent}")
            seen_at, _ = witness.until(_accepted, timeout=timeout, what="the status to show that Batch accepted it")
            accepted = "status: the request is accepted, phase Terminating; Terminated=Unknown while the job runs"
            narrator.at(seen_at - patched_at, accepted)
            self._show_end(witness, request["job_id"], patched_at)

    def _show_end(self, witness: Witness, job_id: str, patched_at: float) -> None:
        narrator, batch, timeout = self._narrator, self._world.batch, self._timeout
        wait_for(lambda: _failed(batch.job(job_id)), timeout=timeout, what="the job to finish in Batch")
        stopped_at = batch.job(job_id)["stopped_at"] / 1000
        stopped = "AWS Batch stops the job: FAILED, with this reason as its statusReason"
        narrator.at(stopped_at - patched_at, stopped)
        received = wait_for(
            lambda: _received(batch.calls("ReceiveMessage"), stopped_at), timeout=timeout, what="an event of the end"
        )
        event = "the operator gets the event of it from SQS: it asks AWS Batch now, not at its next poll"
        narrator.at(received["answered_at"] - patched_at, event)
        seen_at, body = witness.until(_terminated, timeout=timeout, what="condition Terminated is True")
        ended = f"status: Terminated=True, phase Terminated, exit code {body['status'].get('exitCode')}"
        narrator.at(seen_at - patched_at, ended, good=True)


def patch_for(reason: str) -> str:
    """The merge patch that states a termination."""
    return json.dumps({"spec": {"terminate": {"reason": reason}}}, separators=(",", ":"))


def _stated(body: Body) -> bool:
    return "terminate" in body["spec"]


def _accepted(body: Body) -> bool:
    return "acceptedAt" in body.get("status", {}).get("termination", {})


def _failed(job: Body) -> bool:
    return bool(job["status"] == "FAILED")


def _received(calls: Sequence[Body], since: float) -> Body | None:
    """The first ReceiveMessage that was answered with a message since that time, epoch seconds."""
    return next((call for call in calls if call["received"] and call["answered_at"] >= since), None)


def _terminated(body: Body) -> bool:
    return condition(body.get("status", {}), "Terminated").get("status") == "True"
