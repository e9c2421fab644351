"""The built-in kinds that are served, and those that are refused by name."""

import base64
from collections.abc import Callable
from typing import Any, Final

from awsbatch_sandbox.apiserver import events
from awsbatch_sandbox.apiserver.errors import NOT_KUBERNETES
from awsbatch_sandbox.apiserver.resources import Resource
from awsbatch_sandbox.apiserver.storage import Body
from awsbatch_sandbox.apiserver.table import AGE, NAME, Column


def _prepare_namespace(new: Body, old: Body | None) -> Body:
    # Selectors of namespaces rely on this label: each write sets it again.
    labels = (new["metadata"].get("labels") or {}) | {"kubernetes.io/metadata.name": new["metadata"].get("name", "")}
    new = new | {"metadata": new["metadata"] | {"labels": labels}}
    return new if old else new | {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}


def _prepare_secret(new: Body, old: Body | None) -> Body:
    del old
    plain = {key: base64.b64encode(text.encode()).decode() for key, text in (new.get("stringData") or {}).items()}
    body = {key: value for key, value in new.items() if key != "stringData"}
    return {"type": "Opaque"} | body | ({"data": (body.get("data") or {}) | plain} if plain else {})


def _builtin(group: str, version: str, kind: str, plural: str, **more: Any) -> Resource:
    storage = more.pop("storage", f"{plural}.{group}".rstrip("."))
    return Resource(group, version, kind, plural, storage, singular=kind.lower(), **more)


def _reads(*path: str) -> Callable[[Body], Any]:
    def read(body: Body) -> Any:
        value: Any = body
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        return value

    return read


def _object_of(event: Body) -> str:
    about = event.get("involvedObject") or {}
    return f"{about.get('kind', '').lower()}/{about.get('name', '')}"


_EVENT_COLUMNS: Final = (
    Column("Last Seen", events.last_seen, ages=True),
    Column("Type", _reads("type")),
    Column("Reason", _reads("reason")),
    Column("Object", _object_of),
    Column("Subobject", lambda event: (event.get("involvedObject") or {}).get("fieldPath", ""), priority=1),
    Column("Source", events.source, priority=1),
    Column("Message", lambda event: (event.get("message") or "").strip()),
    Column("First Seen", lambda event: event.get("firstTimestamp") or event.get("eventTime"), ages=True, priority=1),
    Column("Count", events.count, type="integer", priority=1),
    Column("Name", NAME.read, format="name", priority=1),
)


def _size(key: str) -> Column:
    return Column("Data", lambda body: len(body.get(key) or {}) + len(body.get("binaryData") or {}), type="integer")


NAMESPACES: Final = _builtin(
    "",
    "v1",
    "Namespace",
    "namespaces",
    namespaced=False,
    short_names=("ns",),
    has_status=True,
    prepare=_prepare_namespace,
    verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
    columns=(NAME, Column("Status", _reads("status", "phase")), AGE),
    fields={"status.phase": lambda body: str(_reads("status", "phase")(body) or "")},
)
BUILTIN: Final = (
    NAMESPACES,
    _builtin(
        "",
        "v1",
        "Event",
        "events",
        short_names=("ev",),
        columns=_EVENT_COLUMNS,
        fields=events.CORE_FIELDS,
        faults=events.core_faults,
        to_wire=events.to_core,
        from_wire=events.from_core,
    ),
    _builtin(
        "events.k8s.io",
        "v1",
        "Event",
        "events",
        storage="events",
        short_names=("ev",),
        columns=_EVENT_COLUMNS,
        fields=events.NEW_FIELDS,
        faults=events.new_faults,
        to_wire=events.to_new,
        from_wire=events.from_new,
    ),
    _builtin("", "v1", "ConfigMap", "configmaps", short_names=("cm",), columns=(NAME, _size("data"), AGE)),
    _builtin(
        "",
        "v1",
        "Secret",
        "secrets",
        columns=(NAME, Column("Type", _reads("type")), _size("data"), AGE),
        prepare=_prepare_secret,
        fields={"type": lambda body: str(body.get("type", ""))},
    ),
    _builtin("", "v1", "ServiceAccount", "serviceaccounts", short_names=("sa",)),
    _builtin(
        "coordination.k8s.io",
        "v1",
        "Lease",
        "leases",
        unconditional_update=False,
        columns=(NAME, Column("Holder", _reads("spec", "holderIdentity")), AGE),
    ),
)

_REFUSED_KINDS: Final = (
    ("rbac.authorization.k8s.io", "ClusterRole", "clusterroles", False),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", "clusterrolebindings", False),
    ("rbac.authorization.k8s.io", "Role", "roles", True),
    ("rbac.authorization.k8s.io", "RoleBinding", "rolebindings", True),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", False),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", False),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", False),
)
_EVERYTHING_ALLOWED: Final = "every request is allowed and nothing is admitted by webhooks here"
REFUSED: Final = tuple(
    _builtin(
        group,
        "v1",
        kind,
        plural,
        namespaced=namespaced,
        verbs=("create",),
        refusal=f"{kind} objects are not served: {_EVERYTHING_ALLOWED}. {NOT_KUBERNETES}",
    )
    for group, kind, plural, namespaced in _REFUSED_KINDS
)
REVIEWS: Final = (
    _builtin(
        "authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews",
        namespaced=False, verbs=("create",),
    ),
    _builtin(
        "authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", namespaced=False, verbs=("create",)
    ),
)  # fmt: skip
