import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from awsbatch_sandbox.cluster import Cluster, kubectl_program
from awsbatch_sandbox.world import World
from deploy.examples import Shell
from deploy.places import DEPLOY
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
        # Without a CA of its own, each load of the settings would read all CAs of the system.
        "clusters": [{"name": "k", "cluster": {"server": "https://k.example", "insecure-skip-tls-verify": True}}],
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
    """The stage of the selected control plane."""
    chosen = request.config.getoption("--control-plane")
    if chosen == "existing":
        pytest.skip("whose requests reach an existing cluster only its owner can record: embedded or envtest")
    if chosen == "envtest":
        real: RealStage = request.getfixturevalue("real")
        return real
    world: World = request.getfixturevalue("world")
    return EmbeddedStage(world)


@pytest.fixture(scope="module")
def examples_world(world: World) -> Iterator[World]:
    """A Batch with roles and an operator that has all that the examples need, on the control plane that is there."""
    if world.operator.running:
        world.operator.stop()
    flags = (
        *("--poll-running=500ms", "--poll-pending=500ms", "--missing-grace=600ms"),
        *("--on-delete=enabled", "--cluster-name=my-cluster"),
    )
    with World(world.control_plane, grace=GRACE, roles=True, flags=flags) as own:
        own.operator.start()
        yield own


_BUSYBOX = shutil.which("busybox")
_NO_BUSYBOX = pytest.mark.skipif(_BUSYBOX is None, reason="no busybox: apt-get install busybox")
_PROGRAMS = ("awk", "date", "sleep")
"""What the scripts of the examples call beside kubectl."""


@pytest.fixture(params=[pytest.param("busybox", marks=_NO_BUSYBOX), "sh"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    """That of the images that the examples name, and that of this machine."""
    (tmp_path / "kubectl").symlink_to(kubectl_program())
    if request.param == "sh":
        return Shell(("/bin/sh",), str(tmp_path))
    for program in _PROGRAMS:
        (tmp_path / program).symlink_to(str(_BUSYBOX))
    return Shell((str(_BUSYBOX), "sh"), str(tmp_path))


@pytest.fixture
def guarded(world: World, cluster: Cluster) -> Iterator[Cluster]:
    """A namespace, beside the admission policy."""
    admission = str(DEPLOY / "admission/terminate-verb.yaml")
    world.cluster.kubectl("apply", "-f", admission)
    yield cluster
    cluster.kubectl("delete", "batchterminations", "--all")
    world.cluster.kubectl("delete", "-f", admission)
