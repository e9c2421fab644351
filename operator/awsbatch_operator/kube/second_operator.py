"""Finds the operator that already acts on this cluster, by the Lease that it holds."""

import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from awsbatch_operator.api import timestamps
from awsbatch_operator.api.timestamps import SECOND, Millis
from awsbatch_operator.kube.client import ApiError, KubeClient
from awsbatch_operator.kube.lease import LABELS
from awsbatch_operator.kube.paging import list_pages, metadata_of

_LEASES: Final = "/apis/coordination.k8s.io/v1/leases"
_SELECTOR: Final = ",".join(f"{key}={value}" for key, value in LABELS.items())


class HeldLease(NamedTuple):
    """A Lease that an operator holds now."""

    namespace: str
    name: str
    holder: str


async def held_leases(client: KubeClient, now: Millis | None = None) -> list[HeldLease]:
    """Return the Leases of all operators that act on the cluster, whatever their name and namespace.

    Raises ApiError; its status is 403 if the credentials do not allow to list the Leases of all namespaces.
    """
    # The clocks of two hosts are compared here, unlike in an election: a wrong one costs a wrong warning, or none.
    now = time.time_ns() // 1_000_000 if now is None else now
    held = []
    try:
        async for page in list_pages(client, _LEASES, label_selector=_SELECTOR):
            held += [_held(lease) for lease in page.items if _is_held(lease.get("spec") or {}, now)]
    except ApiError as error:
        if error.status != 404:  # the cluster serves no Leases: nobody holds one
            raise
    return held


def _is_held(record: Mapping[str, Any], now: Millis) -> bool:
    renewed = timestamps.parse(record.get("renewTime"))
    lasts = int(record.get("leaseDurationSeconds") or 0) * SECOND
    return bool(record.get("holderIdentity")) and (renewed is None or now < renewed + lasts)


def _held(lease: Mapping[str, Any]) -> HeldLease:
    metadata = metadata_of(lease)
    return HeldLease(metadata["namespace"], metadata["name"], lease["spec"]["holderIdentity"])


def explain(held: list[HeldLease]) -> str:
    """Explain in one line who acts on the cluster, and what to do."""
    holders = ", ".join(f"{one.holder} holds the Lease {one.namespace}/{one.name}" for one in held)
    first = held[0]
    return (
        f"an operator already runs on this cluster: {holders}. Stop it first; or set --leader-elect "
        f"--lease-namespace={first.namespace} --lease-name={first.name} to wait until its Lease is free; or "
        "set --no-leader-elect to run beside it, which sends AWS requests twice if both watch the same "
        "namespace"
    )
