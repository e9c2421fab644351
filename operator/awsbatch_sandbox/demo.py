"""The main job, played and told: a running AWS Batch job is ended by `kubectl patch`."""

import json
import time
from collections.abc import Sequence
from typing import Final

from awsbatch_sandbox.cluster import Body, condition
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.scenes import populate
from awsbatch_sandbox.story import Story, Witness
from awsbatch_sandbox.world import QUICK, World

JOBS: Final = 6
FLAGS: Final = (*QUICK, "--absence-grace=1s")
GRACE: Final = 2.5
"""Seconds that the job takes to end: a container that gets SIGTERM, as short as it stays interesting."""
REASON: Final = "INC-4711: runaway cost"


class StoryError(Exception):
    """Something did not happen in time."""


def play(control_plane: str, *, flags: Sequence[str] = FLAGS, timeout: float = 10.0) -> None:
    """Tells it on stdout. StoryError when a step of it takes more than `timeout` seconds."""
    story = Story()
    story.title("A running AWS Batch job is ended by kubectl patch")
    story.text("in a sandbox of its own: no cluster, no AWS account; nothing of it stays behind\n")
    story.progress("starting a Kubernetes API server and a simulated AWS Batch")
    with World(control_plane, grace=GRACE, flags=flags) as world:
        story.progress(f"up: {world.control_plane.description}")
        try:
            _Play(story, world, timeout).act()
        except TimeoutError as late:
            raise StoryError(f"{late}\nThe operator's last words:\n{world.operator.last_words()}") from late
    story.gap()
    story.title(f"All stopped again, after {story.elapsed:.1f} s. To stay and play: awsbatch-operator sandbox")


class _Play:
    def __init__(self, story: Story, world: World, timeout: float) -> None:
        self._story, self._world, self._timeout = story, world, timeout

    def act(self) -> None:
        story, world = self._story, self._world
        names = populate(world, JOBS)
        story.progress(f"{len(names)} BatchJob objects name jobs in Batch, one of them by a mistyped id")
        world.operator.start()
        story.progress(f"operator runs, process {world.operator.pid}")
        wait_for(self._all_told, timeout=self._timeout, what="every BatchJob has a phase", every=0.05)
        together = max(len(call["job_ids"]) for call in world.batch.calls("DescribeJobs"))
        story.progress(f"each status tells what Batch says; one DescribeJobs asks for many ({together} here)\n")
        story.run(world.cluster, "get", "batchjobs")
        story.gap()
        self._terminate(names[0])
        story.gap()
        story.run(world.cluster, "get", "batchjobs")
        story.gap()
        story.run(world.cluster, "describe", "batchjob", names[0])

    def _all_told(self) -> bool:
        statuses = [one.get("status", {}) for one in self._world.cluster.objects()]
        return all(status.get("phase", "Unknown") != "Unknown" for status in statuses)

    def _terminate(self, name: str) -> None:
        """Every time is counted from the moment when the API server showed the patched object."""
        story, batch, timeout = self._story, self._world.batch, self._timeout
        with Witness(self._world.cluster, name) as witness:
            story.run(self._world.cluster, "patch", "batchjob", name, "--type=merge", "-p", patch_for(REASON))
            patched_at, _ = witness.until(_stated, timeout=timeout, what="the patch is shown")
            story.at(0, "the API server shows the patch")
            request = wait_for(batch.terminate_requests, timeout=timeout, what="TerminateJob arrives at Batch")[0]
            sent = f'TerminateJob {request["job_id"][:8]}… reason "{request["reason"]}"'
            story.at(request["at"] - patched_at, f"AWS Batch gets {sent}")
            seen_at, _ = witness.until(_accepted, timeout=timeout, what="the status says that Batch accepted it")
            accepted = "status: accepted, phase Terminating; Terminated=Unknown for as long as the job lives"
            story.at(seen_at - patched_at, accepted)
            wait_for(lambda: _failed(batch.job(request["job_id"])), timeout=timeout, what="Batch ends the job")
            story.at(time.time() - patched_at, "AWS Batch ends the job: FAILED, with this reason as its statusReason")
            seen_at, body = witness.until(_terminated, timeout=timeout, what="condition Terminated is True")
            ended = f"status: Terminated=True, phase Terminated, exit code {body['status'].get('exitCode')}"
            story.at(seen_at - patched_at, ended, good=True)


def patch_for(reason: str) -> str:
    """The merge patch that states a termination."""
    return json.dumps({"spec": {"terminate": {"reason": reason}}}, separators=(",", ":"))


def _stated(body: Body) -> bool:
    return "terminate" in body["spec"]


def _accepted(body: Body) -> bool:
    return "acceptedAt" in body.get("status", {}).get("termination", {})


def _failed(job: Body) -> bool:
    return bool(job["status"] == "FAILED")


def _terminated(body: Body) -> bool:
    return condition(body.get("status", {}), "Terminated").get("status") == "True"
