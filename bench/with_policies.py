"""The measures of the operator where policies govern every namespace: half of them by roles in other accounts."""

import asyncio
import time
from dataclasses import dataclass

from bench import measures
from bench.harness import Harness
from bench.measures import Mass, Sync
from bench.policy_edits import Edits, edits
from bench.process import load
from bench.scenarios import (
    Findings,
    Progress,
    Scenario,
    default_rounds,
    harness_of,
    mass_of,
    short_rounds,
    singles,
    syncs_of,
)
from bench.subjects import launched
from bench.tenants import Tenants


@dataclass(frozen=True, slots=True)
class UnderPolicies:
    """The cost under policies. `same_reason` of the findings terminates jobs of one namespace, `spread` of any.

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


async def run(scenario: Scenario, tenants: Tenants, progress: Progress) -> UnderPolicies:
    before, began = load(), time.monotonic()
    async with asyncio.timeout(900 + scenario.objects / 10), harness_of(scenario, progress, tenants) as (harness, _):
        bare, found, spread, assumed, edited = await _measured(harness, scenario, tenants, progress)
    took = time.monotonic() - began
    return UnderPolicies(tenants.policies, tenants.namespaces, before, took, bare, found, spread, assumed, edited)


async def _measured(
    harness: Harness, scenario: Scenario, tenants: Tenants, progress: Progress
) -> tuple[list[Sync], Findings, Mass, int, Edits]:
    who = "under policies"
    syncs, bare = await syncs_of(harness, scenario, progress, who)
    short = await short_rounds(harness, scenario, progress, who)
    operator = harness.operator()
    harness.world.batch.clear_calls()
    with launched(operator):
        default, used = await default_rounds(harness, operator, scenario, progress, who)
        brisk, calm = await singles(harness, scenario, progress, who)
        harness.world.sts.clear_calls()
        spread = await mass_of(harness, scenario.at_once, progress, same_reason=True, who=who)
        assumed = len(harness.world.sts.calls("AssumeRole"))
        await harness.fleet.renew()
        together = await _in_one_namespace(harness, scenario, tenants, progress, who)
        edited = await edits(harness, tenants)
        progress(f"{who}: {edited.tightened.objects} objects denied in {edited.tightened.last:.2f} s")
        recoveries = [await measures.recovery(harness, operator) for _ in range(scenario.recoveries)]
        progress(f"{who}: recovery {', '.join(f'{one:.2f}' for one in recoveries)} s")
    found = Findings(syncs, short, used, brisk, calm, together, recoveries, default)
    return bare, found, spread, assumed, edited


async def _in_one_namespace(
    harness: Harness, scenario: Scenario, tenants: Tenants, progress: Progress, who: str
) -> Mass:
    """Terminate so many extra jobs under a policy with a role."""
    home = tenants.homes[0]
    await harness.fleet.grow_seen(scenario.at_once, [home])
    found = await mass_of(
        harness, scenario.at_once, progress, same_reason=True, who=f"{who}, one namespace", namespace=home.namespace
    )
    await harness.fleet.drop()
    return found
