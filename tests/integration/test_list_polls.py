"""Most jobs of a queue have an object: lists of the queue take the place of most polls, and report no less."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import pytest

from awsbatch_sandbox.cluster import Cluster, condition
from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.scenario import SOON, phase

JOBS: Final = 300


@dataclass(frozen=True)
class Crowd:
    world: World
    cluster: Cluster
    ids: list[str]
    queue: str

    def lists(self) -> list[dict[str, Any]]:
        return [call for call in self.world.batch.calls("ListJobs") if call["queue"].endswith(self.queue)]

    def described(self) -> Counter[str]:
        """How often each of the jobs was described."""
        calls = self.world.batch.calls("DescribeJobs")
        return Counter(job_id for call in calls for job_id in call["job_ids"] if job_id in self.ids)

    def after_lists(self, count: int) -> None:
        """Wait for so many lists from now on; the calls up to now are forgotten."""
        self.world.batch.clear_calls()
        wait_for(lambda: len(self.lists()) >= count, timeout=SOON, what=f"{count} lists")

    def shows(self, number: int, name: str) -> None:
        self.cluster.wait_for(f"job-{number}", phase(name), timeout=SOON)


@pytest.fixture
def crowd(world: World, cluster: Cluster, operator: OperatorProcess) -> Crowd:
    assert operator.running
    queue = f"lists-{cluster.namespace}"
    ids = world.batch.seed_many(JOBS, name="quiet", queue=queue)
    with ThreadPoolExecutor(4) as threads:
        [*threads.map(lambda number: cluster.create(f"job-{number}", ids[number]), range(JOBS))]
    return Crowd(world, cluster, ids, queue)


def test_lists_take_the_place_of_polls_and_every_change_is_reported(crowd: Crowd) -> None:
    crowd.after_lists(3)
    crowd.after_lists(8)
    described, lists = crowd.described(), len(crowd.lists())
    assert sum(described.values()) < JOBS * lists / 3, "each interval has one list, which spares most jobs a poll"
    assert described, "lists do not show everything"
    batch, ids = crowd.world.batch, crowd.ids
    batch.move(ids[0], "SUCCEEDED", exit_code=0)
    batch.move(ids[1], "RUNNABLE")
    batch.hide(ids[2], 0, lists=3)
    crowd.cluster.terminate("job-3", "why")
    crowd.shows(0, "Succeeded")
    crowd.shows(1, "Pending")
    crowd.shows(3, "Terminated")
    crowd.after_lists(3)
    crowd.shows(2, "Running")


@pytest.fixture
def crowd_of_its_own(crowd: Crowd) -> Iterator[Crowd]:
    """With an operator that ends with the test: it lists nothing for minutes."""
    yield crowd
    crowd.world.operator.stop()


def test_without_the_right_to_list_jobs_are_described_as_ever(crowd_of_its_own: Crowd) -> None:
    crowd = crowd_of_its_own
    crowd.after_lists(5)
    crowd.world.batch.fault("ListJobs", kind="denied_403", times=None)
    crowd.after_lists(1)
    wait_for(lambda: len(crowd.described()) == JOBS, timeout=SOON, what="all are described")
    crowd.world.batch.move(crowd.ids[0], "FAILED", exit_code=1)
    crowd.shows(0, "Failed")
    assert len(crowd.lists()) == 1
    assert not [body for body in crowd.cluster.objects() if condition(body["status"], "Stalled")]
