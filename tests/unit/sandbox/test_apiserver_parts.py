"""The parts of the embedded API server that need no server."""

import base64
import datetime as dt
from typing import Any

import pytest

from awsbatch_sandbox.apiserver import protobuf
from awsbatch_sandbox.apiserver.cel import RuleError, Rules
from awsbatch_sandbox.apiserver.errors import ApiError
from awsbatch_sandbox.apiserver.jsonpath import compile_path
from awsbatch_sandbox.apiserver.patch import apply_json_patch, merge, strategic_merge
from awsbatch_sandbox.apiserver.routes import Target, parse_path
from awsbatch_sandbox.apiserver.schema import prune, with_defaults
from awsbatch_sandbox.apiserver.storage import Store
from awsbatch_sandbox.apiserver.table import age, human_duration
from awsbatch_sandbox.apiserver.validation import Validator
from unit.sandbox.apiserver_client import SCHEMA

SPEC = SCHEMA["properties"]["spec"]


def faults(spec: Any, old: Any = None, status: Any = None) -> list[str]:
    new = {"spec": spec} | ({"status": status} if status else {})
    return [str(fault) for fault in Validator(SCHEMA).faults(new, {"spec": old} if old else None)]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "spec.id: Required value"),
        ("text", 'spec: Invalid value: "string": spec in body must be of type object: "string"'),
        ({"id": 5}, 'spec.id: Invalid value: "integer": spec.id in body must be of type string: "integer"'),
        ({"id": ""}, 'spec.id: Invalid value: "": spec.id in body should be at least 1 chars long'),
        ({"id": "A"}, "spec.id: Invalid value: \"A\": spec.id in body should match '^[a-z]*$'"),
        ({"id": "abcdefghi"}, "spec.id: Too long: may not be more than 8 bytes"),
        ({"id": "a", "n": 11}, "spec.n: Invalid value: 11: spec.n in body should be less than or equal to 10"),
        ({"id": "a", "n": -1}, "spec.n: Invalid value: -1: spec.n in body should be greater than or equal to 0"),
        ({"id": "a", "n": True}, 'spec.n: Invalid value: "boolean": spec.n in body must be of type integer: "boolean"'),
        ({"id": "a", "list": [{}, {}, {}]}, "spec.list: Too many: 3: must have at most 2 items"),
        ({"id": "a", "list": []}, "spec.list: Invalid value: 0: spec.list in body should have at least 1 items"),
        (
            {"id": "a", "list": [{"a": 1}]},
            'spec.list[0].a: Invalid value: "integer": spec.list[0].a in body must be of type string: "integer"',
        ),
        (
            {"id": "a", "labels": {"k": 1}},
            'spec.labels.k: Invalid value: "integer": spec.labels.k in body must be of type string: "integer"',
        ),
    ],
)
def test_schema_faults_are_worded_as_kube_apiserver_words_them(spec: Any, message: str) -> None:
    assert faults(spec) == [message]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ({"phase": "Odd"}, 'status.phase: Unsupported value: "Odd": supported values: "Up", "Down"'),
        (
            {"when": "soon"},
            'status.when: Invalid value: "soon": status.when in body must be of type date-time: "soon"',
        ),
        (
            {"conditions": [{"type": "A", "status": "True"}, {"type": "A", "status": "False"}]},
            'status.conditions[1]: Duplicate value: {"type":"A"}',
        ),
        ({"conditions": [{"type": "A"}]}, "status.conditions[0].status: Required value"),
    ],
)
def test_status_faults_are_worded_as_kube_apiserver_words_them(status: Any, message: str) -> None:
    assert faults({"id": "a"}, status=status) == [message]


def test_int_or_string_nullable_and_real_times_are_accepted() -> None:
    assert faults({"id": "a", "port": 80, "kept": None}) == []
    assert faults({"id": "a", "port": "http"}, status={"when": "2026-01-01T00:00:00.123Z"}) == []


