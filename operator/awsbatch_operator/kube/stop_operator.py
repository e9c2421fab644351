"""Stops an installed operator before an uninstallation: scales its Deployment to 0, waits until its Lease is free."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from awsbatch_operator.kube.client import ApiError, KubeClient
from awsbatch_operator.kube.credentials import Login

WITHIN: Final = 240.0
"""Seconds for all of it: less than the timeout of `helm uninstall`, 5 minutes."""
_EVERY: Final = 1.0
_FREE_FOR: Final = 5.0
"""Seconds without a holder until the Lease counts as free: another replica that still runs takes it within 2 s."""
_DEFAULT_DURATION: Final = 15.0


class NotStoppedError(Exception):
    """The operator may still act. The message is one line."""


async def stop_operator(client: KubeClient, namespace: str, deployment: str, lease: str, within: float) -> None:
    """Scale the Deployment to 0, and return when nobody has held the Lease for 5 s. Neither needs to exist.

    Args:
        client: The client; it needs patch on `deployments/scale` and get on `leases` of these names.
        namespace: That of both.
        deployment: Name of the operator's Deployment.
        lease: Name of the operator's Lease.
        within: Seconds. Until then, failed calls are repeated, unless they are forbidden.

    Raises:
        NotStoppedError: It is forbidden, or did not happen in time.
    """
    problem = f"the Deployment {namespace}/{deployment} cannot be scaled to 0"
    try:
        async with asyncio.timeout(within):
            await _scale_down(client, f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}/scale")
            problem = f"the Lease {namespace}/{lease} is held, or cannot be read"
            await _until_free(client, f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{lease}")
    except TimeoutError as error:
        raise NotStoppedError(f"the operator did not stop within {within:g} s: {problem}") from error
    except ApiError as error:
        raise NotStoppedError(f"{problem}: {error.message}") from error


async def stop_with_login(login: Login, namespace: str, deployment: str, lease: str) -> None:
    """Stop the operator as `stop_operator` does, within 4 minutes."""
    async with KubeClient(login) as client:
        await stop_operator(client, namespace, deployment, lease, WITHIN)


async def _scale_down(client: KubeClient, path: str) -> None:
    while True:
        try:
            await client.patch(path, {"spec": {"replicas": 0}})
        except ApiError as error:
            if error.status == 403:
                raise
            if error.status != 404:
                await asyncio.sleep(_EVERY)
                continue
        return


async def _until_free(client: KubeClient, path: str) -> None:
    # As in an election: no clock is compared with that of the holder, the record only has to stay the same.
    loop = asyncio.get_running_loop()
    record, since = await _record(client, path), loop.time()
    while record is None or loop.time() - since < _free_after(record):
        await asyncio.sleep(_EVERY)
        found = await _record(client, path)
        if found != record:
            record, since = found, loop.time()


async def _record(client: KubeClient, path: str) -> Mapping[str, Any] | None:
    """Return the Lease's spec, empty if there is none; None: it is not known now."""
    try:
        _, lease = await client.get(path)
    except ApiError as error:
        if error.status == 403:
            raise
        return {} if error.status == 404 else None
    return dict(lease.get("spec") or {})


def _free_after(record: Mapping[str, Any]) -> float:
    if not record.get("holderIdentity"):
        return _FREE_FOR
    return float(record.get("leaseDurationSeconds") or _DEFAULT_DURATION)
