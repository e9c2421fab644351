"""Reads the annotations of the operator's Lease where there is no leader election, which would read them."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from awsbatch_operator.kube.client import ApiError, KubeClient
from awsbatch_operator.kube.paging import annotations_of
from awsbatch_operator.workqueue.log_once import Change, LogOnce

EVERY: Final = 2.0
"""Seconds between two reads, as between two renewals of an elected leader."""
TIMEOUT: Final = 5.0
KNOWN_FOR: Final = 10.0
"""Seconds for which an answer counts. An elected leader that cannot renew the Lease for so long stops."""

_FORBIDDEN: Final = (
    "cannot read the Lease, so its annotation cannot suspend terminations; grant get on leases "
    "(apiGroups: [coordination.k8s.io]) by a Role, or use spec.suspend of BatchAccessPolicies"
)

log = structlog.get_logger(__name__)


class LeaseReader:
    """Reads the Lease of that name; it need not exist, and this class never creates it.

    `known` is set with the first answer. Without the permission to read the Lease its annotations stay what they were
    at the last answer, at first none.
    """

    def __init__(self, client: KubeClient, namespace: str, name: str) -> None:
        self._client, self.title = client, f"{namespace}/{name}"
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"
        self._last: Mapping[str, str] = {}
        self.known = asyncio.Event()
        self._problem = LogOnce()

    async def run(
        self, on_annotations: Callable[[Mapping[str, str]], None], on_reconnected: Callable[[], None]
    ) -> None:
        """Read until cancelled. `on_reconnected` is called when reads succeed again after failed ones."""
        while True:
            annotations, problem = await self._read()
            match self._problem.report(problem):
                case Change.BEGAN | Change.CHANGED:
                    log.warning("failed to read lease", lease=self.title, error=problem)
                case Change.ENDED:
                    log.info("lease requests succeed again", lease=self.title)
                    on_reconnected()
            if annotations is not None:
                self._last = annotations
                on_annotations(annotations)
                self.known.set()
            await asyncio.sleep(EVERY)

    async def _read(self) -> tuple[Mapping[str, str] | None, str]:
        """Return the annotations (None: they are not known now), and what is wrong ("": nothing)."""
        try:
            async with asyncio.timeout(TIMEOUT):
                return annotations_of((await self._client.get(self._path)).body), ""
        except TimeoutError:
            return None, f"the Kubernetes API did not answer within {TIMEOUT:g} s"
        except ApiError as error:
            if error.status == 404:
                return {}, ""
            if error.status == 403:
                return self._last, f"{error.message}: {_FORBIDDEN}"
            return None, error.message
