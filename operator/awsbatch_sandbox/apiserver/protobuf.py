"""Built-in kinds as Go clients send them: application/vnd.kubernetes.protobuf, decoded to the JSON shape.

`kubectl create namespace` and client-go's leader election send nothing else. Answers are always JSON, which such
clients accept. Field numbers are those of k8s.io/api and k8s.io/apimachinery generated.proto.
"""

import base64
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from awsbatch_sandbox.apiserver.errors import bad_request, unsupported_media_type
from awsbatch_sandbox.apiserver.storage import Body

MEDIA_TYPE: Final = "application/vnd.kubernetes.protobuf"
_MAGIC: Final = b"k8s\x00"

_MESSAGES: Final = {
    "Unknown": "typeMeta:1:TypeMeta raw:2:raw contentEncoding:3 contentType:4",
    "TypeMeta": "apiVersion:1 kind:2",
    "ObjectMeta": (
        "name:1 generateName:2 namespace:3 selfLink:4 uid:5 resourceVersion:6 generation:7:int "
        "creationTimestamp:8:Time deletionTimestamp:9:Time deletionGracePeriodSeconds:10:int labels:11:map "
        "annotations:12:map ownerReferences:13:OwnerReference* finalizers:14:string*"
    ),
    "OwnerReference": "apiVersion:5 kind:1 name:3 uid:4 controller:6:bool blockOwnerDeletion:7:bool",
    "v1 DeleteOptions": (
        "gracePeriodSeconds:1:int preconditions:2:Preconditions orphanDependents:3:bool propagationPolicy:4 "
        "dryRun:5:string*"
    ),
    "Preconditions": "uid:1 resourceVersion:2",
    "v1 Namespace": "metadata:1:ObjectMeta spec:2:NamespaceSpec status:3:NamespaceStatus",
    "NamespaceSpec": "finalizers:1:string*",
    "NamespaceStatus": "phase:1",
    "v1 ConfigMap": "metadata:1:ObjectMeta immutable:4:bool data:2:map binaryData:3:bytemap",
    "v1 Secret": "metadata:1:ObjectMeta immutable:5:bool data:2:bytemap stringData:4:map type:3",
    "v1 ServiceAccount": (
        "metadata:1:ObjectMeta secrets:2:ObjectReference* imagePullSecrets:3:LocalObjectReference* "
        "automountServiceAccountToken:4:bool"
    ),
    "LocalObjectReference": "name:1",
    "ObjectReference": "kind:1 namespace:2 name:3 uid:4 apiVersion:5 resourceVersion:6 fieldPath:7",
    "v1 Event": (
        "metadata:1:ObjectMeta involvedObject:2:ObjectReference reason:3 message:4 source:5:EventSource "
        "firstTimestamp:6:Time lastTimestamp:7:Time count:8:int type:9 eventTime:10:MicroTime series:11:EventSeries "
        "action:12 related:13:ObjectReference reportingComponent:14 reportingInstance:15"
    ),
    "events.k8s.io/v1 Event": (
        "metadata:1:ObjectMeta eventTime:2:MicroTime series:3:EventSeries reportingController:4 reportingInstance:5 "
        "action:6 reason:7 regarding:8:ObjectReference related:9:ObjectReference note:10 type:11 "
        "deprecatedSource:12:EventSource deprecatedFirstTimestamp:13:Time deprecatedLastTimestamp:14:Time "
        "deprecatedCount:15:int"
    ),
    "EventSource": "component:1 host:2",
    "EventSeries": "count:1:int lastObservedTime:2:MicroTime",
    "coordination.k8s.io/v1 Lease": "metadata:1:ObjectMeta spec:2:LeaseSpec",
    "LeaseSpec": (
        "holderIdentity:1 leaseDurationSeconds:2:int acquireTime:3:MicroTime renewTime:4:MicroTime "
        "leaseTransitions:5:int strategy:6 preferredHolder:7"
    ),
    "authorization.k8s.io/v1 SelfSubjectAccessReview": "metadata:1:ObjectMeta spec:2:SelfSubjectAccessReviewSpec",
    "SelfSubjectAccessReviewSpec": (
        "resourceAttributes:1:ResourceAttributes nonResourceAttributes:2:NonResourceAttributes"
    ),
    "ResourceAttributes": "namespace:1 verb:2 group:3 version:4 resource:5 subresource:6 name:7",
    "NonResourceAttributes": "path:1 verb:2",
    "authentication.k8s.io/v1 SelfSubjectReview": "metadata:1:ObjectMeta",
}


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    type: str
    repeated: bool


