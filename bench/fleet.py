"""The N live jobs and the objects that name them."""

import random
from collections.abc import Collection
from functools import partial
from typing import Any, Final

from awsbatch_sandbox.batch.remote import RemoteBatch
from awsbatch_sandbox.cluster import batch_job
from bench.kube import CONNECTIONS, Kube, in_parallel

# As much in an answer of DescribeJobs as an ordinary job has: what is not mirrored has to be read over too.
_JOB: Final[dict[str, Any]] = {
    "status": "RUNNING",
    "queue": "training",
    "definition": "train:7",
    "command": ["python", "-m", "train", "--epochs", "40", "--data", "s3://datasets/images/2026/"],
    "environment": {f"SETTING_{number}": f"value-{number}" for number in range(8)},
    "tags": {"team": "vision", "cost-center": "4711"},
}


class Fleet:
    """`live` holds the job ids by object name. Objects are made and deleted as fast as the API server takes it."""

    def __init__(self, kube: Kube, batch: RemoteBatch) -> None:
        self._kube, self._batch = kube, batch
        self._chance = random.Random(1)  # noqa: S311  (the same objects in every run)
        self._made = 0
        self.live: dict[str, str] = {}
        self._ended: list[str] = []

    async def grow(self, count: int) -> None:
        job_ids = self._batch.seed_many(count, name="train", **_JOB)
        new = {f"bench-{self._made + number:06}": job_id for number, job_id in enumerate(job_ids)}
        self._made += count
        bodies = (batch_job(name, job_id) for name, job_id in new.items())
        await in_parallel(CONNECTIONS, (partial(self._kube.create, body) for body in bodies))
        self.live |= new

    def take(self, count: int) -> dict[str, str]:
        """Some objects that are about to be terminated: they count as live no more."""
        names = self._chance.sample(sorted(self.live), count)
        self._ended += names
        return {name: self.live.pop(name) for name in names}

    def oldest(self, count: int) -> dict[str, str]:
        """The objects that live longest and are about to end: they count as live no more."""
        return {name: self.live.pop(name) for name in list(self.live)[:count]}

    async def replace(self, ended: Collection[str]) -> None:
        """New jobs and objects in the place of these."""
        await in_parallel(CONNECTIONS, (partial(self._kube.delete, name) for name in ended))
        await self.grow(len(ended))

    async def renew(self) -> None:
        """New jobs and objects in the place of those that ended; returns once they have a status."""
        ended, self._ended = self._ended, []
        patience = 60 + len(ended) / 20
        async with self._kube.watch() as sightings:
            await in_parallel(CONNECTIONS, (partial(self._kube.delete, name) for name in ended))
            await sightings.deletions(len(ended), timeout=patience)
            sightings.status_at.clear()
            await self.grow(len(ended))
            await sightings.statuses(len(ended), timeout=patience)

    async def clear_statuses(self) -> None:
        await in_parallel(CONNECTIONS, (partial(self._kube.patch_status, name, None) for name in self.live))
