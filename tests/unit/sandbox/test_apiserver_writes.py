"""Create, update, patch and delete on the embedded API server, over HTTP."""

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from unit.sandbox.apiserver_client import (
    CONFIG_MAPS,
    JSON_PATCH,
    STRATEGIC,
    WIDGETS,
    Client,
    definition,
    running,
    widget,
)

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NAMESPACES = "/api/v1/namespaces"
W = f"{WIDGETS}/w"


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Client]:
    async with running() as client:
        yield client


async def test_a_created_object_gets_metadata_defaults_and_no_status(api: Client) -> None:
    answer = await api.create(widget() | {"status": {"phase": "Up"}})
    metadata = answer.body["metadata"]
    assert answer.status == 201
    assert (metadata["generation"], metadata["namespace"]) == (1, "default")
    assert {"uid", "creationTimestamp", "resourceVersion"} <= metadata.keys()
    assert answer.body["spec"] == {"id": "abc", "n": 3}
    assert "status" not in answer.body


async def test_generate_name_makes_a_name(api: Client) -> None:
    answer = await api.create(widget(metadata={"name": "", "generateName": "gen-"}))
    assert len(answer.body["metadata"]["name"]) == len("gen-") + 5


async def test_an_existing_name_is_a_conflict(api: Client) -> None:
    await api.create(widget())
    answer = await api.create(widget())
    assert (answer.status, answer.body["reason"]) == (409, "AlreadyExists")
    assert answer.message == 'widgets.example.com "w" already exists'
    assert answer.body["details"] == {"name": "w", "group": "example.com", "kind": "widgets"}


async def test_creating_in_a_missing_namespace_is_not_found(api: Client) -> None:
    answer = await api.create(widget(), WIDGETS.replace("default", "nowhere"))
    assert (answer.status, answer.message) == (404, 'namespaces "nowhere" not found')


async def test_bad_names_and_labels_are_refused(api: Client) -> None:
    bad_name = await api.create(widget("Upper"))
    bad_label = await api.create(widget(metadata={"labels": {"k": "not good!"}}))
    assert bad_name.body["details"]["causes"][0]["field"] == "metadata.name"
    assert bad_label.body["details"]["causes"][0]["field"] == "metadata.labels"
    assert (bad_name.status, bad_label.status) == (422, 422)


async def test_a_missing_object_is_not_found_for_every_verb(api: Client) -> None:
    answers = [
        await api.get(W),
        await api.call("PUT", W, widget()),
        await api.patch(W, {}),
        await api.patch(f"{W}/status", {}),
        await api.delete(W),
    ]
    assert {(answer.status, answer.message) for answer in answers} == {(404, 'widgets.example.com "w" not found')}


async def test_unknown_fields_are_pruned_with_a_warning_or_refused_when_strict(api: Client) -> None:
    body = widget(foo=1, list=[{"b": 1}]) | {"extra": 1}
    strict = await api.create(body, f"{WIDGETS}?fieldValidation=Strict")
    assert (strict.status, strict.message) == (
        400,
        (
            'Widget in version "v1" cannot be handled as a Widget: strict decoding error: unknown field "extra", '
            'unknown field "spec.foo", unknown field "spec.list[0].b"'
        ),
    )
    warned = await api.create(body)
    assert warned.body["spec"] == {"id": "abc", "n": 3, "list": [{}]}
    assert warned.warnings[1] == '299 - "unknown field \\"spec.foo\\""'
    ignored = await api.patch(f"{W}?fieldValidation=Ignore", {"spec": {"foo": 1}})
    assert (ignored.status, ignored.warnings) == (200, [])


async def test_a_strict_patch_reports_unknown_fields_as_kube_apiserver_does(api: Client) -> None:
    await api.create(widget())
    answer = await api.patch(f"{W}?fieldValidation=Strict", {"spec": {"foo": 1}})
    assert answer.status == 422
    assert answer.message.startswith(' "" is invalid: patch: Invalid value: "{')
    assert answer.message.endswith('}": strict decoding error: unknown field "spec.foo"')


async def test_built_in_kinds_know_their_fields_too(api: Client) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "dataa": {}}
    answer = await api.create(body, f"{CONFIG_MAPS}?fieldValidation=Strict")
    assert 'unknown field "dataa"' in answer.message


