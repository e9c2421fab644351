from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from awsbatch_sandbox.world import World
from deploy.stage import EmbeddedStage, RealStage, Stage, real_stage

GRACE = 0.2
_NEEDED = "need a real control plane: KUBEBUILDER_ASSETS (setup-envtest fills it) and make e2e"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real: needs kube-apiserver, that of --control-plane=envtest")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a real control plane one skip speaks for all tests that need it."""
    real = [item for item in items if item.get_closest_marker("real")]
    if not real or config.getoption("--control-plane") == "envtest":
        return
    first, *others = real
    first.add_marker(pytest.mark.skip(reason=f"{len(real)} tests {_NEEDED}"))
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A region and a cluster: what settings need beside the flags of the chart."""
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    kubeconfig = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://k.example"}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealStage]:
    """One for the whole session; whoever installs the release uninstalls it."""
    with real_stage(tmp_path_factory.mktemp("real"), grace=GRACE) as stage:
        yield stage


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest) -> Stage:
    """Of the control plane that was chosen."""
    chosen = request.config.getoption("--control-plane")
    if chosen == "existing":
        pytest.skip("whose requests reach an existing cluster only its owner can record: embedded or envtest")
    if chosen == "envtest":
        real: RealStage = request.getfixturevalue("real")
        return real
    world: World = request.getfixturevalue("world")
    return EmbeddedStage(world)
