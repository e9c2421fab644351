"""The N live jobs and the objects that name them."""

import random
from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, Final

from awsbatch_sandbox.batch.remote import RemoteBatch
from awsbatch_sandbox.cluster import batch_job
from bench.kube import CONNECTIONS, Kube, in_parallel
from bench.tenants import ALONE, Home, Where

# As large as an ordinary job in an answer of DescribeJobs: fields that are not mirrored must be skipped too.
JOB: Final[dict[str, Any]] = {
    "status": "RUNNING",
    "queue": "training",
    "definition": "train:7",
    "command": ["python", "-m", "train", "--epochs", "40", "--data", "s3://datasets/images/2026/"],
    "environment": {f"SETTING_{number}": f"value-{number}" for number in range(8)},
    "tags": {"team": "vision", "cost-center": "4711"},
}


class Fleet:
    """`live`: the job ids by `namespace/name`. Objects are created and deleted as fast as the API server allows.

    `first` is the number of the first object: two fleets of one sandbox must not share numbers.
    """

    def __init__(self, kube: Kube, batch: RemoteBatch, homes: Sequence[Home] = ALONE, *, first: int = 0) -> None:
        self._kube, self._batch, self._homes = kube, batch, homes
        self._where = {home.namespace: home.where for home in homes}
        self._chance = random.Random(1)  # noqa: S311  (the same objects in every run)
        self._made = first
        self.live: dict[str, str] = {}
        self._ended: list[str] = []

    @property
    def spread(self) -> Counter[Where]:
        """The number of live jobs by account and role."""
        return Counter(self._where[namespace_of(key)] for key in self.live)

    async def grow(self, count: int, homes: Sequence[Home] = ()) -> None:
        """Create objects in these homes in turn, or in all."""
        homes = homes or self._homes
        bodies: list[tuple[str, dict[str, Any]]] = []
        for turn, home in enumerate(homes):
            numbers = range(self._made + turn, self._made + count, len(homes))
            names = [f"bench-{number:06}" for number in numbers]
            if not names:
                continue
            job_ids = self._batch.seed_many(len(names), **{"name": "train", **JOB, **home.job})
            bodies += [(home.namespace, batch_job(name, job_id)) for name, job_id in zip(names, job_ids, strict=True)]
        self._made += count
        await in_parallel(CONNECTIONS, (partial(self._kube.create, *body) for body in bodies))
        self.live |= {f"{namespace}/{body['metadata']['name']}": body["spec"]["jobId"] for namespace, body in bodies}

    def take(self, count: int, namespace: str = "") -> dict[str, str]:
        """Choose objects of that namespace, or of all, to terminate: they no longer count as live."""
        known = sorted(key for key in self.live if namespace in ("", namespace_of(key)))
        keys = self._chance.sample(known, count)
        self._ended += keys
        return {key: self.live.pop(key) for key in keys}

    def oldest(self, count: int) -> dict[str, str]:
        """Choose the oldest objects, whose jobs are about to end: they no longer count as live."""
        return {key: self.live.pop(key) for key in list(self.live)[:count]}

    async def replace(self, ended: Collection[str]) -> None:
        """Create new jobs and objects to replace these."""
        await in_parallel(CONNECTIONS, (partial(self._kube.delete, key) for key in ended))
        await self.grow(len(ended))

    async def renew(self) -> None:
        """Create new jobs and objects to replace those that ended; returns once they have a status."""
        await self.grow_seen(await self.drop())

    async def drop(self) -> int:
        """Delete the objects of jobs that ended; returns their number once all are gone."""
        ended, self._ended = self._ended, []
        async with self._kube.watch() as sightings:
            await in_parallel(CONNECTIONS, (partial(self._kube.delete, key) for key in ended))
            await sightings.deletions(len(ended), timeout=_patience(len(ended)))
        return len(ended)

    async def grow_seen(self, count: int, homes: Sequence[Home] = ()) -> None:
        """Returns once the new objects have a status."""
        async with self._kube.watch() as sightings:
            await self.grow(count, homes)
            await sightings.statuses(count, timeout=_patience(count))

    async def clear_statuses(self) -> None:
        await in_parallel(CONNECTIONS, (partial(self._kube.patch_status, key, None) for key in self.live))


def namespace_of(key: str) -> str:
    return key.partition("/")[0]


def _patience(count: int) -> float:
    """Seconds."""
    return 60 + count / 20