async def test_kind_and_version_of_built_in_types_follow_from_the_path(api: Client) -> None:
    created = await api.create({"metadata": {"name": "c"}}, CONFIG_MAPS)
    assert (created.status, created.body["kind"], created.body["apiVersion"]) == (201, "ConfigMap", "v1")
    replaced = await api.call("PUT", f"{CONFIG_MAPS}/c", {"kind": "ConfigMap", "metadata": {}, "data": {"a": "b"}})
    assert (replaced.body["data"], replaced.body["apiVersion"]) == ({"a": "b"}, "v1")
    review = await api.create({"spec": {}}, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
    assert (review.body["kind"], review.body["status"]["allowed"]) == ("SelfSubjectAccessReview", True)
    assert (await api.create({"kind": "Secret", "metadata": {"name": "d"}}, CONFIG_MAPS)).status == 422
    assert (await api.create({"apiVersion": "v2", "metadata": {"name": "d"}}, CONFIG_MAPS)).status == 400
    custom = {name: value for name, value in widget().items() if name != "kind"}
    assert "Object 'Kind' is missing in" in (await api.create(custom)).message


async def test_generation_counts_spec_changes_only(api: Client) -> None:
    await api.create(widget())
    spec = await api.patch(W, {"spec": {"text": "x"}})
    labels = await api.patch(W, {"metadata": {"labels": {"a": "b"}}})
    status = await api.patch(f"{W}/status", {"status": {"phase": "Up"}})
    assert [answer.body["metadata"]["generation"] for answer in (spec, labels, status)] == [2, 2, 2]


async def test_a_write_that_changes_nothing_keeps_the_resource_version(api: Client) -> None:
    created = await api.create(widget())
    same = await api.patch(W, {"spec": {"id": "abc"}})
    put = await api.call("PUT", W, created.body)
    status = await api.patch(f"{W}/status", {"spec": {"text": "ignored"}})
    assert {answer.version for answer in (created, same, put, status)} == {created.version}


async def test_status_and_main_writes_ignore_each_others_part(api: Client) -> None:
    await api.create(widget())
    await api.patch(
        f"{W}/status", {"status": {"phase": "Up"}, "spec": {"text": "no"}, "metadata": {"labels": {"a": "b"}}}
    )
    body = (await api.patch(W, {"status": {"phase": "Down"}, "spec": {"text": "yes"}})).body
    assert body["status"] == {"phase": "Up"}
    assert body["spec"]["text"] == "yes"
    assert "labels" not in body["metadata"]


async def test_a_stale_resource_version_is_a_conflict_in_put_and_patch(api: Client) -> None:
    stale = (await api.create(widget())).body
    await api.patch(W, {"spec": {"text": "newer"}})
    version = {"metadata": {"resourceVersion": stale["metadata"]["resourceVersion"]}}
    answers = [
        await api.call("PUT", W, stale),
        await api.patch(W, version | {"spec": {"text": "mine"}}),
        await api.patch(f"{W}/status", version | {"status": {"phase": "Up"}}),
    ]
    why = "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on widgets.example.com "w": {why}'
    assert {(answer.status, answer.message) for answer in answers} == {(409, message)}


async def test_replacing_a_custom_object_needs_its_resource_version(api: Client) -> None:
    await api.create(widget())
    answer = await api.call("PUT", W, widget())
    assert (answer.status, answer.body["details"]["causes"][0]["message"]) == (
        422,
        "Invalid value: 0: must be specified for an update",
    )


async def test_name_and_uid_of_an_object_can_not_change(api: Client) -> None:
    await api.create(widget())
    renamed = await api.patch(W, {"metadata": {"name": "other"}})
    reborn = await api.patch(W, {"metadata": {"uid": "other"}})
    stale = await api.patch(W, {"metadata": {"uid": "other", "resourceVersion": "1"}})
    assert (stale.status, stale.body["reason"]) == (409, "Conflict")  # as in kube-apiserver, which checks that first
    assert renamed.message == "the name of the object (other) does not match the name on the URL (w)"
    assert reborn.body["details"]["causes"][0]["message"] == 'Invalid value: "other": field is immutable'


async def test_json_patch_tests_and_replaces(api: Client) -> None:
    await api.create(widget())
    test = {"op": "test", "path": "/spec/id", "value": "other"}
    refused = await api.patch(W, [test], JSON_PATCH)
    replaced = await api.patch(W, [{"op": "add", "path": "/spec/text", "value": "x"}], JSON_PATCH)
    assert (refused.status, replaced.body["spec"]["text"]) == (422, "x")


async def test_strategic_merge_is_for_built_in_kinds(api: Client) -> None:
    await api.create(widget())
    await api.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}}, CONFIG_MAPS
    )
    custom = await api.patch(W, {"spec": {}}, STRATEGIC)
    built_in = await api.patch(f"{CONFIG_MAPS}/c", {"data": {"c": "d"}}, STRATEGIC)
    assert (custom.status, custom.body["reason"]) == (415, "UnsupportedMediaType")
    assert built_in.body["data"] == {"a": "b", "c": "d"}


