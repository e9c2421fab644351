"""Plays a plan in a world: strikes replicas, network, API server and Batch; does what actors do; keeps the ledger."""

import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.controlplane import Embedded
from awsbatch_sandbox.world import World
from chaos.events import EventsScript
from chaos.ledger import Ledger, Strike
from chaos.plan import BOTH, LEADER, Step
from chaos.record import Call
from chaos.replicas import Replica
from chaos.script import Script
from proxy import Network

_TICK: Final = 0.02
_CHECK_EVERY: Final = 0.25
_LOOK_EVERY: Final = 1.0
_LEADERLESS: Final = 3.0
"""Seconds: a hand-over takes about two."""
_BATCHJOBS: Final = "batchjobs$"


class Player:
    def __init__(
        self,
        world: World,
        clusters: Sequence[Cluster],
        network: Network,
        replicas: Sequence[Replica],
        ledger: Ledger,
    ) -> None:
        self._world, self._network, self.replicas, self._ledger = world, network, replicas, ledger
        self.calls: list[Call] = []
        self.counts: Counter[str] = Counter()
        self._later: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._known: dict[str, str] = {}
        self._broken: dict[str, float] = {}
        self._script = Script(world, clusters, ledger)
        jobs = ledger.objects.values()
        self.events = EventsScript(world, ledger.messages, lambda: [one.job_id for one in jobs if one.exists], self._in)
        self._looked_at = 0.0

    @property
    def clusters(self) -> Sequence[Cluster]:
        return self._script.clusters

    def close(self) -> None:
        self._script.close()

    # -- time ----------------------------------------------------------------------------------------------------------

    def play(self, steps: Sequence[Step], *, until: float) -> None:
        """Run the steps at their times; return `until` seconds after the begin, or once all faults have ended."""
        began = time.time()
        for step in steps:
            self.rest(began + step.at)
            self._do(step)
        self.rest(began + until)
        while self._later:
            # To its end: a leader that is thawed before its Lease has run out has not lost anything.
            self.rest(self._later[0][0])
        self._end_faults()

    def rest(self, until: float) -> None:
        """Let time go by, but tend to the replicas and to what was to be done later."""
        while True:
            now = time.time()
            while self._later and self._later[0][0] <= now:
                heapq.heappop(self._later)[2]()
            for replica in self.replicas:
                replica.tend(now)
            if now - self._looked_at >= _LOOK_EVERY:
                self._looked_at = now
                self._script.look_for_deleted()
                self._script.look_for_ends()
            if now >= until:
                return
            time.sleep(_TICK)

    def _end_faults(self) -> None:
        """The storm is over: what has no end of its own ends now."""
        for replica in self.replicas:
            self._network.do(replica.proxy.open())
        self._world.batch.clear_faults()
        self._world.batch.limit(None)
        self.events.calm()

    def read(self) -> None:
        """Take over what the simulator has recorded since the last time."""
        # A call that had no answer when it was read has to be read again.
        open_since = next((place for place, call in enumerate(self.calls) if call.answered_at is None), None)
        if open_since is not None:
            del self.calls[open_since:]
        since = self.calls[-1].n if self.calls else 0
        self.calls += [Call.from_json(raw, self._known) for raw in self._world.batch.calls(since=since)]

    def _in(self, seconds: float, action: Callable[[], object]) -> None:
        heapq.heappush(self._later, (time.time() + seconds, next(self._order), action))

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _do(self, step: Step) -> None:
        own: Callable[[Step], object] = getattr(self, f"_{step.kind}", self._trouble_events)
        action = self._script.actions.get(step.kind, own)
        if action(step) is not False:
            self.counts[f"{step.kind}:{step.detail['kind']}" if step.kind == "fault" else step.kind] += 1

    def _chosen(self, role: str) -> Sequence[Replica]:
        if role == BOTH:
            return self.replicas
        leading = self._leading()
        return [one for one in self.replicas if (one is leading) == (role == LEADER)]

    def _leading(self) -> Replica:
        """Wait a little for a leader; without one, return the replica that called Batch last."""
        until = time.time() + _LEADERLESS
        while time.time() < until:
            for replica in self.replicas:
                if replica.is_leader():
                    return replica
            self.rest(time.time() + _CHECK_EVERY)
        self.read()
        key = self.calls[-1].access_key if self.calls else ""
        return next((one for one in self.replicas if key.startswith(f"{one.name}-")), self.replicas[0])

    def _kill(self, step: Step) -> None:
        for replica in self._chosen(step.target):
            replica.kill()

    def _term(self, step: Step) -> None:
        for replica in self._chosen(step.target):
            replica.terminate()

    def _freeze(self, step: Step) -> None:
        for replica in self._chosen(step.target):
            life = replica.freeze(step.seconds)
            if life is not None:
                self._in(step.seconds, partial(replica.thaw, life))

    def _crash_in_call(self, _step: Step) -> None:
        """The leader dies between Batch's yes and its own note of it."""
        self._world.batch.fault("*", kind="slow", seconds=1.0, act_then=True, times=2)
        self._in(0.5, lambda: self._kill(Step(at=0, kind="kill", target=LEADER)))

    def _lost_in_call(self, step: Step) -> None:
        """The leader can't write down what Batch says yes to."""
        self._world.batch.fault("*", kind="slow", seconds=1.0, act_then=True, times=2)
        self._in(0.5, lambda: self._refuse(Step(at=0, kind="refuse", target=LEADER, seconds=step.seconds)))

    # -- the proxies, and the API server -----------------------------------------------------------------

    def _hang(self, step: Step) -> None:
        self._break(step, lambda replica: replica.proxy.hang(), cut=step.detail.get("cut", True))

    def _refuse(self, step: Step) -> None:
        self._break(step, lambda replica: replica.proxy.refuse(), cut=False)

    def _cut(self, step: Step) -> None:
        for replica in self._chosen(step.target):
            replica.strike("cut", 0.0)
            self._network.do(replica.proxy.cut())

    def _break(self, step: Step, how: Callable[[Replica], Coroutine[Any, Any, None]], *, cut: bool) -> None:
        for replica in self._chosen(step.target):
            replica.strike(step.kind, step.seconds)
            self._network.do(how(replica))
            self._broken[replica.name] = max(self._broken.get(replica.name, 0.0), time.time() + step.seconds)
            self._in(step.seconds, partial(self._mend, replica, cut=cut))

    def _mend(self, replica: Replica, *, cut: bool) -> None:
        if time.time() < self._broken[replica.name]:
            return  # a longer break goes on
        if cut:
            self._network.do(replica.proxy.cut())
        self._network.do(replica.proxy.open())

    def _restart(self, step: Step) -> None:
        self._note("restart", step.seconds)
        with self._world.api_server_away(step.seconds):
            pass
        self._note("restart", 0.0)

    def _watches_cut(self, _step: Step) -> bool:
        return self._order_api("cut", {})

    def _gone_in_stream(self, _step: Step) -> bool:
        return self._order_api("cut", {"expired": True})

    def _gone_on_watch(self, _step: Step) -> bool:
        fault = {"method": "GET", "path_regex": _BATCHJOBS, "status": 410, "times": 2}
        self._note("gone", 0.0)
        return (
            self._order_api("fault", fault | {"query_regex": "watch="})
            and self._order_api("expire", {})
            and self._order_api("cut", {})
        )

    def _gone_on_page(self, _step: Step) -> bool:
        fault = {"method": "GET", "path_regex": _BATCHJOBS, "query_regex": "continue=", "status": 410, "times": 1}
        return self._order_api("fault", fault)

    def _order_api(self, order: str, body: dict[str, Any]) -> bool:
        """False: this control plane takes no orders."""
        plane = self._world.control_plane
        if not isinstance(plane, Embedded):
            return False
        self._note("cut", 0.0)
        plane.order(order, **body)
        return True

    def _note(self, kind: str, seconds: float) -> None:
        now = time.time()
        self._ledger.strikes.append(Strike(kind, "", now, now + seconds))

    # -- Batch ---------------------------------------------------------------------------------------------------------

    def _fault(self, step: Step) -> None:
        self._world.batch.fault(**{name: value for name, value in step.detail.items() if name != "draw"})

    def _trouble_events(self, step: Step) -> bool:
        return self.events.steps[step.kind](step.seconds, step.detail)

    def _expire_tokens(self, _step: Step) -> None:
        self._world.batch.expire_tokens()

    def _limit(self, step: Step) -> None:
        self._world.batch.limit(step.detail["rate"], burst=2)
        self._in(step.seconds, lambda: self._world.batch.limit(None))

    def _jump(self, step: Step) -> None:
        jump = (time.time(), step.seconds)
        self._world.batch.advance(step.seconds)
        self._ledger.jumps.append(jump)
