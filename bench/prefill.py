"""Many objects with statuses in short time.

A real API server takes some 150 status writes a second on two cores, eleven minutes for 100,000. So its objects are put
into etcd, each as the API server stored an example that the bare client created and the operator reported on. It serves
them as its own. The embedded API server takes them by HTTP.
"""

import base64
import http.client
import itertools
import json
import os
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import aiohttp
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from awsbatch_operator.api.names import GROUP, PLURAL
from awsbatch_operator.api.timestamps import date_time
from awsbatch_sandbox.controlplane import ASSETS, ControlPlane, choose
from awsbatch_sandbox.envtest import Envtest
from awsbatch_sandbox.operator_process import REGION
from bench.kube import CONNECTIONS, Body, Kube, in_parallel

T = TypeVar("T")

JOBS_PER_DESCRIBE: Final = 100
_A_TRANSACTION: Final = 100
"""Objects; etcd takes 128 operations at once."""
_COPIED: Final = ("jobName", "jobArn")
_TIMES: Final = ("createdAt", "startedAt")


class Store(Protocol):
    """Creates many objects quickly."""

    async def read(self, namespace: str, name: str) -> Body:
        """Return the object as it is stored."""

    async def put(self, objects: Sequence[Body]) -> None:
        """Store these new objects, statuses included."""


class EtcdPlane(Envtest):
    """A real control plane whose etcd can be reached."""

    @property
    def etcd_url(self) -> str:
        return self._etcd_url


class Etcd:
    """BatchJobs in the etcd of a real API server."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def read(self, namespace: str, name: str) -> Body:
        answer = await self._ask("range", {"key": _key(namespace, name)})
        body: Body = json.loads(base64.b64decode(answer["kvs"][0]["value"]))
        return body

    async def put(self, objects: Sequence[Body]) -> None:
        await in_parallel(8, (partial(self._put, some) for some in _batched(objects, _A_TRANSACTION)))

    async def _put(self, objects: Sequence[Body]) -> None:
        puts = [
            {"requestPut": {"key": _key(one["metadata"]["namespace"], one["metadata"]["name"]), "value": _value(one)}}
            for one in objects
        ]
        await self._ask("txn", {"success": puts})

    async def _ask(self, operation: str, body: Body) -> Body:
        async with self._session.post(f"/v3/kv/{operation}", json=body) as answer:
            found: Body = await answer.json()
        if answer.status != 200:
            raise RuntimeError(f"etcd: HTTP {answer.status}: {found}")
        return found


class Http:
    """The same for an API server that has no etcd: by its API."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    async def read(self, namespace: str, name: str) -> Body:
        return await self._kube.read(f"{namespace}/{name}")

    async def put(self, objects: Sequence[Body]) -> None:
        await in_parallel(CONNECTIONS, (partial(self._put, one) for one in objects))

    async def _put(self, body: Body) -> None:
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        new = {key: body[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": name}}
        await self._kube.create(namespace, new)
        if "status" in body:
            await self._kube.patch_status(f"{namespace}/{name}", body["status"])


def plane_of(name: str, directory: Path) -> ControlPlane:
    """`name`: of --control-plane."""
    assets = os.environ.get(ASSETS)
    return EtcdPlane(directory, assets) if name == "envtest" or (name == "auto" and assets) else choose(name, directory)


@asynccontextmanager
async def store_of(plane: ControlPlane, kube: Kube) -> AsyncIterator[Store]:
    if isinstance(plane, EtcdPlane):
        async with aiohttp.ClientSession(plane.etcd_url) as session:
            yield Etcd(session)
    else:
        yield Http(kube)


def like(example: Body, namespace: str, name: str, job: Mapping[str, Any]) -> Body:
    """Return the object that would be stored for this job. `job`: of an answer of DescribeJobs."""
    metadata = example["metadata"] | {"namespace": namespace, "name": name, "uid": str(uuid.uuid4())}
    body = example | {"metadata": metadata, "spec": example["spec"] | {"jobId": job["jobId"]}}
    if "status" in example:
        own = {field: job[field] for field in _COPIED} | {field: date_time(job[field]) for field in _TIMES}
        own["logStreamName"] = job["container"]["logStreamName"]
        body["status"] = example["status"] | own
    return body


def described(batch_url: str, job_ids: Sequence[str], region: str = REGION) -> Iterator[Mapping[str, Any]]:
    """Describe the jobs, without botocore, which takes ten times as long to read them."""
    keys = Credentials("sandbox", "sandbox")
    with closing(http.client.HTTPConnection(batch_url.removeprefix("http://"))) as connection:
        for some in _batched(job_ids, JOBS_PER_DESCRIBE):
            request = AWSRequest("POST", f"{batch_url}/v1/describejobs", data=json.dumps({"jobs": some}).encode())
            SigV4Auth(keys, "batch", region).add_auth(request)
            connection.request("POST", "/v1/describejobs", request.data, dict(request.headers))
            found = {job["jobId"]: job for job in json.loads(connection.getresponse().read())["jobs"]}
            yield from (found[job_id] for job_id in some)


def _batched(things: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    left = iter(things)
    while some := tuple(itertools.islice(left, size)):
        yield some


def _key(namespace: str, name: str) -> str:
    return base64.b64encode(f"/registry/{GROUP}/{PLURAL}/{namespace}/{name}".encode()).decode()


def _value(body: Body) -> str:
    return base64.b64encode(json.dumps(body, separators=(",", ":")).encode()).decode()
