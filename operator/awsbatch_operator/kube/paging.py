"""Paged lists of the Kubernetes API."""

from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

from awsbatch_operator.kube.client import JSON, ApiError, KubeClient

PAGE_SIZE: Final = 500


class Page(NamedTuple):
    """One page: the items as the API server sent them, and the list's resourceVersion."""

    items: list[Any]
    resource_version: str


async def list_pages(
    client: KubeClient, path: str, accept: str = JSON, *, label_selector: str = ""
) -> AsyncIterator[Page]:
    """List the collection at `path` page by page.

    Raises ApiError; its status is 410 if a page has expired, and 0 if the answer is not a list: do not conclude
    from such an answer that objects are gone.
    """
    params = {"limit": str(PAGE_SIZE)} | ({"labelSelector": label_selector} if label_selector else {})
    token = ""
    while True:
        _, body = await client.get(path, params | ({"continue": token} if token else {}), accept)
        metadata = metadata_of(body)
        version, items = metadata.get("resourceVersion"), body.get("items", ())
        # Go encodes some empty lists as null.
        if "items" not in body or not isinstance(items, list | None) or not version:
            raise ApiError(0, f"the Kubernetes API answers with something that is not a list of {resource_of(path)}")
        yield Page(items or [], version)
        token = metadata.get("continue") or ""
        if not token:
            return


def resource_of(path: str) -> str:
    """Return the plural name of the resource at the end of a collection's path."""
    return path.rpartition("/")[2]


def metadata_of(body: object) -> dict[str, Any]:
    """Return `.metadata`, or {} if there is none."""
    metadata = body.get("metadata") if isinstance(body, dict) else None
    return metadata if isinstance(metadata, dict) else {}


def annotations_of(body: object) -> dict[str, str]:
    annotations = metadata_of(body).get("annotations")
    return annotations if isinstance(annotations, dict) else {}
