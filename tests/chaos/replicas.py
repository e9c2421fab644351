"""Two replicas as a Deployment keeps them: who ends is started anew, each life a process with a name of its own."""

import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Final

from awsbatch_sandbox.operator_process import OperatorProcess, operator_environment
from awsbatch_sandbox.world import World
from chaos.invariants import Violation
from chaos.ledger import Ledger, Strike
from chaos.settled import CLEAN
from proxy import Network

DESCRIBE_RATE: Final = 25
FLAGS: Final = (
    *("--leader-elect", "--lease-namespace=default"),
    *("--poll-running=1s", "--poll-pending=1s", "--missing-grace=1s", "--resend-after=60s"),
    *(f"--describe-rate={DESCRIBE_RATE}", "--terminate-rate=25"),
    # What is shown here is not the limit: a storm may need more within ten minutes than a namespace has.
    *("--on-delete=enabled", "--unattended-limit=100000"),
)
PROMISED_EXIT: Final = 10.0
"""Seconds from SIGTERM to the end (DESIGN: exits 0 within 10 s)."""
_SLACK: Final = 3.0
"""Seconds more, for a machine that is busy with other tests."""
_BACK_OFF: Final = 0.5
"""Seconds between the end of a life and the next one."""
_GONE: Final = 150.0
"""Seconds in which a watch request meets the 410 that was ordered for it (a frozen process, or one that is cut off, is
late): Kopf ends on it, and the process too."""
_LEADS: Final = "\nawsbatch_operator_leader 1.0"
_EXPECTED: Final = re.compile("HTTP 410|continue parameter is too old")
"""What Kopf ends on: a 410 to a watch request or to a page of the list, ordered or, when the storm expires the server's
history between two pages, the server's own."""
_UNHANDLED: Final = re.compile(r"Task exception was never retrieved|Traceback \(most recent call last\)")


class Life:
    """One process. `key`: its access key id, by which the simulator's record names it."""

    def __init__(self, key: str, process: OperatorProcess) -> None:
        self.key, self.process = key, process
        self.was_ready = self.frozen = False
        self.seen_at = 0.0
        self.asked_at: float | None = None
        self.killed = False

    @property
    def running(self) -> bool:
        return self.process.running


class Replica:
    """`proxy` stands between it and the API server. `flags` come after FLAGS."""

    def __init__(self, name: str, world: World, network: Network, ledger: Ledger, flags: Sequence[str]) -> None:
        self.name, self._world, self._ledger = name, world, ledger
        self._flags = (*FLAGS, *flags)
        self.directory = world.directory / name
        self.directory.mkdir()
        self._kubeconfig = self.directory / "kubeconfig"
        self.proxy = network.before(world.control_plane.kubeconfig, self._kubeconfig)
        self.lives: list[Life] = []
        self.faults: list[Violation] = []
        self._start_at: float | None = 0.0

    @property
    def life(self) -> Life:
        return self.lives[-1]

    def tend(self, now: float) -> None:
        """Notice the end of a life, begin the next one when its time has come."""
        if self._start_at is None and self.life.running:
            self.life.seen_at = now
        if self._start_at is None and not self.life.running:
            self._ended(self.life, now)
            self._start_at = now + _BACK_OFF
        elif self._start_at is not None and now >= self._start_at:
            self._begin()
        elif not self.life.was_ready and not self.life.frozen:
            self.life.was_ready = self.ready()
        asked_at = None if self._start_at is not None else self.life.asked_at
        if asked_at is not None and not self.life.frozen and now - asked_at > PROMISED_EXIT + _SLACK:
            self._fault(f"{self.life.key} did not end within {PROMISED_EXIT:g} s of SIGTERM")
            self.kill()

    def ready(self) -> bool:
        return self.life.running and self.life.process.get("/readyz")[0] == 200

    def is_leader(self) -> bool:
        """By its own word; a frozen one is not asked, it would not answer."""
        return self.life.running and not self.life.frozen and _LEADS in self.life.process.get("/metrics")[1]

    def kill(self) -> None:
        if self.life.running:
            self.strike("kill", 0.0)
            self.life.killed = True
            self.life.process.kill9()

    def terminate(self) -> None:
        if self.life.running and self.life.asked_at is None:
            self.life.asked_at = time.time()
            self.strike("term", PROMISED_EXIT)
            self._signal(signal.SIGTERM)

    def freeze(self, seconds: float) -> Life | None:
        """SIGSTOP; None when there is nothing to freeze. The player thaws what it gets, in time."""
        if not self.life.running or self.life.frozen:
            return None
        self.strike("freeze", seconds)
        self.life.frozen = True
        self._signal(signal.SIGSTOP)
        return self.life

    def thaw(self, life: Life) -> None:
        if life.running and life.frozen:
            os.kill(life.process.pid, signal.SIGCONT)
            if life.asked_at is not None:
                life.asked_at = time.time()
        life.frozen = False

    def end(self) -> None:
        """For good."""
        if self.lives and self.life.running:
            self.life.process.kill9()

    def output(self) -> str:
        return self.lives[0].process.output() if self.lives else ""

    def unhandled(self) -> Iterator[Violation]:
        """Yield a violation for each log line that no log may contain."""
        for line in self.output().splitlines():
            if _UNHANDLED.search(line) and not _EXPECTED.search(line):
                yield Violation(CLEAN, f"{self.name} logged {line[:2000]}")

    def _begin(self) -> None:
        key = f"{self.name}-{len(self.lives) + 1}"
        environment = operator_environment(self._kubeconfig, self._world.cache, self._world.batch.url)
        process = OperatorProcess(environment | {"AWS_ACCESS_KEY_ID": key}, self.directory, self._flags)
        process.launch()
        self.lives.append(Life(key, process))
        self._start_at = None

    def _ended(self, life: Life, now: float) -> None:
        code = life.process.exit_code
        if life.killed:
            return
        # It may have ended long ago: the player may have been at something else.
        self._ledger.strikes.append(Strike("ended", life.key, life.seen_at, now))
        # A process that has not come to install its handlers yet dies of the signal.
        if life.asked_at is not None and (code == 0 or not life.was_ready):
            return
        refused = self._ledger.struck(("gone",), life.key, now - _GONE, now)
        if life.was_ready and not (refused and code == 1):
            self._fault(f"{life.key} ended with exit code {code}: {life.process.last_words()}")

    def _fault(self, text: str) -> None:
        self.faults.append(Violation(CLEAN, text))

    def strike(self, kind: str, seconds: float) -> None:
        now = time.time()
        self._ledger.strikes.append(Strike(kind, self.life.key, now, now + seconds))

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self.life.process.pid, number)
