"""One namespace names regions at will: made-up ones are refused without a call, slow ones hold up themselves only."""

import botocore.session

from awsbatch_sandbox.operator_process import REGION
from integration.competing import SENT_WITHIN, Namespaces
from integration.scenario import SOON, says

MADE_UP = 100
SLOW = 9.0
"""Seconds, each DescribeJobs."""


def made_up(number: int) -> str:
    """Well-formed, and in none of botocore's lists."""
    return f"zz-{chr(97 + number // 26)}{chr(97 + number % 26)}-1"


def test_invalid_regions_are_rejected_without_a_call_and_delay_no_other(namespaces: Namespaces) -> None:
    (name, job_id), *_ = namespaces.running(namespaces.quiet, 1).items()
    other = namespaces.world.batch.seed()
    for number in range(MADE_UP):
        namespaces.noisy.create(f"object-{number}", other, region=made_up(number))
    assert namespaces.sent_after(job_id, lambda: namespaces.quiet.terminate(name, "victim")) < SENT_WITHIN
    for number in range(MADE_UP):
        namespaces.noisy.wait_for(f"object-{number}", says("Stalled", "True", "InvalidRegion"), timeout=SOON)
    assert {call["region"] for call in namespaces.world.batch.calls()} == {REGION}


def test_regions_that_answer_slowly_delay_no_termination_elsewhere(namespaces: Namespaces) -> None:
    (name, job_id), *_ = namespaces.running(namespaces.quiet, 1).items()
    other = namespaces.world.batch.seed()
    namespaces.world.batch.fault("DescribeJobs", job_id=other, kind="slow", seconds=SLOW, times=None)
    for region in real_regions():
        namespaces.noisy.create(f"in-{region}", other, region=region)
    assert namespaces.sent_after(job_id, lambda: namespaces.quiet.terminate(name, "victim")) < SENT_WITHIN
    later = namespaces.world.batch.seed()
    born = namespaces.sent_after(
        later, lambda: namespaces.quiet.create("born", later, terminate={"reason": "stated from the start"})
    )
    assert born < SENT_WITHIN


def real_regions() -> list[str]:
    """Those of all partitions in which Batch is served, but the operator's own."""
    session = botocore.session.get_session()
    partitions = session.get_available_partitions()
    return sorted({one for part in partitions for one in session.get_available_regions("batch", part)} - {REGION})
