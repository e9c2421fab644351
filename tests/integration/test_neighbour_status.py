"""Status writes of one namespace hang or are refused, as by an admission webhook: those of others are not held up."""

import pytest

from awsbatch_sandbox.processes import wait_for
from integration.competing import SENT_WITHIN, WRITTEN_WITHIN, Namespaces
from integration.scenario import SOON, phase

OBJECTS = 60
HANGS = 10.0
"""Seconds a write: the longest timeout of a webhook by default."""
DENIED = 'admission webhook "labels.example.com" denied the request: policy label-check failed'
RETRIED_WITHIN = 45.0


@pytest.mark.parametrize(
    "fault",
    [{"seconds": HANGS}, {"seconds": HANGS, "status": 400, "message": DENIED}, {"status": 400, "message": DENIED}],
    ids=["slow", "slow and denied", "denied"],
)
def test_the_status_of_another_namespace_is_written_in_time(namespaces: Namespaces, fault: dict[str, object]) -> None:
    (name, job_id), *_ = namespaces.running(namespaces.quiet, 1).items()
    namespaces.slow_status_writes(**fault)
    for number, other in enumerate(namespaces.world.batch.seed_many(OBJECTS)):
        namespaces.noisy.create(f"object-{number}", other)
    assert namespaces.written_after(name, lambda: namespaces.quiet.terminate(name, "victim")) < WRITTEN_WITHIN
    (sent,) = [one for one in namespaces.world.batch.terminate_requests() if one["job_id"] == job_id]
    assert sent["reason"] == "victim"
    later = namespaces.world.batch.seed()
    stated = {"reason": "stated from the start"}
    assert namespaces.sent_after(later, lambda: namespaces.quiet.create("born", later, terminate=stated)) < SENT_WITHIN


def test_a_status_that_was_denied_converges_after_the_webhook_is_gone(namespaces: Namespaces) -> None:
    (name, job_id), *_ = namespaces.running(namespaces.noisy, 1).items()
    namespaces.slow_status_writes(status=400, message=DENIED)
    namespaces.world.batch.move(job_id, "SUCCEEDED")
    path = f"/apis/awsbatch.dev/v1alpha1/namespaces/{namespaces.noisy.namespace}/batchjobs/{name}/status"

    def denied() -> bool:
        return any((one["path"], one["status"]) == (path, 400) for one in namespaces.api_server.requests())

    wait_for(denied, timeout=SOON, what="the write is denied", every=0.1)
    namespaces.api_server.order("clear_faults")
    namespaces.noisy.wait_for(name, phase("Succeeded"), timeout=RETRIED_WITHIN)