def test_unchanged_parts_of_an_update_are_not_validated() -> None:
    assert faults({"id": "BAD", "n": 1}, {"id": "BAD", "n": 2}) == []
    assert len(faults({"id": "WORSE", "n": 1}, {"id": "BAD", "n": 2})) == 1
    assert faults({"id": "a", "labels": {"bad": 1, "new": "x"}}, {"id": "a", "labels": {"bad": 1}}) == []


def test_pruning_drops_and_reports_unknown_fields_and_forbidden_nulls() -> None:
    unknown: list[str] = []
    sent = {"id": "a", "odd": 1, "text": None, "kept": None, "free": {"any": 1}, "labels": {"k": "v"}}
    pruned = prune(sent, SPEC, ("spec",), unknown)
    assert pruned == {"id": "a", "kept": None, "free": {"any": 1}, "labels": {"k": "v"}}
    assert unknown == ["spec.odd"]


def test_an_unchanged_value_is_not_copied() -> None:
    body = {"id": "a", "n": 1, "list": [{"a": "b"}]}
    assert prune(body, SPEC, (), []) is body
    assert with_defaults(body, SPEC) is body


def test_defaults_fill_in_and_do_not_share() -> None:
    schema = {"properties": {"a": {"default": {"b": []}}, "c": {"properties": {"d": {"default": 1}}}}}
    one, two = with_defaults({"c": {}}, schema), with_defaults({}, schema)
    assert one == {"a": {"b": []}, "c": {"d": 1}}
    assert one["a"]["b"] is not two["a"]["b"]


def broken(new: Any, old: Any = None, schema: Any = SCHEMA) -> list[tuple[str, str]]:
    return [(fault.field, fault.body) for fault in Rules(schema).faults({"spec": new}, old and {"spec": old})]


def test_transition_rules_apply_to_updates_only() -> None:
    assert broken({"id": "a"}) == []
    assert broken({"id": "a"}, {"id": "b"}) == [("spec.id", "Invalid value: id can't change")]


def test_a_message_expression_words_the_fault() -> None:
    assert broken({"id": "a", "n": 5, "max": 4}) == [("spec", "Invalid value: n must not exceed 4")]


def test_a_rule_without_a_message_shows_itself_and_a_scalar_its_value() -> None:
    text = {"type": "string", "x-kubernetes-validations": [{"rule": "self.trim() != ''"}]}
    schema = {"properties": {"spec": {"properties": {"text": text}}}}
    assert broken({"text": " "}, schema=schema) == [
        ("spec.text", "Invalid value: \" \": failed rule: self.trim() != ''")
    ]


def test_a_rule_that_can_not_be_evaluated_is_a_fault() -> None:
    spec = {"type": "object", "x-kubernetes-validations": [{"rule": "self.missing > 1"}]}
    ((field, body),) = broken({"id": "a"}, schema={"properties": {"spec": spec}})
    assert (field, "evaluating rule: self.missing > 1" in body) == ("spec", True)


def test_a_rule_compares_times_not_their_spelling() -> None:
    rule = {"rule": "self.at == oldSelf.at && self.at > timestamp('2026-01-01T00:00:00Z')", "message": "no"}
    at = {"type": "string", "format": "date-time"}
    inner = {"type": "object", "properties": {"at": at}, "x-kubernetes-validations": [rule]}
    items = {"type": "array", "items": inner, "x-kubernetes-list-map-keys": ["k"]}
    schema = {"properties": {"spec": {"properties": {"list": items}}}}

    def faults_of(new: str) -> list[str]:
        spec = {"list": [{"k": 1, "at": new}]}
        return [field for field, _ in broken(spec, {"list": [{"k": 1, "at": "2026-11-25T11:00:00Z"}]}, schema)]

    assert faults_of("2026-11-25t12:00:00.000+01:00") == []
    assert faults_of("2026-11-25T12:00:00Z") == ["spec.list[0]"]


