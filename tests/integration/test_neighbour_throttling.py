"""An account at its limit, shared with a competing client: terminations first, few throttles, which are reported."""

import time
from collections import Counter
from typing import Any

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.competing_client import CompetingClient, is_competing
from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.scenario import SOON, claim, says

THERE = "ca-west-1"
"""A region of its own: the budget remembers for a while."""
LIMIT, NEIGHBOUR = 5, 3
"""Calls a second."""
OBJECTS, TERMINATED = 300, 30
SETTLES, CALM = 7.0, 5.0
"""Seconds: time to find the free rate up to the last step, and then until the terminations arrive."""
LEFT = LIMIT - NEIGHBOUR


def test_terminations_go_first_on_an_account_at_its_limit(
    world: World, cluster: Cluster, operator: OperatorProcess
) -> None:
    names = ["first", *(f"job-{number}" for number in range(1, OBJECTS))]
    ids = dict(zip(names, world.batch.seed_many(OBJECTS, region=THERE), strict=True))
    for name, job_id in ids.items():
        cluster.create(name, job_id, region=THERE)
    wait_for(lambda: in_phase(cluster)["Running"] == OBJECTS, timeout=SOON, what="all jobs are seen", every=0.3)
    world.batch.clear_calls()
    counted = throttles_counted(operator)
    # Polls of 300 jobs each 500 ms are six calls a second: more than is allowed, and thrice what the neighbour leaves.
    world.batch.limit(rate=LIMIT)
    world.batch.fault("TerminateJob", kind="throttle_429", region=THERE)
    wanted = {name: f"reason of {name}" for name in names[: TERMINATED + 1]}
    with CompetingClient(world.batch.url, rate=NEIGHBOUR, region=THERE):
        cluster.terminate("first", wanted["first"])
        cluster.wait_for("first", says("Reconciling", "True", "Throttled"), timeout=SOON)
        time.sleep(SETTLES)
        settled_at = time.time()
        time.sleep(CALM)
        began = time.time()
        for name in names[1 : TERMINATED + 1]:
            cluster.terminate(name, wanted[name])
        wait_for(lambda: in_phase(cluster)["Terminated"] == len(wanted), timeout=60, what="all ended", every=1.0)
    sent = world.batch.terminate_requests()
    assert {one["job_id"]: one["reason"] for one in sent} == {ids[name]: reason for name, reason in wanted.items()}
    assert len(sent) == len(wanted), "none is asked twice"
    assert max(one["at"] for one in sent) - began < 2 * TERMINATED / LEFT
    ours = [call for call in world.batch.calls() if call["region"] == THERE and not is_competing(call)]
    settled = [call for call in ours if call["at"] >= settled_at]
    assert len(settled) > TERMINATED
    # A busy machine sends some of these few calls in bursts; without a limit, AWS would throttle two thirds of them.
    # tests/unit/workqueue/test_rate_limiter_neighbour.py has the 5 % of many calls.
    assert len(throttled(settled)) < 0.2 * len(settled)
    assert throttles_counted(operator) - counted == len(throttled(ours)) > 0
    world.batch.limit(None)
    wait_for(lambda: not reporting_it(cluster), timeout=SOON, what="Throttled is no longer reported", every=0.3)


def in_phase(cluster: Cluster) -> Counter[str]:
    return Counter(body.get("status", {}).get("phase") for body in cluster.objects())


def reporting_it(cluster: Cluster) -> list[str]:
    return [
        body["metadata"]["name"]
        for body in cluster.objects()
        if claim(body["status"], "Reconciling") == ("True", "Throttled")
    ]


def throttled(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [call for call in calls if call["http_status"] == 429]


def throttles_counted(operator: OperatorProcess) -> float:
    """Return the number of throttled calls from the operator's metric."""
    requests = operator.metrics()["awsbatch_operator_aws_requests_total"]
    return sum(value for labels, value in requests if labels["code"] == "TooManyRequestsException")
