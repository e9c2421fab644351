"""One namespace states many terminations with different reasons: another one's go in turn with them."""

import pytest

from integration.competing import SENT_WITHIN, TERMINATE_RATE, Namespaces

STATED = 20 * TERMINATE_RATE


@pytest.mark.parametrize("denied", [False, True], ids=["allowed", "denied by IAM"])
def test_a_termination_waits_for_its_turn_only(namespaces: Namespaces, denied: bool) -> None:
    noisy = namespaces.running(namespaces.noisy, STATED)
    (name, job_id), *_ = namespaces.running(namespaces.quiet, 1).items()
    for other in noisy.values() if denied else ():
        namespaces.world.batch.fault("TerminateJob", kind="denied_403", job_id=other, times=None)
    for number, other in enumerate(noisy):
        namespaces.noisy.terminate(other, f"reason {number}")
    assert namespaces.sent_after(job_id, lambda: namespaces.quiet.terminate(name, "victim")) < SENT_WITHIN