async def test_server_side_apply_is_refused_and_names_the_way_out(api: Client) -> None:
    answer = await api.patch(f"{W}?fieldManager=me", widget(), "application/apply-patch+yaml")
    assert answer.status == 415
    assert "--control-plane=envtest" in answer.message


async def test_rbac_and_webhooks_are_refused_and_name_the_way_out(api: Client) -> None:
    for path in (
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
    ):
        answer = await api.create({"kind": "X"}, path)
        assert answer.status == 405
        assert "--control-plane=envtest" in answer.message


async def test_schema_and_rule_faults_become_causes(api: Client) -> None:
    await api.create(widget())
    changed = await api.patch(W, {"spec": {"id": "xyz"}})
    assert changed.status == 422
    assert changed.message == 'Widget.example.com "w" is invalid: spec.id: Invalid value: id can\'t change'
    assert changed.body["details"] == {
        "name": "w",
        "group": "example.com",
        "kind": "Widget",
        "causes": [
            {"reason": "FieldValueInvalid", "message": "Invalid value: id can't change", "field": "spec.id"},
        ],
    }


async def test_dry_run_answers_and_stores_nothing(api: Client) -> None:
    created = await api.create(widget(), f"{WIDGETS}?dryRun=All")
    assert (created.status, (await api.get(W)).status) == (201, 404)
    await api.create(widget())
    patched = await api.patch(f"{W}?dryRun=All", {"spec": {"text": "x"}})
    await api.delete(f"{W}?dryRun=All")
    assert patched.body["spec"]["text"] == "x"
    assert "text" not in (await api.get(W)).body["spec"]


async def test_managed_fields_show_the_manager_of_each_field_and_subresource(api: Client) -> None:
    await api.create(widget())
    condition = {"type": "Ready", "status": "True"}
    status = {"phase": "Up", "conditions": [condition]}
    body = (await api.patch(f"{W}/status?fieldManager=operator", {"status": status})).body
    managers = {(one["manager"], one.get("subresource")): one["fieldsV1"] for one in body["metadata"]["managedFields"]}
    item: dict[str, Any] = {".": {}, "f:type": {}, "f:status": {}}
    assert managers == {
        ("tester", None): {"f:spec": {".": {}, "f:id": {}, "f:n": {}}},
        ("operator", "status"): {
            "f:status": {".": {}, "f:phase": {}, "f:conditions": {".": {}, 'k:{"type":"Ready"}': item}}
        },
    }


async def test_setting_a_field_again_changes_its_owner(api: Client) -> None:
    await api.create(widget())
    body = (await api.patch(f"{W}?fieldManager=other", {"spec": {"n": 5}})).body
    owners = {one["manager"]: one["fieldsV1"] for one in body["metadata"]["managedFields"]}
    assert owners["other"] == {"f:spec": {"f:n": {}}}
    assert "f:n" not in owners["tester"]["f:spec"]


async def test_delete_answers_with_a_status_of_what_was_deleted(api: Client) -> None:
    created = await api.create(widget())
    answer = await api.delete(W)
    assert (answer.status, answer.body["status"]) == (200, "Success")
    assert answer.body["details"]["uid"] == created.body["metadata"]["uid"]
    assert (await api.get(W)).status == 404


async def test_delete_preconditions_must_hold(api: Client) -> None:
    await api.create(widget())
    refused = await api.delete(W, {"preconditions": {"uid": "another"}})
    assert (refused.status, refused.body["reason"]) == (409, "Conflict")
    assert (await api.get(W)).status == 200


