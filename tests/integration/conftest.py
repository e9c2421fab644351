from collections.abc import Iterator
from pathlib import Path

import pytest

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.world import World
from integration.competing import TERMINATE_RATE, Namespaces, namespaces_in
from integration.replicas import Pair, two_replicas
from integration.teams import Stage, Team, stage_on


@pytest.fixture
def pair(world: World, cluster: Cluster, tmp_path: Path) -> Iterator[Pair]:
    """Two replicas of the operator, of which the first leads."""
    with two_replicas(world, cluster, tmp_path) as pair:
        yield pair


@pytest.fixture(scope="module")
def stage(world: World) -> Iterator[Stage]:
    """One for all tests of a module: teams differ by their names."""
    with stage_on(world) as stage:
        yield stage


@pytest.fixture
def teams(stage: Stage) -> Iterator[list[Team]]:
    """Two teams, an account each, no policy yet; the operator is up."""
    assert stage.operator.running
    with stage.teams(2) as teams:
        yield teams


@pytest.fixture(scope="module")
def embedded_world() -> Iterator[World]:
    """A world of the module's own, whose API server takes orders; its jobs live on after TerminateJob."""
    flags = ("--poll-running=5s", "--poll-pending=5s", f"--terminate-rate={TERMINATE_RATE}")
    with World("embedded", grace=60.0, flags=flags) as world:
        yield world


@pytest.fixture
def namespaces(embedded_world: World) -> Iterator[Namespaces]:
    """A noisy and a quiet one."""
    with namespaces_in(embedded_world) as both:
        yield both
