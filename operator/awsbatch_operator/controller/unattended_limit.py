"""Limits the terminations that no person asks for at that moment, by a deadline or onDelete: an error ends few jobs."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from awsbatch_operator.api.job import Target

WINDOW: Final = 600.0
"""Seconds in which at most `limit` terminations of a target are sent."""
NAMESPACE_PART: Final = 5
"""A namespace has this part of the limit: a fifth."""

Group = tuple[Target, str]
"""A target, and a namespace in it; an empty one stands for all."""


class UnattendedLimit:
    """Places for terminations, of a target and of a namespace in it.

    An object that finds none waits; the namespace that has used the fewest places comes first.
    A place is taken before the request is queued and counts from the acceptance on for ten minutes. `on_place` decides
    an object again that has waited. All in the memory of this process.
    """

    def __init__(self, limit: int, on_place: Callable[[str, str], None]) -> None:
        self.limit, self._on_place = limit, on_place
        self._clock = asyncio.get_running_loop().time
        self._sent: dict[Group, deque[float]] = {}
        self._places: dict[str, Group] = {}
        self._taken: Counter[Group] = Counter()
        self._waiting: dict[Target, dict[str, dict[str, None]]] = {}
        self._waits: dict[str, Group] = {}

    @property
    def namespace_limit(self) -> int:
        return max(self.limit // NAMESPACE_PART, 1)

    def admits(self, uid: str, target: Target, namespace: str) -> bool:
        """Return whether the object has a place, or gets one now. Without one it waits for it."""
        group = (target, namespace)
        if group not in (self._places.get(uid), self._waits.get(uid)):
            self.withdraw(uid)
            self._waits[uid] = group
            self._waiting.setdefault(target, {}).setdefault(namespace, {})[uid] = None
            self._grant(target, asking=uid)
        return uid in self._places

    def withdraw(self, uid: str) -> None:
        """Drop the place of an object, and its wait for one: it sends nothing."""
        waits = self._waits.pop(uid, None)
        if waits is not None:
            self._stop_waiting(uid, waits)
        target = self._free(uid)
        if target is not None:
            self._grant(target)

    def sent(self, uid: str, target: Target, namespace: str) -> None:
        """Count a termination that AWS Batch accepted."""
        self._free(uid)
        for group in ((target, ""), (target, namespace)):
            self._sent.setdefault(group, deque()).append(self._clock())

    def grant(self) -> None:
        """Give the places that time has freed to those that wait. Called regularly."""
        for target in list(self._waiting):
            self._grant(target)

    def waiting(self) -> int:
        return len(self._waits)

    def clear(self) -> None:
        """Drop all places and waits. What was sent still counts."""
        for of_all in (self._places, self._taken, self._waiting, self._waits):
            of_all.clear()

    def _free(self, uid: str) -> Target | None:
        group = self._places.pop(uid, None)
        if group is None:
            return None
        self._taken.subtract((group, (group[0], "")))
        return group[0]

    def _grant(self, target: Target, asking: str = "") -> None:
        """Give free places of the target to those that wait; first to the namespace that has used the fewest."""
        while (waiting := self._waiting.get(target)) and self._used((target, "")) < self.limit:
            used = {namespace: self._used((target, namespace)) for namespace in waiting}
            namespace = min(used, key=lambda one: used[one])
            if used[namespace] >= self.namespace_limit:
                return
            uid = next(iter(waiting[namespace]))
            self._stop_waiting(uid, self._waits.pop(uid))
            self._places[uid] = (target, namespace)
            self._taken.update(((target, namespace), (target, "")))
            if uid != asking:
                self._on_place(uid, namespace)

    def _stop_waiting(self, uid: str, group: Group) -> None:
        target, namespace = group
        namespaces = self._waiting[target]
        del namespaces[namespace][uid]
        if not namespaces[namespace]:
            del namespaces[namespace]
        if not namespaces:
            del self._waiting[target]

    def _used(self, group: Group) -> int:
        sent = self._sent.get(group)
        while sent and sent[0] <= self._clock() - WINDOW:
            sent.popleft()
        if sent is not None and not sent:
            del self._sent[group]
        return len(sent or ()) + self._taken[group]