async def test_a_finalizer_keeps_an_object_until_it_is_removed(api: Client) -> None:
    await api.create(widget(metadata={"finalizers": ["example.com/hold"]}))
    held = await api.delete(W)
    assert held.body["metadata"]["deletionTimestamp"]
    more = await api.patch(W, {"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}})
    assert "no new finalizers can be added if the object is being deleted" in more.message
    edited = await api.patch(W, {"spec": {"text": "still editable"}})
    assert edited.status == 200
    assert (await api.patch(W, {"metadata": {"finalizers": None}})).status == 200
    assert (await api.get(W)).status == 404


async def test_delete_collection_follows_the_selector(api: Client) -> None:
    await api.create(widget("a", metadata={"labels": {"x": "1"}}))
    await api.create(widget("b"))
    await api.delete(f"{WIDGETS}?labelSelector=x%3D1")
    assert [item["metadata"]["name"] for item in (await api.get(WIDGETS)).body["items"]] == ["b"]


async def test_deleting_a_namespace_deletes_its_objects_and_waits_for_finalizers(api: Client) -> None:
    await api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}, NAMESPACES)
    there = WIDGETS.replace("default", "team")
    await api.create(widget("free"), there)
    await api.create(widget("held", metadata={"finalizers": ["example.com/hold"]}), there)
    await api.delete(f"{NAMESPACES}/team")
    assert (await api.get(f"{NAMESPACES}/team")).body["status"]["phase"] == "Terminating"
    assert (await api.get(f"{there}/free")).status == 404
    refused = await api.create(widget("late"), there)
    assert (refused.status, "being terminated" in refused.message) == (403, True)
    await api.patch(f"{there}/held", {"metadata": {"finalizers": None}})
    assert (await api.get(f"{NAMESPACES}/team")).status == 404
    assert (await api.delete(f"{NAMESPACES}/default")).status == 403


async def test_a_crd_is_served_at_once_and_deleting_it_deletes_its_objects(api: Client) -> None:
    gadget = definition()
    gadget["metadata"]["name"] = "gadgets.example.com"
    gadget["spec"]["names"] = {"plural": "gadgets", "kind": "Gadget"}
    created = await api.create(gadget, CRDS)
    conditions = {one["type"]: one["status"] for one in created.body["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    path = WIDGETS.replace("widgets", "gadgets")
    body = widget() | {"kind": "Gadget"}
    assert (await api.create(body, path)).status == 201
    await api.delete(f"{CRDS}/gadgets.example.com")
    assert (await api.get(path)).body == "404 page not found\n"
    await api.create(gadget, CRDS)
    assert (await api.get(path)).body["items"] == []


async def test_a_crd_that_can_not_work_is_refused(api: Client) -> None:
    bad_rule: dict[str, Any] = {"type": "object", "x-kubernetes-validations": [{"rule": "self.a =="}]}
    for field, crd in (
        ("metadata.name", definition() | {"metadata": {"name": "wrong.example.com"}}),
        ("spec.versions[0].schema.openAPIV3Schema", definition(schema={})),
        (
            "spec.versions[0].schema.openAPIV3Schema.x-kubernetes-validations[0].rule",
            definition(schema={"openAPIV3Schema": bad_rule}),
        ),
        ("spec.versions[0]", definition(selectableFields=[{"jsonPath": "nonsense["}])),
    ):
        answer = await api.create(crd, CRDS)
        assert (answer.status, [one["field"] for one in answer.body["details"]["causes"]]) == (422, [field])


async def test_changing_a_crd_changes_what_is_checked(api: Client) -> None:
    loose = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = [{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": loose}]
    await api.patch(f"{CRDS}/widgets.example.com", schema, JSON_PATCH)
    answer = await api.create(widget(id="NOT-LOWER", other=1))
    assert (answer.status, answer.body["spec"]) == (201, {"id": "NOT-LOWER", "other": 1})


async def test_bodies_that_are_not_objects_are_refused(api: Client) -> None:
    assert (await api.create(b"nonsense")).status == 400
    assert (await api.create(b"[]")).status == 400
    assert (await api.call("POST", WIDGETS, b"{}", "text/plain")).status == 415
    assert (await api.create({"spec": {}})).status == 400
    assert (await api.create(widget() | {"kind": "Other"})).status == 422
    assert (await api.create(widget() | {"apiVersion": "example.com/v2"})).status == 400


async def test_a_yaml_body_is_as_good_as_a_json_one(api: Client) -> None:
    text = b"apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: y}\nspec: {id: abc}\n"
    assert (await api.call("POST", WIDGETS, text, "application/yaml")).status == 201


async def test_secrets_fold_plain_text_into_data(api: Client) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}}
    answer = await api.create(body, "/api/v1/namespaces/default/secrets")
    assert (answer.body["data"], answer.body["type"]) == ({"a": "Yg=="}, "Opaque")
    assert "stringData" not in answer.body
