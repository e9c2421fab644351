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
        self._woken: dict[S, dict[K, None]] = {}

    def refused(self, scope: S, key: K) -> None:
        woken = self._woken.get(scope, {})
        if key in woken:
            del woken[key]
        else:
            self._refused.setdefault(scope, {})[key] = None

    def succeeded(self, scope: S, *keys: K) -> list[K]:
        """The keys to try again now. `keys`: those that succeeded."""
        waiting, woken = self._refused.pop(scope, {}), self._woken.get(scope, {})
        for key in keys if waiting or woken else ():
            waiting.pop(key, None)
            woken.pop(key, None)
        if waiting:
            self._woken.setdefault(scope, {}).update(waiting)
        return list(waiting)

    def forget(self, key: K) -> None:
        """Drop a key that nothing will try again."""
        for keys in (*self._refused.values(), *self._woken.values()):
            keys.pop(key, None)

    def clear(self) -> None:
        self._refused.clear()
        self._woken.clear()
