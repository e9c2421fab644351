"""Tests that a real API server accepts the objects of the chart, including Pod Security admission."""

from collections.abc import Iterable
from typing import Final

import pytest
import yaml

from awsbatch_sandbox.cluster import Cluster, KubectlError
from deploy.charts import CLUSTER_SCOPED, CUSTOM, Object, matrix, objects, pod_of

pytestmark = pytest.mark.real

_RESTRICTED: Final = "pod-security.kubernetes.io/enforce=restricted"


@pytest.fixture
def server(cluster: Cluster) -> Cluster:
    """A namespace that enforces what most careful platforms do."""
    cluster.kubectl("label", "namespace", cluster.namespace, _RESTRICTED)
    return cluster


def dry_run(server: Cluster, bodies: Iterable[Object]) -> list[str]:
    """All but the last step of writing them, in the test's own namespace; a line for each. KubectlError if refused."""
    own = {"namespace": server.namespace}
    moved = [
        body if body["kind"] in CLUSTER_SCOPED else {**body, "metadata": {**body["metadata"], **own}} for body in bodies
    ]
    flags = ("--server-side", "--dry-run=server", "--validate=strict", "--filename=-")
    return server.kubectl("apply", *flags, stdin=yaml.safe_dump_all(moved)).splitlines()


def _pod(all_objects: Iterable[Object], name: str = "operator") -> Object:
    template = pod_of(all_objects)
    metadata = {**template["metadata"], "name": name}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def test_the_api_server_accepts_every_object(server: Cluster) -> None:
    distinct = {yaml.safe_dump(body): body for _, rendered in matrix() for body in rendered}
    known = [body for body in distinct.values() if body["kind"] not in CUSTOM]
    reported = dry_run(server, known)
    assert len(reported) == len(known)
    assert all(line.endswith(" serverside-applied (server dry run)") for line in reported)


def test_it_admits_the_pods_where_pod_security_restricted_is_enforced(server: Cluster) -> None:
    pods = [_pod(rendered, f"operator-{number}") for number, (_, rendered) in enumerate(matrix())]
    assert len(dry_run(server, pods)) == len(matrix())


def test_it_rejects_a_pod_with_more_privileges(server: Cluster) -> None:
    pod = _pod(objects())
    del pod["spec"]["securityContext"]["seccompProfile"]
    with pytest.raises(KubectlError, match="seccompProfile"):
        dry_run(server, [pod])
