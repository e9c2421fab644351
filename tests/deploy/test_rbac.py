"""The rights that the chart grants to the operator are those that it uses: none is missing, none could be spared.

On a real control plane the operator has no others, so that whatever it lacked would be refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.world import World
from deploy import course
from deploy.charts import NAME, objects
from deploy.record import Calls
from deploy.rights import Right, rights_of, spare, ungranted
from deploy.stage import QUICK, Stage, namespaces
from integration.scenario import reasons_sent


@dataclass(frozen=True)
class Told:
    """What there is to compare, after everything was done once. `elsewhere` no namespaced operator may see."""

    mode: str
    rights: set[Right]
    calls: Calls
    log: str
    world: World
    elsewhere: Cluster


@pytest.fixture(scope="module", params=["cluster-wide", "namespaced"])
def told(request: pytest.FixtureRequest, stage: Stage) -> Iterator[Told]:
    with namespaces(stage.world.cluster, "team-a", "team-b", "elsewhere") as (*watched, elsewhere):
        names = [cluster.namespace for cluster in watched]
        values = {**QUICK} | ({"watchNamespaces": names} if request.param == "namespaced" else {})
        with stage.operator(values) as operator:
            elsewhere.create("job", stage.world.batch.seed(), terminate={"reason": course.REASON})
            course.run(stage.world, operator, watched)
            rights = rights_of(NAME, NAME, objects(values))
            yield Told(request.param, rights, stage.record.calls(), operator.output(), stage.world, elsewhere)


def test_every_call_is_granted(told: Told) -> None:
    assert ungranted(told.calls, told.rights) == set()


def test_no_right_could_be_spared(told: Told) -> None:
    assert spare(told.rights, told.calls) == set()


@pytest.mark.real
def test_no_call_was_refused_and_none_is_complained_of(told: Told) -> None:
    assert [call for call, codes in told.calls.items() if codes & {401, 403}] == []
    assert [line for line in told.log.splitlines() if "forbid" in line.lower()] == []


def test_what_the_operator_may_not_see_it_leaves_alone(told: Told) -> None:
    body = told.elsewhere.get("job")
    sent = reasons_sent(told.world, body["spec"]["jobId"])
    seen = "phase" in body.get("status", {})
    assert (sent, seen) == (([], False) if told.mode == "namespaced" else ([course.REASON], True))
