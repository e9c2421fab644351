"""Removes the operator's finalizer from all BatchJobs, for the end of an installation: nothing would release them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from awsbatch_operator.api.batchjob import ObjectRef
from awsbatch_operator.api.decoding import parse_metadata, parse_ref, resource_version_of
from awsbatch_operator.api.names import FINALIZER
from awsbatch_operator.kube import second_operator
from awsbatch_operator.kube.batchjobs import collection_path, finalizer_patch, object_path
from awsbatch_operator.kube.client import METADATA_LIST, ApiError, KubeClient
from awsbatch_operator.kube.credentials import Login
from awsbatch_operator.kube.paging import list_pages, metadata_of

_PASSES = 3
"""Lists until every object that others changed meanwhile is released."""


class OperatorActsError(Exception):
    """An operator holds its Lease, and would set the finalizer again. The message is one line."""


@dataclass(slots=True)
class Released:
    """`kept`: why an object kept its finalizer in the last pass, by namespace and name."""

    objects: int
    released: int
    kept: dict[str, str]


async def release_all(login: Login, namespaces: Sequence[str], *, force: bool) -> Released:
    """Remove the finalizer from the BatchJobs of these namespaces, or of all. No job is terminated by it.

    Args:
        login: The credentials.
        namespaces: Their names; without one the whole cluster.
        force: Do it also while an operator acts, or where Leases can't be listed.

    Raises:
        OperatorActsError: An operator holds a Lease, or that is not known.
        ApiError: The objects can't be listed.
    """
    async with KubeClient(login) as client:
        if not force:
            await _check_no_operator(client)
        result = Released(0, 0, {})
        for _ in range(_PASSES):
            released_before, result = result.released, await _release_once(client, namespaces)
            result.released += released_before
            if not result.kept:
                break
        return result


async def _check_no_operator(client: KubeClient) -> None:
    try:
        held = await second_operator.held_leases(client)
    except ApiError as error:
        if error.status != 403:
            raise
        raise OperatorActsError(
            f"cannot tell whether an operator holds a Lease ({error.message}): stop the operator, then use --force"
        ) from error
    if held:
        first = held[0]
        raise OperatorActsError(
            f"{first.holder} holds the Lease {first.namespace}/{first.name}: a running operator adds the "
            "finalizer again. Scale its Deployment to 0 and wait until the Lease is free, or use --force"
        )


async def _release_once(client: KubeClient, namespaces: Sequence[str]) -> Released:
    result = Released(0, 0, {})
    for namespace in namespaces or (None,):
        try:
            async for page in list_pages(client, collection_path(namespace), METADATA_LIST):
                for item in page.items:
                    result.objects += 1
                    await _release(client, item, result)
        except ApiError as error:
            # Where the cluster does not serve the kind there is no object. A page may expire: the next pass goes on.
            if error.status == 410:
                result.kept[namespace or "*"] = error.message
            elif error.status != 404:
                raise
    return result


async def _release(client: KubeClient, item: dict[str, Any], result: Released) -> None:
    ref: ObjectRef = parse_ref(metadata_of(item))
    finalizers = parse_metadata(item).finalizers or ()
    if FINALIZER not in finalizers:
        return
    try:
        await client.json_patch(object_path(ref), finalizer_patch(finalizers, resource_version_of(item), add=False))
    except ApiError as error:
        if error.status != 404:
            result.kept[f"{ref.namespace}/{ref.name}"] = error.message
            return
    result.released += 1
