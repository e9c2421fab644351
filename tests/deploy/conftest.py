from collections.abc import Iterator

import pytest

from awsbatch_sandbox.world import World
from deploy.stage import EmbeddedStage, RealStage, Stage, real_stage

GRACE = 0.2


@pytest.fixture(scope="session")
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealStage]:
    """A kube-apiserver with RBAC; the release is installed and uninstalled test by test."""
    with real_stage(tmp_path_factory.mktemp("real"), grace=GRACE) as stage:
        yield stage


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest) -> Stage:
    """Of the control plane that was chosen."""
    if request.config.getoption("--control-plane") == "envtest":
        real: RealStage = request.getfixturevalue("real")
        return real
    world: World = request.getfixturevalue("world")
    return EmbeddedStage(world)
