"""Access to BatchAccessPolicies, as a platform team has it."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast

from kubernetes import client

from awsbatch_operator.api.names import API_VERSION, GROUP, POLICY_KIND, POLICY_PLURAL, VERSION
from awsbatch_sandbox.cluster import MERGE_PATCH, Body, api_client
from awsbatch_sandbox.processes import wait_for

_WHERE: Final = (GROUP, VERSION, POLICY_PLURAL)


class Policies:
    """The policies of a cluster."""

    def __init__(self, kubeconfig: Path) -> None:
        self._api = api_client(kubeconfig)
        self._objects = client.CustomObjectsApi(self._api)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._api.close()  # type: ignore[no-untyped-call]

    def create(self, name: str, **spec: Any) -> None:
        self._objects.create_cluster_custom_object(*_WHERE, access_policy(name, **spec))

    def get(self, name: str) -> Body:
        return cast("Body", self._objects.get_cluster_custom_object(*_WHERE, name))

    def edit(self, name: str, **change: Any) -> None:
        """A merge patch of `.spec`."""
        self._objects.patch_cluster_custom_object(*_WHERE, name, {"spec": change}, _content_type=MERGE_PATCH)

    def delete(self, name: str) -> None:
        self._objects.delete_cluster_custom_object(*_WHERE, name)

    def delete_all(self) -> None:
        self._objects.delete_collection_cluster_custom_object(*_WHERE)

    def wait_for(self, name: str, holds: Callable[[Body], Any], *, timeout: float) -> Body:
        """Wait until `holds` is true of the status; return the policy. TimeoutError shows the last."""
        last: Body = {}

        def probe() -> Body | None:
            nonlocal last
            last = self.get(name)
            return last if holds(last.get("status", {})) else None

        try:
            return wait_for(probe, timeout=timeout, what=f"BatchAccessPolicy {name}")
        except TimeoutError as late:
            raise TimeoutError(f"{late}; its status is {last.get('status')}") from None


def access_policy(name: str, **spec: Any) -> Body:
    """The manifest of a BatchAccessPolicy."""
    return {"apiVersion": API_VERSION, "kind": POLICY_KIND, "metadata": {"name": name}, "spec": spec}
