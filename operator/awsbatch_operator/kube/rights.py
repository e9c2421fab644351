"""Which rights this process lacks, by Kubernetes' own word: everybody may ask that of oneself (system:basic-user)."""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from awsbatch_operator.kube.client import ApiError, KubeClient

_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class Right(NamedTuple):
    """As a rule of RBAC has it. `resource` may name a subresource, `batchjobs/status`; `namespace` None: in all."""

    verb: str
    group: str
    resource: str
    namespace: str | None = None
    name: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"


async def lacking(client: KubeClient, needed: Sequence[Right]) -> list[Right]:
    """Those of the needed that Kubernetes would refuse; none where even to ask is refused. Raises ApiError."""
    try:
        granted = await asyncio.gather(*(_granted(client, right) for right in needed))
    except ApiError as error:
        if error.status == 403:
            return []
        raise
    return [right for right, yes in zip(needed, granted, strict=True) if not yes]


async def _granted(client: KubeClient, right: Right) -> bool:
    resource, _, subresource = right.resource.partition("/")
    attributes = {"verb": right.verb, "group": right.group, "resource": resource, "subresource": subresource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {**attributes, "namespace": right.namespace or "", "name": right.name}},
    }
    _, body = await client.post(_REVIEWS, review)
    return bool((body.get("status") or {}).get("allowed"))
