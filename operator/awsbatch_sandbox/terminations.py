"""Access to the BatchTerminations of one namespace, as its users have it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from kubernetes import client

from awsbatch_operator.api.names import API_VERSION, GROUP, TERMINATION_KIND, TERMINATION_PLURAL, VERSION
from awsbatch_sandbox.cluster import MERGE_PATCH, Body, api_client
from awsbatch_sandbox.processes import wait_for


class Terminations:
    """The BatchTerminations of a namespace."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._api = api_client(kubeconfig)
        self._objects = client.CustomObjectsApi(self._api)
        self._where = GROUP, VERSION, namespace, TERMINATION_PLURAL

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._api.close()  # type: ignore[no-untyped-call]

    def create(self, name: str, **spec: Any) -> Body:
        return self._said(self._objects.create_namespaced_custom_object(*self._where, batch_termination(name, **spec)))

    def get(self, name: str) -> Body:
        return self._said(self._objects.get_namespaced_custom_object(*self._where, name))

    def objects(self) -> list[Body]:
        return cast("list[Body]", self._said(self._objects.list_namespaced_custom_object(*self._where))["items"])

    def approve(self, name: str, *, approved: bool = True) -> None:
        patch = self._objects.patch_namespaced_custom_object
        patch(*self._where, name, {"spec": {"approved": approved}}, _content_type=MERGE_PATCH)

    def patch_status(self, name: str, change: Mapping[str, Any]) -> None:
        """A merge patch of `.status`."""
        patch = self._objects.patch_namespaced_custom_object_status
        patch(*self._where, name, {"status": dict(change)}, _content_type=MERGE_PATCH)

    def delete(self, name: str) -> None:
        self._objects.delete_namespaced_custom_object(*self._where, name)

    def delete_all(self) -> None:
        self._objects.delete_collection_namespaced_custom_object(*self._where)

    def wait_for(self, name: str, holds: Callable[[Body], Any], *, timeout: float) -> Body:
        """Wait until `holds` is true of the status of the current generation; return it. TimeoutError shows the last.

        Right after an edit, the status is still that of the spec before.
        """
        last: Body = {}

        def probe() -> Body | None:
            nonlocal last
            body = self.get(name)
            last = body.get("status", {})
            current = last.get("observedGeneration") == body["metadata"]["generation"]
            return last if current and holds(last) else None

        try:
            return wait_for(probe, timeout=timeout, what=f"BatchTermination {name}")
        except TimeoutError as late:
            raise TimeoutError(f"{late}; its status is {last}") from None

    def _said(self, answer: object) -> Body:
        return cast("Body", answer)


def batch_termination(name: str, **spec: Any) -> Body:
    """The manifest of a BatchTermination."""
    return {"apiVersion": API_VERSION, "kind": TERMINATION_KIND, "metadata": {"name": name}, "spec": spec}