def test_rules_reach_into_lists_and_maps() -> None:
    item = {"type": "object", "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v", "message": "no way back"}]}
    schema = {
        "properties": {
            "spec": {
                "properties": {
                    "list": {"type": "array", "x-kubernetes-list-map-keys": ["k"], "items": item},
                    "map": {"type": "object", "additionalProperties": item},
                }
            }
        }
    }
    old = {"list": [{"k": "a", "v": 2}, {"k": "b", "v": 2}], "map": {"x": {"v": 2}}}
    new = {"list": [{"k": "b", "v": 1}, {"k": "a", "v": 3}], "map": {"x": {"v": 1}}}
    assert [field for field, _ in broken(new, old, schema)] == ["spec.list[0]", "spec.map.x"]


def test_a_rule_that_does_not_parse_is_reported_with_its_path() -> None:
    with pytest.raises(RuleError) as raised:
        Rules({"properties": {"spec": {"x-kubernetes-validations": [{"rule": "self. =="}]}}})
    assert raised.value.path == ("properties", "spec", "x-kubernetes-validations", 0, "rule")


def test_a_merge_patch_removes_with_null_and_does_not_change_its_argument() -> None:
    target = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert merge(target, {"a": {"b": None, "e": {"f": 1}}, "d": [2]}) == {"a": {"c": 2, "e": {"f": 1}}, "d": [2]}
    assert target == {"a": {"b": 1, "c": 2}, "d": [1]}


def test_a_json_patch_that_is_rubbish_is_a_bad_request() -> None:
    rubbish: list[Any] = [{"spec": {}}, [{"op": "fly", "path": "/a"}], [1]]
    for operations in rubbish:
        with pytest.raises(ApiError) as raised:
            apply_json_patch({"a": 1}, operations)
        assert raised.value.code == 400


@pytest.mark.parametrize(
    ("patch", "merged"),
    [
        ({"finalizers": ["b"]}, {"finalizers": ["a", "b"], "secrets": [{"name": "x", "v": 1}], "m": {"k": 1}}),
        (
            {"$deleteFromPrimitiveList/finalizers": ["a"]},
            {"finalizers": [], "secrets": [{"name": "x", "v": 1}], "m": {"k": 1}},
        ),
        (
            {"secrets": [{"name": "y"}, {"name": "x", "v": 2}]},
            {"finalizers": ["a"], "secrets": [{"name": "x", "v": 2}, {"name": "y"}], "m": {"k": 1}},
        ),
        ({"secrets": [{"$patch": "delete", "name": "x"}]}, {"finalizers": ["a"], "secrets": [], "m": {"k": 1}}),
        (
            {"secrets": [{"$patch": "replace"}, {"name": "z"}], "m": None},
            {"finalizers": ["a"], "secrets": [{"name": "z"}]},
        ),
        (
            {"m": {"$patch": "replace", "n": 2}, "$setElementOrder/secrets": []},
            {"finalizers": ["a"], "secrets": [{"name": "x", "v": 1}], "m": {"n": 2}},
        ),
        ({"m": {"$patch": "delete"}}, {"finalizers": ["a"], "secrets": [{"name": "x", "v": 1}], "m": {}}),
    ],
)
def test_strategic_merge_follows_keys_and_directives(patch: Any, merged: Any) -> None:
    assert strategic_merge({"finalizers": ["a"], "secrets": [{"name": "x", "v": 1}], "m": {"k": 1}}, patch) == merged


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".a.b", [1]),
        ("{.a.b}", [1]),
        (".list[0].k", ["x"]),
        (".list[-1].k", ["y"]),
        (".list[*].k", ["x", "y"]),
        ('.list[?(@.k=="y")].v', [2]),
        (".a['b']", [1]),
        (r".dotted\.key", [3]),
        (".a.missing", []),
        (".list[9]", []),
    ],
)
def test_json_path_finds(path: str, found: list[Any]) -> None:
    body = {"a": {"b": 1}, "list": [{"k": "x"}, {"k": "y", "v": 2}], "dotted.key": 3}
    assert list(compile_path(path)(body)) == found


