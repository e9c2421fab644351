from collections.abc import Iterator
from pathlib import Path

import pytest

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.world import World
from integration.replicas import Pair, two_replicas


@pytest.fixture
def pair(world: World, cluster: Cluster, tmp_path: Path) -> Iterator[Pair]:
    """Two replicas of the operator, of which the first leads."""
    with two_replicas(world, cluster, tmp_path) as pair:
        yield pair
