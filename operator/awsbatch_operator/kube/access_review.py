"""Finds the permissions that this process lacks, by SelfSubjectAccessReview (system:basic-user allows it)."""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from awsbatch_operator.kube.client import ApiError, KubeClient

_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class ResourceAttributes(NamedTuple):
    """A permission as RBAC grants it. `resource` may name a subresource, `batchjobs/status`; `namespace` None: all."""

    verb: str
    group: str
    resource: str
    namespace: str | None = None
    name: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"


async def missing_permissions(client: KubeClient, needed: Sequence[ResourceAttributes]) -> list[ResourceAttributes]:
    """Return the permissions that are not granted; none if the review itself is forbidden. Raises ApiError."""
    try:
        allowed = await asyncio.gather(*(_is_allowed(client, permission) for permission in needed))
    except ApiError as error:
        if error.status == 403:
            return []
        raise
    return [permission for permission, yes in zip(needed, allowed, strict=True) if not yes]


async def _is_allowed(client: KubeClient, permission: ResourceAttributes) -> bool:
    resource, _, subresource = permission.resource.partition("/")
    attributes = {"verb": permission.verb, "group": permission.group, "resource": resource, "subresource": subresource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {
            "resourceAttributes": {**attributes, "namespace": permission.namespace or "", "name": permission.name}
        },
    }
    _, body = await client.post(_REVIEWS, review)
    return bool((body.get("status") or {}).get("allowed"))
