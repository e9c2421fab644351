"""Many objects with spec.onDelete are deleted at once: the limit holds, and nobody else waits for them."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import pytest

from awsbatch_operator.api.names import FINALIZER
from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.competing import SENT_WITHIN, Namespaces, namespaces_in
from integration.scenario import has_events, says

OBJECTS: Final = 200
LIMIT: Final = 50
OF_A_NAMESPACE: Final = LIMIT // 5
_AT_WORK: Final = 60.0
_SEVERAL_TURNS: Final = 4.5
"""Seconds in which the operator gives free places to those that wait, twice at least."""

held = says("Reconciling", "True", "TerminationHeld")


@pytest.fixture(scope="module")
def limited_world() -> Iterator[World]:
    """Its jobs live on after TerminateJob, as long as the tests."""
    flags = ("--poll-running=5s", "--poll-pending=5s", "--on-delete=enabled", f"--unattended-limit={LIMIT}")
    with World("embedded", grace=600.0, flags=flags) as world:
        yield world


@pytest.fixture
def namespaces(limited_world: World) -> Iterator[Namespaces]:
    with namespaces_in(limited_world) as both:
        yield both


def test_the_limit_holds_and_nobody_else_waits(namespaces: Namespaces) -> None:
    world, noisy, quiet = namespaces.world, namespaces.noisy, namespaces.quiet
    crowd = tied(world, noisy, OBJECTS)
    deleted = tied(world, quiet, 1)
    (patched, patched_job), (late, late_job) = namespaces.running(quiet, 2).items()
    noisy.delete_all()
    assert namespaces.sent_after(patched_job, lambda: quiet.terminate(patched, "victim")) < SENT_WITHIN
    ((one, its_job),) = deleted.items()
    assert namespaces.sent_after(its_job, lambda: quiet.delete(one)) < SENT_WITHIN
    waiting = all_held(noisy, OBJECTS - OF_A_NAMESPACE)
    assert sent(world, crowd) == [OF_A_NAMESPACE]
    assert has_events(noisy, waiting[0], "TerminationHeld")

    others = [noisy.within(f"{noisy.namespace}-{number}") for number in range(5)]
    crowds = []
    for other in others:
        other.create_namespace()
        crowds.append(tied(world, other, OF_A_NAMESPACE))
    for other in others:
        other.delete_namespace()
    # The rest was taken before.
    left = LIMIT - OF_A_NAMESPACE - len(deleted)
    wait_for(
        lambda: sum(sent(world, *crowds)) >= left,
        timeout=_AT_WORK,
        what="the places of the target are taken",
    )
    time.sleep(_SEVERAL_TURNS)
    by_namespace = sent(world, crowd, deleted, *crowds)
    assert sum(by_namespace) == LIMIT
    assert max(by_namespace) == OF_A_NAMESPACE
    assert namespaces.sent_after(late_job, lambda: quiet.terminate(late, "victim")) < SENT_WITHIN
    for other in others:
        other.close()


def tied(world: World, cluster: Cluster, count: int) -> Mapping[str, str]:
    """Ids of new jobs by the names of their objects, which state onDelete and are held."""
    jobs = {f"tied-{number}": job_id for number, job_id in enumerate(world.batch.seed_many(count))}
    for name, job_id in jobs.items():
        cluster.create(name, job_id, onDelete={"terminate": {"reason": "its workflow was deleted"}})

    def all_observed() -> bool:
        bodies = [body for body in cluster.objects() if body["metadata"]["name"] in jobs]
        return all(
            FINALIZER in body["metadata"].get("finalizers", ()) and body.get("status", {}).get("phase") == "Running"
            for body in bodies
        )

    wait_for(all_observed, timeout=_AT_WORK, what=f"{count} objects are held and show their job")
    return jobs


def all_held(cluster: Cluster, count: int) -> Sequence[str]:
    """The names of the objects that come to say TerminationHeld, which are so many."""
    found: list[str] = []

    def all_say_so() -> bool:
        bodies = cluster.objects()
        found[:] = [body["metadata"]["name"] for body in bodies if held(body.get("status", {}))]
        return len(found) == len(bodies) == count

    wait_for(all_say_so, timeout=_AT_WORK, what=f"{count} objects say TerminationHeld and the others are gone")
    return found


def sent(world: World, *crowds: Mapping[str, str]) -> list[int]:
    """How many requests AWS Batch accepted for the jobs of each crowd."""
    requested = Counter(one["job_id"] for one in world.batch.terminate_requests())
    return [sum(requested[job_id] for job_id in crowd.values()) for crowd in crowds]
