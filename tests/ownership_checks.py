"""Checks that the operator respects fields and objects of others."""

from typing import Any


def assert_observe_only(body: dict[str, Any]) -> None:
    """The operator owns nothing of the object outside its status: no annotation, no finalizer, no field."""
    metadata = body["metadata"]
    assert "finalizers" not in metadata
    assert set(metadata.get("annotations", {})) <= {"kubectl.kubernetes.io/last-applied-configuration"}
    for entry in metadata["managedFields"]:
        if entry["manager"] == "awsbatch-sandbox" or entry["manager"].startswith("kubectl"):
            continue
        assert entry["manager"] == "awsbatch-operator", f"{entry['manager']} wrote to the object"
        assert entry["subresource"] == "status"
        assert set(entry["fieldsV1"]) == {"f:status"}
