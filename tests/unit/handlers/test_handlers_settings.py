"""What Kopf would keep in objects, it does not keep."""

import kopf

from awsbatch_operator.handlers.settings import make_settings

ANNOTATION = {"kopf.zalando.org/last-handled-configuration": '{"spec":{"jobId":"other"}}'}


def test_nothing_is_remembered_in_an_object_and_nothing_of_it_is_copied() -> None:
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
