"""Kopf stores nothing in objects, and keeps nothing of them."""

import kopf

from awsbatch_operator.handlers.watch import NoMemories, make_settings

ANNOTATION = {"kopf.zalando.org/last-handled-configuration": '{"spec":{"jobId":"other"}}'}


def test_kopf_stores_nothing_in_an_object_and_copies_nothing_of_it() -> None:
    persistence = make_settings().persistence
    body = kopf.Body({"metadata": {"annotations": ANNOTATION}, "spec": {"jobId": "j"}})
    patch = kopf.Patch()
    essence = persistence.diffbase_storage.build(body=body)
    persistence.diffbase_storage.store(body=body, patch=patch, essence=essence)
    persistence.progress_storage.touch(body=body, patch=patch, value="now")
    persistence.progress_storage.purge(body=body, patch=patch, key="tell")  # type: ignore[arg-type]
    assert not patch
    assert persistence.diffbase_storage.fetch(body=body) is None
    assert dict(persistence.progress_storage.clear(essence=essence)) == {}


async def test_kopf_keeps_no_record_of_an_object() -> None:
    memories = NoMemories()
    assert (await memories.recall({"metadata": {"uid": "u"}}, noticed_by_listing=True)).noticed_by_listing
    assert list(memories.iter_all_memories()) == []
