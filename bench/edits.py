"""How long it takes until statuses tell of a policy that was edited, and of a namespace whose labels changed."""

import time
from collections.abc import Awaitable
from dataclasses import dataclass

from bench.fleet import namespace_of
from bench.lab import Lab
from bench.tenants import LABEL, Home, Tenants, queues_of


@dataclass(frozen=True, slots=True)
class Edit:
    """From sending the change to the first and to the last of the statuses of `objects` that a watch shows."""

    objects: int
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Edits:
    """A policy that admits none of its jobs any more, and does again; a namespace that goes to another team."""

    tightened: Edit
    loosened: Edit
    relabelled: Edit


async def edits(lab: Lab, tenants: Tenants) -> Edits:
    """All is as before in the end, and the operator has told so."""
    team = tenants.homes[0].team or ""
    # From one team to another whose jobs live in the same account: what is denied is the job, not the account.
    one = next(home for home in tenants.homes if home.where.role is None)
    another = next(name for name, where in tenants.teams.items() if where == one.where and name != one.team)
    whole = _of(lab, [home for home in tenants.homes if home.team == team])
    alone = _of(lab, [one])
    tightened = await _denied(lab, whole, lab.kube.patch_policy(team, {"jobs": {"queues": ["nobody-*"]}}))
    loosened = await _shown(lab, whole, lab.kube.patch_policy(team, {"jobs": {"queues": [queues_of(team)]}}))
    relabelled = await _denied(lab, alone, lab.kube.label_namespace(one.namespace, {LABEL: another}))
    await _shown(lab, alone, lab.kube.label_namespace(one.namespace, {LABEL: one.team}))
    return Edits(tightened, loosened, relabelled)


def _of(lab: Lab, homes: list[Home]) -> int:
    namespaces = {home.namespace for home in homes}
    return sum(namespace_of(key) in namespaces for key in lab.fleet.live)


async def _denied(lab: Lab, objects: int, change: Awaitable[None]) -> Edit:
    async with lab.kube.watch() as sightings:
        began = time.time()
        await change
        await sightings.denials(objects, timeout=lab.patience)
    return Edit(objects, min(sightings.denied_at.values()) - began, max(sightings.denied_at.values()) - began)


async def _shown(lab: Lab, objects: int, change: Awaitable[None]) -> Edit:
    async with lab.kube.watch() as sightings:
        began = time.time()
        await change
        await sightings.statuses(objects, timeout=lab.patience)
    return Edit(objects, min(sightings.status_at.values()) - began, max(sightings.status_at.values()) - began)