def test_json_path_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="unrecognized column definition"):
        compile_path(".a[?(@.b>1)]")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (119, "119s"),
        (120, "2m"),
        (150, "2m30s"),
        (11 * 60, "11m"),
        (3 * 3600 + 60, "3h1m"),
        (3 * 3600, "3h"),
        (47 * 3600, "47h"),
        (3 * 86400 + 7200, "3d2h"),
        (100 * 86400, "100d"),
        (800 * 86400, "2y70d"),
        (3000 * 86400, "8y"),
    ],
)
def test_durations_read_as_kubectl_writes_them(seconds: int, text: str) -> None:
    assert human_duration(seconds) == text


def test_an_age_that_can_not_be_is_invalid() -> None:
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert [age(text, now) for text in ("soon", "2027-01-01T00:00:00Z", "2026-01-01T00:00:01Z")] == [
        "<invalid>",
        "<invalid>",
        "0s",
    ]


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/api/v1/namespaces", Target("", "v1", "namespaces")),
        ("/api/v1/namespaces/a", Target("", "v1", "namespaces", name="a")),
        ("/api/v1/namespaces/a/status", Target("", "v1", "namespaces", name="a", subresource="status")),
        ("/api/v1/namespaces/a/events/e", Target("", "v1", "events", "a", "e")),
        ("/apis/g/v1/namespaces/a/things/t/status", Target("g", "v1", "things", "a", "t", "status")),
        ("/apis/g/v1/things", Target("g", "v1", "things")),
        ("/apis/g/v1", Target("g", "v1")),
        ("/apis/g/v1/namespaces/a/things/t/status/more", None),
        ("/elsewhere", None),
    ],
)
def test_paths_name_what_they_name(path: str, target: Target | None) -> None:
    assert parse_path(path) == target


def body(version: int) -> dict[str, Any]:
    return {"metadata": {"name": "x"}, "spec": {"n": version}}


def test_the_bytes_of_a_version_are_made_once_for_all_readers() -> None:
    entry = Store(history=10).collection("things").commit(("", "x"), body(1))
    rendered: list[Any] = []

    def render(stored: dict[str, Any]) -> dict[str, Any]:
        rendered.append(stored)
        return stored

    assert entry.bytes_as("v1", render) is entry.bytes_as("v1", render)
    assert len(rendered) == 1


def test_a_full_history_forgets_its_oldest_change() -> None:
    store = Store(history=2)
    things = store.collection("things")
    for version in range(4):
        things.commit(("", "x"), body(version))
    assert things.watch(3) is not None
    with pytest.raises(ApiError, match=r"too old resource version: 2 \(3\)"):
        things.watch(2)


def field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return bytes([number << 3, value])
    raw = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2, len(raw)]) + raw


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    return b"k8s\x00" + field(1, field(1, api_version) + field(2, kind)) + field(2, raw)


def test_protobuf_becomes_json() -> None:
    label = field(1, "a") + field(2, "b")
    metadata = field(1, "c") + field(11, label) + field(14, "one") + field(14, "two") + field(8, b"")
    raw = field(1, metadata) + field(3, field(1, "k") + field(2, b"\xff")) + field(4, 1)
    assert protobuf.decode(envelope("v1", "ConfigMap", raw)) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c", "labels": {"a": "b"}, "finalizers": ["one", "two"]},
        "binaryData": {"k": base64.b64encode(b"\xff").decode()},
        "immutable": True,
    }


def test_protobuf_times_have_microseconds_where_the_api_has_them() -> None:
    renewed = field(1, 5) + bytes([2 << 3, 0xE8, 0x07])
    lease = protobuf.decode(envelope("coordination.k8s.io/v1", "Lease", field(2, field(4, renewed) + field(2, 15))))
    assert lease["spec"] == {"renewTime": "1970-01-01T00:00:05.000001Z", "leaseDurationSeconds": 15}


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"{}", 400),
        (b"k8s\x00\x0a\xff", 400),
        (b"k8s\x00\x0d\x00", 400),
        (b"k8s\x00", 400),
        (envelope("apps/v1", "Deployment", b""), 415),
    ],
)
def test_protobuf_that_can_not_be_read_is_refused(raw: bytes, code: int) -> None:
    with pytest.raises(ApiError) as raised:
        protobuf.decode(raw)
    assert raised.value.code == code
