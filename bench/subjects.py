"""The measured operators, each as its own process in the same sandbox."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from awsbatch_sandbox.operator_process import OperatorProcess, operator_environment
from awsbatch_sandbox.processes import Child
from awsbatch_sandbox.world import World

_NAIVE_OPERATOR: Final = Path(__file__).with_name("naive_operator.py")


class Subject(Protocol):
    @property
    def pid(self) -> int: ...
    @property
    def running(self) -> bool: ...
    def launch(self) -> None: ...
    def stop(self) -> int: ...
    def kill9(self) -> None: ...
    def last_words(self) -> str: ...


class NaiveOperator:
    """bench/naive_operator.py under `kopf run`. `poll_every`: seconds from one poll of an object to the next."""

    def __init__(self, world: World, *, poll_every: float = 10.0) -> None:
        argv = [sys.executable, "-m", "kopf", "run", "--all-namespaces", "--quiet", str(_NAIVE_OPERATOR)]
        environment = operator_environment(world.control_plane.kubeconfig, world.cache, world.batch.url)
        environment["POLL_EVERY"] = str(poll_every)
        self._child = Child("naive operator", argv, log=world.directory / "naive_operator.log", environment=environment)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.running

    def launch(self) -> None:
        self._child.start()

    def stop(self) -> int:
        return self._child.stop()

    def kill9(self) -> None:
        self._child.kill()

    def last_words(self) -> str:
        return self._child.last_words()


def ours(world: World, flags: Sequence[str] = ()) -> OperatorProcess:
    """`awsbatch-operator run` with its defaults, but for these flags."""
    return OperatorProcess(world.environment, world.directory, flags)


def status_writes(operator: OperatorProcess) -> float:
    """The number of status writes since its start, by its own metric."""
    return _sum(operator, "awsbatch_operator_status_writes_total")


def tracked(operator: OperatorProcess) -> float:
    """The number of objects that it knows, by its own metric."""
    return _sum(operator, "awsbatch_operator_jobs")


def _sum(operator: OperatorProcess, metric: str) -> float:
    return sum(value for _, value in operator.metrics().get(metric, []))


@contextmanager
def launched(subject: Subject) -> Iterator[None]:
    """Run it during the block, restarts included."""
    subject.launch()
    try:
        yield
    except TimeoutError as late:
        raise TimeoutError(f"{late}; the operator's last output:\n{subject.last_words()}") from late
    finally:
        if subject.running:
            subject.stop()
