"""Kopf's settings, each with its reason. Figures behind them were measured on a real API server."""

import itertools
from collections.abc import Iterator
from typing import Any

import kopf

from awsbatch_operator.kube.names import GROUP


class EndlessBackoffs:
    """1, 2 and then 4 s for ever: an upgraded control plane must not end the operator, nor leave it blind for long.

    Re-iterable, since Kopf shares the one object among all its requests.
    """

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1, 2), itertools.repeat(4))


class NoDiffBase(kopf.DiffBaseStorage):
    """What an object was when it was last handled: nobody here asks.

    Kopf builds it for every event all the same, a third of what an event costs: by copies of the whole object.
    """

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is kept in objects."""


class NoProgress(kopf.ProgressStorage):
    """How far a handler got with an object: an event handler is never tried again."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is kept in objects."""

    purge = touch = store

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def make_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True  # peering is no lock; a Lease says who acts
    settings.scanning.disabled = True  # one known resource: no watch on CRDs and namespaces, no right to list them
    settings.posting.enabled = False  # Events are ours: one per transition, aggregated
    settings.queueing.worker_limit = None  # a limit makes throughput limit/idle_timeout: minutes for 10,000 objects
    # Seconds that two tasks linger after an object's last event: at half a second a first list of 10,000 has most of
    # its tasks alive at once, 8 MiB that never come back, and ends them no cheaper.
    settings.queueing.idle_timeout = 0.05
    settings.queueing.exit_timeout = 1.0
    settings.watching.server_timeout = 300  # seconds; a watch ends in time for a fresh login
    settings.watching.client_timeout = 330
    # A list in pages: 10,000 objects at once are 60 MiB that never come back. A page that has expired (410) ends Kopf,
    # and so the process, which starts anew; but a page lives for five minutes, and the whole list takes seconds.
    settings.watching.chunk_size = 500
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 60
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = EndlessBackoffs()
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    # No handler here asks for a finalizer, and Kopf strips its own name where no handler wants it: keep off others'.
    settings.persistence.finalizer = f"{GROUP}/kopf-unused"
    return settings
