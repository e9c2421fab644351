"""One namespace has hundreds of objects on one job and changes them: each event costs one object."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from integration.competing import SENT_WITHIN, Namespaces

OBJECTS, PATCHES = 400, 60
"""Objects on one job, and how many of them are patched a second."""


def test_creating_many_objects_of_one_job_delays_no_termination_elsewhere(namespaces: Namespaces) -> None:
    (name, job_id), *_ = namespaces.running(namespaces.quiet, 1).items()
    crowd(namespaces)
    assert namespaces.sent_after(job_id, lambda: namespaces.quiet.terminate(name, "victim")) < SENT_WITHIN


def test_patching_many_objects_of_one_job_delays_no_termination_elsewhere(namespaces: Namespaces) -> None:
    (name, job_id), *_ = namespaces.running(namespaces.quiet, 1).items()
    crowd(namespaces)
    with patching(namespaces):
        time.sleep(3)
        after = namespaces.sent_after(job_id, lambda: namespaces.quiet.terminate(name, "victim"))
        alive, _ = namespaces.world.operator.get("/livez")
    assert after < SENT_WITHIN
    assert alive == 200


def crowd(namespaces: Namespaces) -> None:
    job_id = namespaces.world.batch.seed()
    for number in range(OBJECTS):
        namespaces.noisy.create(f"object-{number}", job_id)


@contextmanager
def patching(namespaces: Namespaces) -> Iterator[None]:
    """Reword the objects' terminations in turn for as long as the block lasts."""
    ended = threading.Event()
    patcher = namespaces.noisy.within(namespaces.noisy.namespace)

    def patch() -> None:
        number = 0
        while not ended.wait(1 / PATCHES):
            patcher.terminate(f"object-{number % OBJECTS}", f"reason {number}")
            number += 1

    thread = threading.Thread(target=patch, name="patcher")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        patcher.close()
