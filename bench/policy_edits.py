"""The time until statuses show an edited policy, and a namespace with changed labels."""

import time
from collections.abc import Awaitable
from dataclasses import dataclass

from bench.fleet import namespace_of
from bench.harness import Harness
from bench.tenants import LABEL, Home, Tenants, queues_of


@dataclass(frozen=True, slots=True)
class Edit:
    """Times from sending the change to the first and the last status of `objects` in a watch."""

    objects: int
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Edits:
    """A policy that stops admitting its jobs, and admits them again; a namespace that moves to another team."""

    tightened: Edit
    loosened: Edit
    relabelled: Edit


async def edits(harness: Harness, tenants: Tenants) -> Edits:
    """Everything is as before at the end, and the statuses show it."""
    team = tenants.homes[0].team or ""
    # From one team to another whose jobs are in the same account: the job is denied, not the account.
    one = next(home for home in tenants.homes if home.where.role is None)
    another = next(name for name, where in tenants.teams.items() if where == one.where and name != one.team)
    whole = _of(harness, [home for home in tenants.homes if home.team == team])
    alone = _of(harness, [one])
    tightened = await _denied(harness, whole, harness.kube.patch_policy(team, {"jobs": {"queues": ["none-*"]}}))
    loosened = await _shown(harness, whole, harness.kube.patch_policy(team, {"jobs": {"queues": [queues_of(team)]}}))
    relabelled = await _denied(harness, alone, harness.kube.label_namespace(one.namespace, {LABEL: another}))
    await _shown(harness, alone, harness.kube.label_namespace(one.namespace, {LABEL: one.team}))
    return Edits(tightened, loosened, relabelled)


def _of(harness: Harness, homes: list[Home]) -> int:
    namespaces = {home.namespace for home in homes}
    return sum(namespace_of(key) in namespaces for key in harness.fleet.live)


async def _denied(harness: Harness, objects: int, change: Awaitable[None]) -> Edit:
    async with harness.kube.watch() as sightings:
        began = time.time()
        await change
        await sightings.denials(objects, timeout=harness.patience)
    return Edit(objects, min(sightings.denied_at.values()) - began, max(sightings.denied_at.values()) - began)


async def _shown(harness: Harness, objects: int, change: Awaitable[None]) -> Edit:
    async with harness.kube.watch() as sightings:
        began = time.time()
        await change
        await sightings.statuses(objects, timeout=harness.patience)
    return Edit(objects, min(sightings.status_at.values()) - began, max(sightings.status_at.values()) - began)
