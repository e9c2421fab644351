"""The places that are in use: for each its lanes, its clients and its share of what its account grants."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from awsbatch_operator.aws.calls import Caller, Seat
from awsbatch_operator.aws.clients import OWN_THREADS, THREADS, Clients, MakeClient
from awsbatch_operator.aws.identity import Identity
from awsbatch_operator.aws.keyring import Key, Keyring, PickKey
from awsbatch_operator.aws.limits import Budget
from awsbatch_operator.domain.errors import Fault
from awsbatch_operator.domain.job import Place, account_of
from awsbatch_operator.domain.ports import Telemetry, Whose

Connect = Callable[[PickKey | None], MakeClient]
"""From what gives a call's key, None for the operator's own credentials, to what makes clients that sign with it."""

IDLE_AFTER: Final = 900.0
"""Seconds without a call after which a place is closed: its policy is gone, or all of its jobs are, or have ended."""

_SWEEP_EVERY: Final = 60.0


def _threads(lane: str, most: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(most, thread_name_prefix=lane)


class Reach:
    """How one place is reached. A lane that hangs in one holds up neither its other lane nor another place."""

    def __init__(self, looks: Caller, terminations: Caller) -> None:
        self.looks, self.terminations = looks, terminations
        self.used_at = 0.0

    @property
    def busy(self) -> bool:
        return self.looks.busy > 0 or self.terminations.busy > 0

    def close(self) -> None:
        self.looks.close()
        self.terminations.close()


class Places:
    """Made on demand, closed when idle. For the event loop's thread alone."""

    def __init__(
        self,
        connect: Connect,
        identity: Identity,
        telemetry: Telemetry,
        *,
        cluster: str,
        budget: Callable[[], Budget],
    ) -> None:
        self._connect, self._identity, self._telemetry = connect, identity, telemetry
        self._keyring, self._make_budget = Keyring(cluster), budget
        # The operator's own credentials are one and the same in every region.
        self._own = Seat(Clients(partial(connect, None)))
        # And so are their threads: a region is what anybody writes into a spec, also one that there is not.
        self._own_threads = {lane: _threads(lane, OWN_THREADS) for lane in ("look", "terminate")}
        self._reaches: dict[Place, Reach] = {}
        self._budgets: dict[tuple[str, str], Budget] = {}
        self._labels: dict[Place, Whose] = {}
        self._swept_at = float("-inf")
        self.home: Place | None = None
        """The one that stays, however long nobody calls: the operator's own region."""

    def at(self, place: Place) -> Reach:
        now = asyncio.get_running_loop().time()
        self._sweep(now)
        if place not in self._reaches:
            self._reaches[place] = self._made(place)
        self._reaches[place].used_at = now
        return self._reaches[place]

    def account(self, place: Place) -> str | None:
        return account_of(place.role) if place.role else self._identity.account

    def budget(self, place: Place) -> Budget:
        """That of the account and region which grant the calls."""
        key = self._granting(place)
        if key not in self._budgets:
            # What was found of the operator's own account before it had a name.
            ours = key[0] == self._identity.named
            unnamed = self._budgets.pop(("", place.region), None) if ours else None
            self._budgets[key] = unnamed or self._make_budget()
        return self._budgets[key]

    def whose(self, place: Place) -> Whose:
        """The labels of the place's figures."""
        if place.role is None:
            now = Whose(self._identity.named, place.region, "")
        else:
            now = Whose(account_of(place.role) or "", place.region, place.role.rpartition("/")[2])
        before = self._labels.get(place)
        if before is not None and before != now:
            self._telemetry.unused(before)
        self._labels[place] = now
        return now

    def trouble(self, place: Place) -> Fault | None:
        return self._keyring.trouble(place)

    def close(self) -> None:
        for reach in self._reaches.values():
            reach.close()
        self._own.clients.close()

    def _made(self, place: Place) -> Reach:
        looking, ending = self._seat(place, self._keyring.looking), self._seat(place, self._keyring.ending)
        return Reach(
            self._caller("look", place, looking, lambda: self.budget(place).look_throttled()),
            self._caller("terminate", place, ending, lambda: self.budget(place).termination_throttled()),
        )

    def _caller(self, lane: str, place: Place, seat: Seat, throttled: Callable[[], None]) -> Caller:
        threads = self._own_threads[lane] if seat is self._own else _threads(lane, THREADS)
        whose = partial(self.whose, place)
        return Caller(lane, place, seat, self._telemetry, whose=whose, throttled=throttled, threads=threads)

    def _seat(self, place: Place, key: Callable[[Place], Key]) -> Seat:
        if place.role is None or place.policy is None:
            return self._own
        pick = partial(key, place)
        return Seat(Clients(partial(self._connect, pick)), pick)

    def _sweep(self, now: float) -> None:
        if now - self._swept_at < _SWEEP_EVERY:
            return
        self._swept_at = now
        for place, reach in list(self._reaches.items()):
            if place != self.home and now - reach.used_at >= IDLE_AFTER and not reach.busy:
                self._forget(place, reach)

    def _forget(self, place: Place, reach: Reach) -> None:
        del self._reaches[place]
        if place.role is None:
            # Its threads are those of all regions.
            self._own.clients.forget(place.region)
        else:
            reach.close()
            self._keyring.forget(place)
        labels = self._labels.pop(place, None)
        # Two policies may have one role: its figures go with the last of them.
        if labels is not None and labels not in self._labels.values():
            self._telemetry.forgotten(labels)
        used = {self._granting(one) for one in self._reaches}
        self._budgets = {key: budget for key, budget in self._budgets.items() if key in used}

    def _granting(self, place: Place) -> tuple[str, str]:
        """The account and region which grant the calls of a place."""
        account = self._identity.named if place.role is None else account_of(place.role) or place.role
        return account, place.region