def _fields(text: str) -> dict[int, _Field]:
    fields = {}
    for item in text.split():
        name, number, kind = (*item.split(":"), "string")[:3]
        fields[int(number)] = _Field(name, kind.rstrip("*"), kind.endswith("*"))
    return fields


_TABLE: Final = {message: _fields(text) for message, text in _MESSAGES.items()}


def known_fields(api_version: str, kind: str) -> dict[str, str] | None:
    """The fields of a kind or message and their types, for finding unknown ones; None for a kind not listed here."""
    fields = _TABLE.get(f"{api_version} {kind}".strip())
    return None if fields is None else {field.name: field.type for field in fields.values()}


def decode(raw: bytes) -> Body:
    """The JSON shape of a protobuf body; ApiError 400 when it is broken, 415 for a kind not listed here."""
    if not raw.startswith(_MAGIC):
        raise bad_request("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    try:
        envelope = _message(raw[len(_MAGIC) :], "Unknown")
        head = envelope["typeMeta"]
        message = f"{head['apiVersion']} {head['kind']}"
        if message not in _TABLE:
            raise unsupported_media_type(f"{message} is not served as {MEDIA_TYPE} here: send application/json")
        return {**head, **_message(envelope.get("raw", b""), message)}
    except (IndexError, KeyError, ValueError) as error:
        raise bad_request(f"the protobuf body can't be decoded: {error!r}") from error


def _message(raw: bytes, message: str) -> Body:
    fields = _TABLE[message]
    body: Body = {}
    for number, value in _pairs(raw):
        field = fields.get(number)
        if field is None:
            continue
        decoded = _value(value, field.type)
        if field.repeated:
            body.setdefault(field.name, []).append(decoded)
        elif field.type in {"map", "bytemap"}:
            body.setdefault(field.name, {}).update(decoded)
        elif decoded not in ("", None):
            body[field.name] = decoded
    return body


def _value(value: Any, kind: str) -> Any:
    match kind:
        case "string":
            return value.decode()
        case "raw":
            return value
        case "int":
            return value - (1 << 64) if value >= 1 << 63 else value
        case "bool":
            return bool(value)
        case "Time" | "MicroTime":
            return _time(value, micro=kind == "MicroTime")
        case "map" | "bytemap":
            entry = dict(_pairs(value))
            item = entry.get(2, b"")
            return {entry.get(1, b"").decode(): item.decode() if kind == "map" else base64.b64encode(item).decode()}
    return _message(value, kind)


def _time(raw: bytes, *, micro: bool) -> str | None:
    parts = dict(_pairs(raw))
    if not parts:
        return None
    moment = dt.datetime.fromtimestamp(parts.get(1, 0), dt.UTC)
    if micro:
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{parts.get(2, 0) // 1000:06d}Z"
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _pairs(raw: bytes) -> Iterator[tuple[int, Any]]:
    """The field numbers and raw values (int or bytes) of one message."""
    position = 0
    while position < len(raw):
        tag, position = _varint(raw, position)
        if tag & 7 == 0:
            value, position = _varint(raw, position)
            yield tag >> 3, value
        elif tag & 7 == 2:
            length, position = _varint(raw, position)
            if position + length > len(raw):
                raise ValueError("a field ends beyond the message")
            yield tag >> 3, raw[position : position + length]
            position += length
        else:
            raise ValueError(f"wire type {tag & 7}")


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[position]
        position += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, position
