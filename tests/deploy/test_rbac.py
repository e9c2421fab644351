"""The rights that the chart grants to the operator are those that it uses: none is missing, none could be spared.

On a real control plane the operator has no others, so that whatever it lacked would be refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.world import World
from deploy import scenario
from deploy.charts import NAME, objects
from deploy.record import Calls
from deploy.rights import ResourceAttributes, rights_of, spare, ungranted
from deploy.stage import MODES, Stage, namespaces, values_of
from integration.scenario import reasons_sent


@dataclass(frozen=True)
class Activity:
    """The permissions to compare, after all features were used. A namespaced operator must not see `elsewhere`."""

    mode: str
    rights: set[ResourceAttributes]
    calls: Calls
    log: str
    world: World
    elsewhere: Cluster


@pytest.fixture(scope="module", params=list(MODES))
def activity(request: pytest.FixtureRequest, stage: Stage) -> Iterator[Activity]:
    with namespaces(stage.world.cluster, "team-a", "team-b", "elsewhere") as (*watched, elsewhere):
        values = values_of(request.param, [cluster.namespace for cluster in watched])
        with stage.operator(values) as operator:
            elsewhere.create("job", stage.world.batch.seed(), terminate={"reason": scenario.REASON})
            scenario.run(
                stage.world,
                operator,
                watched,
                with_policies="accessPolicy" not in values,
                with_finalizers=request.param != "without-policies",
                with_on_delete="onDelete" in values,
            )
            rights = rights_of(NAME, NAME, objects(values))
            yield Activity(request.param, rights, stage.record.calls(), operator.output(), stage.world, elsewhere)


def test_every_call_is_allowed(activity: Activity) -> None:
    assert ungranted(activity.calls, activity.rights) == set()


def test_every_permission_is_needed(activity: Activity) -> None:
    assert spare(activity.rights, activity.calls) == set()


@pytest.mark.real
def test_no_call_is_denied_and_no_error_is_logged(activity: Activity) -> None:
    assert [call for call, codes in activity.calls.items() if codes & {401, 403}] == []
    assert [line for line in activity.log.splitlines() if "forbid" in line.lower()] == []


def test_the_operator_ignores_namespaces_that_it_may_not_see(activity: Activity) -> None:
    body = activity.elsewhere.get("job")
    sent = reasons_sent(activity.world, body["spec"]["jobId"])
    seen = "phase" in body.get("status", {})
    expected = ([scenario.REASON], True) if activity.mode in ("cluster-wide", "on-delete") else ([], False)
    assert (sent, seen) == expected
