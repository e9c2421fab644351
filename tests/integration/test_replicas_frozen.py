"""A leader that was frozen for longer than its Lease, with polls and many terminations under way, and wakes up."""

import signal

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.replicas import CRASH_TAKEOVER, Pair, first_call, running_jobs
from integration.scenario import SOON, reasons_sent, says, terminations_tried

JOBS = 40
AT_THE_FREEZE = 12
"""Terminations that were sent by then; a few of them are under way, and the budget lets the rest wait."""
BY_REQUEST = says("Terminated", "True", "TerminatedByRequest")


def test_a_frozen_leader_completes_none_of_its_calls(world: World, cluster: Cluster, pair: Pair) -> None:
    jobs = running_jobs(world, cluster, JOBS)
    # It takes 5 s to send all of them, however slow the machine is.
    world.batch.fault("TerminateJob", kind="slow", seconds=0.5, times=None)
    for n, name in enumerate(jobs):
        # A reason of its own is a call of its own.
        cluster.terminate(name, f"reason {n}")
    wait_for(lambda: len(terminations_tried(world)) >= AT_THE_FREEZE, timeout=SOON, what="many are under way")
    pair.leader.signal(signal.SIGSTOP)
    wait_for(lambda: first_call(world, "second"), timeout=CRASH_TAKEOVER, what="the other acts")
    assert AT_THE_FREEZE <= len(terminations_tried(world)) < JOBS
    # It wakes up while the other is in the midst of what it had begun itself.
    pair.leader.signal(signal.SIGCONT)
    for n, (name, job_id) in enumerate(jobs.items()):
        cluster.wait_for(name, BY_REQUEST, timeout=SOON)
        assert reasons_sent(world, job_id) == [f"reason {n}"]
    assert len(terminations_tried(world)) == JOBS
    frozen, other = pair.assert_one_acted_at_a_time("first", "second")
    print(f"the other acted {other.began - frozen.ended:.1f} s after the last call of the frozen one")
    pair.leader.wait_ready()
    assert (pair.leader.is_leader(), pair.follower.is_leader()) == (False, True)
