"""Two replicas, of which the holder of the Lease acts: what the one leaves undone the other does, and nothing twice."""

import signal
import time

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.replicas import CRASH_TAKEOVER, GRACEFUL_TAKEOVER, Pair, first_call, running_jobs
from integration.scenario import SOON, reasons_sent, says, terminations_tried

REASON = "INC-4711: runaway cost"
BY_REQUEST = says("Terminated", "True", "TerminatedByRequest")


def test_only_the_leader_acts(world: World, cluster: Cluster, pair: Pair) -> None:
    (job_id,) = running_jobs(world, cluster, 1).values()
    cluster.terminate("job-0", REASON)
    cluster.wait_for("job-0", BY_REQUEST, timeout=SOON)
    assert reasons_sent(world, job_id) == [REASON]
    assert (pair.leader.is_leader(), pair.follower.is_leader()) == (True, False)
    assert pair.leader.total("status_writes_total") > 0
    assert pair.follower.total("status_writes_total") == 0
    pair.assert_one_acted_at_a_time("first")


def test_after_sigterm_the_other_acts_within_3_seconds(world: World, cluster: Cluster, pair: Pair) -> None:
    jobs = running_jobs(world, cluster, 40)
    for n, name in enumerate(jobs):
        # Each reason is a call of its own: more of them than the leader's budget lets through before it ends.
        cluster.terminate(name, f"{REASON}, {n}")
    began = time.time()
    pair.leader.signal(signal.SIGTERM)
    took = wait_for(lambda: first_call(world, "second"), timeout=SOON, what="the other calls AWS") - began
    print(f"the other acted {took:.2f} s after SIGTERM")
    assert took <= GRACEFUL_TAKEOVER
    for n, (name, job_id) in enumerate(jobs.items()):
        cluster.wait_for(name, BY_REQUEST, timeout=SOON)
        assert reasons_sent(world, job_id) == [f"{REASON}, {n}"]
    assert len(terminations_tried(world)) == len(jobs)
    pair.assert_one_acted_at_a_time("first", "second")
    assert pair.leader.stop() == 0


# This one takes the 17 seconds for which the Lease outlives its holder.


def test_after_kill_9_the_other_acts_within_20_seconds(world: World, cluster: Cluster, pair: Pair) -> None:
    jobs = running_jobs(world, cluster, 3)
    pair.leader.kill9()
    began = time.time()
    for name in jobs:
        cluster.terminate(name, REASON)
    took = wait_for(lambda: first_call(world, "second"), timeout=CRASH_TAKEOVER, what="the other calls AWS") - began
    print(f"the other acted {took:.1f} s after kill -9")
    for name, job_id in jobs.items():
        cluster.wait_for(name, BY_REQUEST, timeout=SOON)
        assert reasons_sent(world, job_id) == [REASON]
    pair.assert_one_acted_at_a_time("first", "second")
