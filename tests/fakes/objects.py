"""BatchJob objects of an API server as the engine sees it, in memory, with resource versions and conflicts."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from awsbatch_operator.api.batchjob import ObjectRef, Status
from awsbatch_operator.api.batchtermination import BulkSnapshot, BulkStatus, parse_bulk_status, parse_termination
from awsbatch_operator.api.decoding import Snapshot, parse_object
from awsbatch_operator.api.events import Event
from awsbatch_operator.api.interfaces import Conflict, Gone, ListError, NotWritten, Written
from awsbatch_operator.api.names import TERMINATION_KIND
from awsbatch_operator.api.status_codec import diff
from awsbatch_operator.kube.batchjobs import finalizer_patch
from awsbatch_sandbox.apiserver.patch import apply_json_patch, merge


@dataclass
class FakeObjects:
    """Implements `BatchJobClient`. `notify` gets each new version, as the watch would."""

    latency: float = 0.005
    answer_latency: float = 0.0
    notify: Callable[[Snapshot], None] = lambda _: None
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)
    writes: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)
    finalizer_writes: list[tuple[float, str, bool]] = field(default_factory=list)
    events: list[tuple[str, Event]] = field(default_factory=list)
    away: bool = False
    unreadable: set[str] = field(default_factory=set)
    """Names of objects that are listed and can't be read."""
    reads: list[str] = field(default_factory=list)
    """Names of the objects that were read."""
    on_read: Callable[[ObjectRef], None] = lambda _: None
    """Called between the read of an object and the answer, which shows the object as it was before."""
    refuses: str = ""
    forbidden: set[str] = field(default_factory=set)
    unavailable: set[str] = field(default_factory=set)
    """Names of objects whose status writes are refused, or get no answer."""
    hanging: dict[str, float] = field(default_factory=dict)
    """Seconds after which status writes of a namespace fail."""
    crd: bool | NotWritten = False
    """Whether the CRD is being deleted, or why it can't be read."""
    crd_reads: list[float] = field(default_factory=list)
    on_gone: Callable[[str], None] = lambda _: None
    """Gets the uid of an object that is gone, as the watch would."""
    on_termination: Callable[[BulkSnapshot], None] = lambda _: None
    on_termination_gone: Callable[[str], None] = lambda _: None
    """The same for BatchTerminations."""
    version: int = 0
    at_once: int = 0
    most_at_once: int = 0

    def create(
        self,
        name: str,
        spec: Mapping[str, Any],
        status: Mapping[str, Any] | None = None,
        namespace: str = "ns",
        finalizers: Sequence[str] = (),
    ) -> str:
        """Create an object; its uid. `status` as an earlier operator left it."""
        uid = f"uid-{name}" if namespace == "ns" else f"uid-{namespace}-{name}"
        self.bodies[uid] = {
            "metadata": {
                "namespace": namespace,
                "name": name,
                "uid": uid,
                "generation": 1,
                "creationTimestamp": "1970-01-01T00:10:00Z",
                **({"finalizers": list(finalizers)} if finalizers else {}),
            },
            "spec": dict(spec),
            "status": dict(status or {}),
        }
        self._changed(uid)
        return uid

    def create_termination(
        self, name: str, spec: Mapping[str, Any], namespace: str = "ns", created: str = "1970-01-02T03:46:40Z"
    ) -> str:
        """Create a BatchTermination; its uid."""
        uid = f"bt-{namespace}-{name}"
        self.bodies[uid] = {
            "kind": TERMINATION_KIND,
            "metadata": {
                "namespace": namespace,
                "name": name,
                "uid": uid,
                "generation": 1,
                "creationTimestamp": created,
            },
            "spec": dict(spec),
            "status": {"observedGeneration": 0},
        }
        self._changed(uid)
        return uid

    def edit(self, uid: str, spec: Mapping[str, Any]) -> None:
        body = self.bodies[uid]
        metadata = {**body["metadata"], "generation": body["metadata"]["generation"] + 1}
        self.bodies[uid] = {**body, "metadata": metadata, "spec": {**body["spec"], **spec}}
        self._changed(uid)

    def delete(self, uid: str) -> None:
        """Delete like the API server: finalizers keep the object, with a deletionTimestamp and a new generation."""
        body = self.bodies[uid]
        if not body["metadata"].get("finalizers"):
            del self.bodies[uid]
            (self.on_termination_gone if "kind" in body else self.on_gone)(uid)
        elif "deletionTimestamp" not in body["metadata"]:
            more = {"generation": body["metadata"]["generation"] + 1, "deletionTimestamp": "1970-01-01T00:20:00Z"}
            self.bodies[uid] = {**body, "metadata": {**body["metadata"], **more}}
            self._changed(uid)

    def finalizers(self, uid: str) -> list[str]:
        return list(self.bodies[uid]["metadata"].get("finalizers", []))

    async def write_finalizer(
        self, ref: ObjectRef, finalizers: Sequence[str], resource_version: str, *, add: bool
    ) -> Written | Conflict | Gone | NotWritten:
        await asyncio.sleep(self.latency)
        if self.away or ref.name in self.forbidden:
            return NotWritten("away")
        body = self.bodies.get(ref.uid)
        if body is None:
            return Gone()
        if body["metadata"]["resourceVersion"] != resource_version:
            return Conflict()
        assert not (add and "deletionTimestamp" in body["metadata"]), "a finalizer added during a deletion"
        patched = apply_json_patch(body, finalizer_patch(finalizers, resource_version, add=add))
        self.finalizer_writes.append((asyncio.get_running_loop().time(), ref.uid, add))
        self.bodies[ref.uid] = patched
        if patched["metadata"].get("deletionTimestamp") and not patched["metadata"]["finalizers"]:
            del self.bodies[ref.uid]
            self.on_gone(ref.uid)
        else:
            self._changed(ref.uid)
            patched = self.bodies[ref.uid]
        return Written(
            patched["metadata"]["resourceVersion"], patched["status"], tuple(patched["metadata"]["finalizers"])
        )

    async def crd_deleted(self) -> bool | NotWritten:
        self.crd_reads.append(asyncio.get_running_loop().time())
        answer = self.crd
        await asyncio.sleep(self.latency)
        return answer

    def write_foreign_status(self, uid: str, status: Mapping[str, Any], *, silent: bool = False) -> None:
        self.bodies[uid] = {**self.bodies[uid], "status": dict(status)}
        self._changed(uid, silent=silent)

    def snapshot(self, uid: str) -> Snapshot:
        return parse_object(self.bodies[uid])

    def status(self, uid: str) -> Status:
        return self.snapshot(uid).status

    def bulk_status(self, uid: str) -> BulkStatus:
        return parse_bulk_status(self.bodies[uid]["status"])

    def reasons(self, uid: str) -> list[str]:
        return [event.reason for about, event in self.events if about == uid]

    def change(self, wanted: Status, shown: Status | Mapping[str, object]) -> Mapping[str, object]:
        return diff(wanted, shown)

    async def write_status(
        self, ref: ObjectRef, change: Mapping[str, object], resource_version: str
    ) -> Written | Conflict | Gone | NotWritten:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.hanging.get(ref.namespace, self.latency))
        self.at_once -= 1
        if self.away or ref.namespace in self.hanging or ref.name in self.unavailable:
            return NotWritten("away")
        if self.refuses:
            return NotWritten(self.refuses, refused=True)
        if ref.name in self.forbidden:
            return NotWritten("cannot patch", refused=True)
        body = self.bodies.get(ref.uid)
        if body is None:
            return Gone()
        if body["metadata"]["resourceVersion"] != resource_version:
            return Conflict()
        assert change, "a write that changes nothing"
        self.writes.append((asyncio.get_running_loop().time(), ref.uid, dict(change)))
        self.bodies[ref.uid] = {**body, "status": merge(body["status"], dict(change))}
        self._changed(ref.uid)
        body = self.bodies[ref.uid]
        await asyncio.sleep(self.answer_latency)
        return Written(body["metadata"]["resourceVersion"], body["status"])

    async def read(self, ref: ObjectRef) -> Snapshot | Gone | NotWritten:
        self.reads.append(ref.name)
        await asyncio.sleep(self.latency)
        if self.away or ref.name in self.unreadable:
            return NotWritten("away")
        answer = self.snapshot(ref.uid) if ref.uid in self.bodies else Gone()
        self.on_read(ref)
        return answer

    async def versions(self) -> AsyncIterator[tuple[ObjectRef, str]]:
        await asyncio.sleep(self.latency)
        if self.away:
            raise ListError("away")
        for body in [body for body in self.bodies.values() if "kind" not in body]:
            metadata = body["metadata"]
            yield ObjectRef(metadata["namespace"], metadata["name"], metadata["uid"]), metadata["resourceVersion"]

    def post_event(self, ref: ObjectRef, event: Event) -> None:
        self.events.append((ref.uid, event))

    def _changed(self, uid: str, *, silent: bool = False) -> None:
        self.version += 1
        body = self.bodies[uid]
        self.bodies[uid] = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        if silent:
            return
        if "kind" in body:
            self.on_termination(parse_termination(self.bodies[uid]))
        else:
            self.notify(self.snapshot(uid))
