"""Words that the tests of events share."""

import time
from typing import Final

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.scenario import SOON, phase

FLAGS: Final = ("--poll-running=1s", "--poll-pending=1s", "--poll-with-events=5m")
QUIET: Final = 3.0
"""Seconds in which a job would be polled three times without events."""


def arrive(world: World) -> bool:
    """Whether the operator relies on events now."""
    alive = world.operator.metrics().get("awsbatch_operator_events_queue_alive", ())
    return bool(alive) and all(value == 1 for _, value in alive)


def polls(world: World, job_id: str) -> int:
    return sum(job_id in call["job_ids"] for call in world.batch.calls("DescribeJobs"))


def in_queue(world: World, url: str = "") -> list[str]:
    """Ids of the messages that are not deleted."""
    return [one["message_id"] for one in world.batch.messages(url or world.events_queue)]


def wait_for_quiet(world: World, job_id: str) -> None:
    """Wait until events take the place of the polls of the job."""
    wait_for(lambda: arrive(world), timeout=2 * SOON, what="a canary comes back")

    def quiet() -> bool:
        before = polls(world, job_id)
        time.sleep(QUIET)
        return polls(world, job_id) == before

    wait_for(quiet, timeout=SOON, what="no poll while events arrive")


def a_job_that_is_not_polled(world: World, cluster: Cluster, name: str) -> str:
    job_id = world.seed(name)
    cluster.wait_for(name, phase("Running"), timeout=SOON)
    wait_for_quiet(world, job_id)
    return job_id
