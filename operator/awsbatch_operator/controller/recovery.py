"""Retries denied calls once the same kind of call with the same credentials succeeds again.

A missing permission or broken credentials delay a call for minutes. When they are fixed, the first successful call
shows it: every call that was denied for the same scope is retried once, in turn. A call that is denied again waits for
its own retry, so that lasting denials beside successes cost one extra call each.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)
K = TypeVar("K", bound=Hashable)


class Recovery(Generic[S, K]):
    """Keys of denied calls, by scope: the kind of call and the credentials, or the namespace of a write."""

    def __init__(self) -> None:
        self._refused: dict[S, dict[K, None]] = {}
        self._woken: dict[S, set[K]] = {}

    def refused(self, scope: S, key: K) -> None:
        woken = self._woken.get(scope)
        if woken is not None and key in woken:
            woken.discard(key)
        else:
            self._refused.setdefault(scope, {})[key] = None

    def succeeded(self, scope: S, *keys: K) -> list[K]:
        """The keys to try again now. `keys`: those that succeeded."""
        woken = self._woken.get(scope)
        if woken:
            woken.difference_update(keys)
        waiting = self._refused.pop(scope, None)
        if not waiting:
            return []
        for key in keys:
            waiting.pop(key, None)
        self._woken.setdefault(scope, set()).update(waiting)
        return list(waiting)

    def clear(self) -> None:
        self._refused.clear()
        self._woken.clear()
