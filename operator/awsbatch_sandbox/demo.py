"""The main job, played and told: a running AWS Batch job is ended by `kubectl patch`."""

import json
import time
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
_TIMEOUT: Final = 10.0


class StoryError(Exception):
    """Something did not happen in time."""


def play(control_plane: str) -> None:
    """Tells it on stdout. StoryError when it goes another way."""
    story = Story()
    story.title("A running AWS Batch job is ended by kubectl patch")
    story.text("in a sandbox of its own: no cluster, no AWS account; nothing of it stays behind\n")
    story.progress("starting a Kubernetes API server and a simulated AWS Batch")
    with World(control_plane, grace=GRACE, flags=FLAGS) as world:
        story.progress(f"up: {world.control_plane.description}")
        try:
            _act(story, world)
        except TimeoutError as late:
            raise StoryError(f"{late}\nThe operator's last words:\n{world.operator.last_words()}") from late
    story.gap()
    story.title(f"All stopped again, after {story.elapsed:.1f} s. To stay and play: awsbatch-operator sandbox")


def _act(story: Story, world: World) -> None:
    names = populate(world, JOBS)
    story.progress(f"{len(names)} BatchJob objects name jobs in Batch, one of them by a mistyped id")
    world.operator.start()
    story.progress(f"operator runs, process {world.operator.pid}")
    _observed(world)
    together = max(len(call["job_ids"]) for call in world.batch.calls("DescribeJobs"))
    story.progress(f"each status tells what Batch says; one DescribeJobs asks for many ({together} here)\n")
    story.run(world.cluster, "get", "batchjobs")
    story.gap()
    _terminate(story, world, names[0])
    story.gap()
    story.run(world.cluster, "get", "batchjobs")
    story.gap()
    story.run(world.cluster, "describe", "batchjob", names[0])


def _observed(world: World) -> None:
    def all_told() -> bool:
        statuses = [one.get("status", {}) for one in world.cluster.objects()]
        return all(status.get("phase", "Unknown") != "Unknown" for status in statuses)

    wait_for(all_told, timeout=_TIMEOUT, what="every BatchJob has a phase", every=0.05)


def _terminate(story: Story, world: World, name: str) -> None:
    """Every time is counted from the moment when the API server showed the patched object."""
    wanted = patch_for(REASON)
    with Witness(world.cluster, name) as witness:
        story.run(world.cluster, "patch", "batchjob", name, "--type=merge", "-p", wanted)
        patched_at, _ = witness.until(_stated, timeout=_TIMEOUT, what="the patch is shown")
        story.at(0, "the API server shows the patch")
        request = wait_for(world.batch.terminate_requests, timeout=_TIMEOUT, what="TerminateJob arrives at Batch")[0]
        sent = f'TerminateJob {request["job_id"][:8]}… reason "{request["reason"]}"'
        story.at(request["at"] - patched_at, f"AWS Batch gets {sent}")
        seen_at, _ = witness.until(_accepted, timeout=_TIMEOUT, what="the status says that Batch accepted it")
        story.at(
            seen_at - patched_at, "status: accepted, phase Terminating; Terminated=Unknown for as long as the job lives"
        )
        _ended_in_batch(world, request["job_id"])
        story.at(time.time() - patched_at, "AWS Batch ends the job: FAILED, with this reason as its statusReason")
        seen_at, body = witness.until(_terminated, timeout=_TIMEOUT, what="condition Terminated is True")
        exit_code = body["status"].get("exitCode")
        story.at(seen_at - patched_at, f"status: Terminated=True, phase Terminated, exit code {exit_code}", good=True)


def _ended_in_batch(world: World, job_id: str) -> None:
    wait_for(lambda: world.batch.job(job_id)["status"] == "FAILED", timeout=_TIMEOUT, what="Batch ends the job")


def patch_for(reason: str) -> str:
    """The merge patch that states a termination."""
    return json.dumps({"spec": {"terminate": {"reason": reason}}}, separators=(",", ":"))


def _stated(body: Body) -> bool:
    return "terminate" in body["spec"]


def _accepted(body: Body) -> bool:
    return "acceptedAt" in body.get("status", {}).get("termination", {})


def _terminated(body: Body) -> bool:
    return condition(body.get("status", {}), "Terminated").get("status") == "True"
