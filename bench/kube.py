"""The bare client: aiohttp and JSON straight to the API server. It creates the objects; writes are compared with it."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from ssl import SSLContext
from typing import Any, Final, TypeVar, cast

import aiohttp

from awsbatch_operator.api.names import API_VERSION, PLURAL, POLICY_PLURAL
from awsbatch_operator.kube import credentials

Body = dict[str, Any]
T = TypeVar("T")

CONNECTIONS: Final = 32
_GROUP: Final = f"/apis/{API_VERSION}"
_COLLECTION: Final = f"{_GROUP}/{PLURAL}"
_NAMESPACES: Final = "/api/v1/namespaces"
_POLICIES: Final = f"{_GROUP}/{POLICY_PLURAL}"
_PAGE: Final = "1000"
_QUICK: Final = 0.5
_JSON: Final = {"Content-Type": "application/json"}
_MERGE_PATCH: Final = {"Content-Type": "application/merge-patch+json"}
_MANAGER: Final = {"fieldManager": "bench"}
_VERSION: Final = re.compile(rb'"resourceVersion": ?"(\d+)"')
_NAME: Final = re.compile(rb'"name": ?"(bench-\d+)"')
_HAS_STATUS: Final = re.compile(rb'"jobStatus": ?"')
_DENIED: Final = re.compile(rb'"phase": ?"Denied"')
_ENDED: Final = re.compile(rb'"phase": ?"(Succeeded|Failed)"')


class Kube:
    """BatchJobs by `namespace/name`, their policies and namespaces. A verb raises RuntimeError for an error."""

    def __init__(self, session: aiohttp.ClientSession, tls: SSLContext | None) -> None:
        self._session, self._tls = session, tls

    async def version(self) -> str:
        """The version that the control plane reports."""
        return str(json.loads(await self._send("GET", "/version"))["gitVersion"])

    async def create(self, namespace: str, body: Body) -> None:
        await self._send("POST", f"{_GROUP}/namespaces/{namespace}/{PLURAL}", body, _JSON)

    async def read(self, key: str) -> Body:
        return cast("Body", json.loads(await self._send("GET", _path(key))))

    async def settled(self, count: int) -> None:
        """Wait until a list shows so many BatchJobs at once: the API server learns late of what etcd was given."""
        while True:
            began = time.monotonic()
            found = json.loads(await self._send("GET", _COLLECTION, params={"limit": "1"}))
            left = found["metadata"].get("remainingItemCount", 0)
            if len(found["items"]) + left >= count and time.monotonic() - began < _QUICK:
                return
            await asyncio.sleep(1)

    async def patch(self, key: str, change: Body) -> None:
        """A merge patch of the object, as `kubectl patch` makes it."""
        await self._send("PATCH", _path(key), change, _MERGE_PATCH)

    async def patch_status(self, key: str, status: Body | None) -> None:
        """A merge patch of `.status`; None removes the status."""
        await self._send("PATCH", f"{_path(key)}/status", {"status": status}, _MERGE_PATCH)

    async def delete(self, key: str) -> None:
        await self._send("DELETE", _path(key))

    async def create_namespace(self, name: str, labels: Mapping[str, str]) -> None:
        metadata = {"name": name, "labels": dict(labels)}
        await self._send("POST", _NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}, _JSON)

    async def label_namespace(self, name: str, labels: Mapping[str, str | None]) -> None:
        """A merge patch; None removes a label."""
        await self._send("PATCH", f"{_NAMESPACES}/{name}", {"metadata": {"labels": dict(labels)}}, _MERGE_PATCH)

    async def create_policy(self, body: Body) -> None:
        await self._send("POST", _POLICIES, body, _JSON)

    async def patch_policy(self, name: str, spec: Body) -> None:
        """A merge patch of `.spec`."""
        await self._send("PATCH", f"{_POLICIES}/{name}", {"spec": spec}, _MERGE_PATCH)

    async def delete_policy(self, name: str) -> None:
        await self._send("DELETE", f"{_POLICIES}/{name}")

    async def policy(self, name: str) -> Body:
        return cast("Body", json.loads(await self._send("GET", f"{_POLICIES}/{name}")))

    async def statuses(self) -> dict[str, Body]:
        """`.status` by key, {} where there is none."""
        found: dict[str, Body] = {}
        token = ""
        while True:
            raw = await self._send("GET", _COLLECTION, params={"limit": _PAGE} | ({"continue": token} if token else {}))
            page = json.loads(raw)
            found |= {_key(one["metadata"]): one.get("status", {}) for one in page["items"]}
            token = page["metadata"].get("continue", "")
            if not token:
                return found

    @asynccontextmanager
    async def watch(self) -> AsyncIterator["Sightings"]:
        """The changes from now on until the end of the block."""
        now = json.loads(await self._send("GET", _COLLECTION, params={"limit": "1"}))
        sightings = Sightings(now["metadata"]["resourceVersion"])
        reading = asyncio.create_task(self._follow(sightings))
        try:
            yield sightings
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading

    async def _follow(self, sightings: "Sightings") -> None:
        forever = aiohttp.ClientTimeout(total=None)
        while True:
            # A server under load ends slow watches: continue where the last one ended.
            since = {"watch": "true", "resourceVersion": sightings.latest}
            async with self._session.get(_COLLECTION, params=since, timeout=forever, ssl=self._tls or True) as stream:
                stream.raise_for_status()
                await sightings.read(stream.content)

    async def _send(
        self,
        method: str,
        path: str,
        body: Body | None = None,
        headers: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
    ) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        named = _MANAGER if method in ("POST", "PATCH") else params
        async with self._session.request(
            method, path, params=named, data=data, headers=headers, ssl=self._tls or True
        ) as answer:
            raw = await answer.read()
            if not answer.ok:
                raise RuntimeError(f"{method} {path}: HTTP {answer.status}: {raw[:300].decode(errors='replace')}")
            return raw


class Sightings:
    """Versions of objects as a watch shows them. Times are seconds since the epoch."""

    def __init__(self, latest: str) -> None:
        self.latest = latest
        self.versions = 0
        self.deleted = 0
        self.status_at: dict[str, float] = {}
        """Time at which a watch first showed the status of a job, by object name, which is unique in all namespaces."""
        self.denied_at: dict[str, float] = {}
        """The same for a status without a job, because none may be shown."""
        self.ended_at: dict[str, float] = {}
        """The same for the end of a job."""

    async def read(self, stream: aiohttp.StreamReader) -> None:
        rest = b""
        async for chunk in stream.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            now = time.time()
            for line in lines:
                self._note(line, now)

    async def statuses(self, count: int, *, timeout: float) -> None:  # noqa: ASYNC109  (a bound of the measure itself)
        """Returns once so many objects were seen with a status. TimeoutError."""
        await until(lambda: len(self.status_at) >= count, timeout, lambda: f"{len(self.status_at)} of {count} statuses")

    async def denials(self, count: int, *, timeout: float) -> None:  # noqa: ASYNC109  (as above)
        """Returns once so many objects were seen with a status that shows no job. TimeoutError."""
        await until(lambda: len(self.denied_at) >= count, timeout, lambda: f"{len(self.denied_at)} of {count} denials")

    async def ends(self, count: int, *, timeout: float) -> None:  # noqa: ASYNC109  (as above)
        """Returns once so many objects were seen with the end of their job. TimeoutError."""
        await until(lambda: len(self.ended_at) >= count, timeout, lambda: f"{len(self.ended_at)} of {count} ends")

    async def deletions(self, count: int, *, timeout: float) -> None:  # noqa: ASYNC109  (as above)
        """Returns once so many objects were seen to go. TimeoutError."""
        await until(lambda: self.deleted >= count, timeout, lambda: f"{self.deleted} of {count} deletions")

    def _note(self, line: bytes, now: float) -> None:
        """Read with a few searches: parsing each version would cost more CPU than the measured process."""
        version = _VERSION.search(line)
        if version is None:
            return
        self.latest = version[1].decode()
        self.versions += 1
        self.deleted += line.startswith(b'{"type":"DELETED"')
        name = _NAME.search(line)
        if name is not None and _ENDED.search(line):
            self.ended_at.setdefault(name[1].decode(), now)
        if name is not None and _HAS_STATUS.search(line):
            self.status_at.setdefault(name[1].decode(), now)
        elif name is not None and _DENIED.search(line):
            self.denied_at.setdefault(name[1].decode(), now)


def _path(key: str) -> str:
    namespace, _, name = key.partition("/")
    return f"{_GROUP}/namespaces/{namespace}/{PLURAL}/{name}"


def _key(metadata: Mapping[str, str]) -> str:
    return f"{metadata['namespace']}/{metadata['name']}"


@asynccontextmanager
async def connected(kubeconfig: Path) -> AsyncIterator[Kube]:
    access = await asyncio.to_thread(credentials.Login(str(kubeconfig)))
    session = aiohttp.ClientSession(
        access.server,
        connector=aiohttp.TCPConnector(limit=CONNECTIONS + 1),
        headers=access.headers,
        timeout=aiohttp.ClientTimeout(total=30),
    )
    async with session:
        yield Kube(session, access.tls)


async def in_parallel(width: int, calls: Iterable[Callable[[], Awaitable[T]]]) -> None:
    """Run the calls in order, `width` at a time."""
    left = iter(calls)

    async def work() -> None:
        for call in left:
            await call()

    async with asyncio.TaskGroup() as workers:
        for _ in range(width):
            workers.create_task(work())


async def until(holds: Callable[[], bool], seconds: float, state: Callable[[], str], every: float = 0.02) -> None:
    """Returns once `holds`. TimeoutError with the `state` that was reached."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"within {seconds:.0f} s only {state()}")
        await asyncio.sleep(every)
