"""Shared by all suites: the choice of the control plane, hypothesis profiles, and the world of integration and e2e."""

import asyncio
import gc
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

import forked
from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.processes import Child
from awsbatch_sandbox.world import World
from ownership_checks import assert_observe_only

# Modules and tests stay until the end: to search them for garbage takes half of the time of the collection.
gc.disable()

Child.starter = staticmethod(forked.start)

# looptime makes a loop when it first needs one, and nobody closes it: none set, none made, no ResourceWarning.
asyncio.set_event_loop(None)

FLAGS = ("--poll-running=500ms", "--poll-pending=500ms", "--missing-grace=600ms", "--resend-after=1s")
_TESTS = Path(__file__).parent
_WAITING = ("chaos", "integration", "e2e")
GRACE = 0.2
"""Seconds between TerminateJob and the end of a job: well before the first poll after the call, which is 1 s later."""

hypothesis.settings.register_profile(
    "thorough",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=100,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
# The first examples are the same in both: each run of a profile tries the same ones.
hypothesis.settings.register_profile("quick", parent=hypothesis.settings.get_profile("thorough"), max_examples=25)
hypothesis.settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--control-plane",
        choices=("embedded", "envtest", "existing"),
        default="embedded",
        help="where integration and e2e tests run: the embedded API server, kube-apiserver and etcd of "
        "KUBEBUILDER_ASSETS, or the cluster of KUBECONFIG",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mix files whose tests wait with files whose tests compute, so that the cores are busy from start to end.

    The ones that wait come a little earlier: no worker waits alone at the end.
    """
    files = dict.fromkeys(item.path for item in items)
    waiting = [path for path in files if path.relative_to(_TESTS).parts[0] in _WAITING]
    others = [path for path in files if path not in {*waiting}]
    place = {path: 0.85 * index / len(waiting) for index, path in enumerate(waiting)}
    place |= {path: index / len(others) for index, path in enumerate(others)}
    items.sort(key=lambda item: place[item.path])
    for item in items:
        if item.get_closest_marker("looptime"):
            # Before virtual time moves, looptime turns the loop over 42 times: for other loops than that of asyncio.
            item.add_marker(pytest.mark.looptime(noop_cycles=0))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


class _Sockets:
    """Refuses connections to anything but this machine while a unit test runs."""

    def __init__(self) -> None:
        self.guarded = False
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.guarded or event not in ("socket.connect", "socket.getaddrinfo"):
            return
        host = arguments[1][0] if event == "socket.connect" and isinstance(arguments[1], tuple) else arguments[0]
        if isinstance(host, str) and host not in ("127.0.0.1", "::1", "localhost"):
            raise RuntimeError(f"a unit test reached for {host}: only servers that it started itself may be used")


_sockets = _Sockets()


@pytest.fixture(autouse=True)
def _no_network_in_unit_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    _sockets.guarded = "/tests/unit/" in request.path.as_posix()
    yield
    _sockets.guarded = False


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """One control plane and one Batch for the whole session."""
    with World(request.config.getoption("--control-plane"), grace=GRACE, flags=FLAGS) as world:
        yield world


@pytest.fixture
def operator(world: World) -> OperatorProcess:
    """The operator, up and ready: shared by all tests, started anew after one that ended it."""
    if not world.operator.running:
        world.operator.launch()
    world.operator.wait_ready()
    return world.operator


@pytest.fixture
def cluster(world: World) -> Iterator[Cluster]:
    """A fresh namespace; afterwards every object in it is as its users wrote it, but for the status."""
    cluster = world.cluster.within(f"test-{secrets.token_hex(4)}")
    cluster.create_namespace()
    world.batch.clear_calls()
    yield cluster
    world.batch.clear_faults()
    world.batch.limit(None)
    try:
        for body in cluster.objects():
            assert_observe_only(body)
    finally:
        cluster.delete_all()
        cluster.delete_namespace()
        cluster.close()
