"""The course of our operator where policies govern every namespace: half of them by roles in other accounts."""

import asyncio
import time
from dataclasses import dataclass

from bench import measures
from bench.contenders import launched
from bench.course import Course, Findings, Tell, default_rounds, lab_of, mass_of, short_rounds, singles, syncs_of
from bench.edits import Edits, edits
from bench.lab import Lab
from bench.measures import Mass, Sync
from bench.process import load
from bench.tenants import Tenants


@dataclass(frozen=True, slots=True)
class Ruled:
    """What it costs under policies. The findings' `same_reason` ends jobs of one namespace, `spread` of any.

    `assumed`: how often a role was assumed for those of `spread`.
    """

    policies: int
    namespaces: int
    load: float
    took: float
    bare: list[Sync]
    ours: Findings
    spread: Mass
    assumed: int
    edits: Edits


async def run(course: Course, tenants: Tenants, tell: Tell) -> Ruled:
    before, began = load(), time.monotonic()
    async with asyncio.timeout(900 + course.objects / 10), lab_of(course, tell, tenants) as (lab, _):
        bare, found, spread, assumed, edited = await _measured(lab, course, tenants, tell)
    took = time.monotonic() - began
    return Ruled(tenants.policies, tenants.namespaces, before, took, bare, found, spread, assumed, edited)


async def _measured(
    lab: Lab, course: Course, tenants: Tenants, tell: Tell
) -> tuple[list[Sync], Findings, Mass, int, Edits]:
    who = "under policies"
    syncs, bare = await syncs_of(lab, course, tell, who)
    short = await short_rounds(lab, course, tell, who)
    operator = lab.operator()
    lab.world.batch.clear_calls()
    with launched(operator):
        default, used = await default_rounds(lab, operator, course, tell, who)
        brisk, calm = await singles(lab, course, tell, who)
        lab.world.sts.clear_calls()
        spread = await mass_of(lab, course.at_once, tell, same_reason=True, who=who)
        assumed = len(lab.world.sts.calls("AssumeRole"))
        await lab.fleet.renew()
        together = await _in_one_namespace(lab, course, tenants, tell, who)
        edited = await edits(lab, tenants)
        tell(f"{who}: {edited.tightened.objects} objects denied in {edited.tightened.last:.2f} s")
        recoveries = [await measures.recovery(lab, operator) for _ in range(course.recoveries)]
        tell(f"{who}: recovery {', '.join(f'{one:.2f}' for one in recoveries)} s")
    found = Findings(syncs, short, used, brisk, calm, together, recoveries, default)
    return bare, found, spread, assumed, edited


async def _in_one_namespace(lab: Lab, course: Course, tenants: Tenants, tell: Tell, who: str) -> Mass:
    """So many that were made for it, beside all others, under a policy with a role."""
    home = tenants.homes[0]
    await lab.fleet.grow_seen(course.at_once, [home])
    found = await mass_of(
        lab, course.at_once, tell, same_reason=True, who=f"{who}, one namespace", namespace=home.namespace
    )
    await lab.fleet.drop()
    return found
