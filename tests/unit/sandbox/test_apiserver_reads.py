"""Get, list, tables, discovery and OpenAPI on the embedded API server, over HTTP."""

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
import yaml

from unit.sandbox.apiserver_client import (
    CORE_EVENTS,
    EVENTS,
    METADATA,
    TABLE,
    WIDGETS,
    Client,
    running,
    widget,
)

DISCOVERY = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"}


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Client]:
    async with running() as client:
        yield client


def event(name: str = "e", **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name},
        "regarding": {"kind": "Widget", "namespace": "default", "name": "w"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "example.com/operator",
        "reportingInstance": "pod-1",
        "action": "Stop",
        "reason": "Stopped",
        "type": "Normal",
        "note": "It stopped.",
        **more,
    }


async def names(api: Client, query: str, path: str = WIDGETS) -> list[str]:
    answer = await api.get(f"{path}?{query}")
    return [item["metadata"]["name"] for item in answer.body["items"]]


async def test_a_list_is_ordered_by_namespace_and_name(api: Client) -> None:
    for name in ("b", "a", "c"):
        await api.create(widget(name))
    answer = await api.get("/apis/example.com/v1/widgets")
    assert (answer.body["kind"], answer.body["apiVersion"]) == ("WidgetList", "example.com/v1")
    assert [item["metadata"]["name"] for item in answer.body["items"]] == ["a", "b", "c"]


async def test_label_selectors_select(api: Client) -> None:
    await api.create(widget("a", metadata={"labels": {"x": "1", "y": "2"}}))
    await api.create(widget("b", metadata={"labels": {"x": "2"}}))
    await api.create(widget("c"))
    for selector, selected in (
        ("x=1", ["a"]),
        ("x==1,y=2", ["a"]),
        ("x!=1", ["b", "c"]),
        ("x", ["a", "b"]),
        ("!x", ["c"]),
        ("x in (1,2)", ["a", "b"]),
        ("x notin (1)", ["b", "c"]),
    ):
        assert await names(api, f"labelSelector={selector}") == selected, selector
    assert (await api.get(f"{WIDGETS}?labelSelector=a%3D%3D%3D")).status == 400


async def test_field_selectors_know_name_namespace_and_selectable_fields(api: Client) -> None:
    await api.create(widget("a", id="one"))
    await api.create(widget("b", id="two"))
    assert await names(api, "fieldSelector=metadata.name%3Da") == ["a"]
    assert await names(api, "fieldSelector=spec.id%3Dtwo,metadata.namespace%3Ddefault") == ["b"]
    assert await names(api, "fieldSelector=spec.id!%3Dtwo") == ["a"]
    unknown = await api.get(f"{WIDGETS}?fieldSelector=spec.n%3D3")
    assert (unknown.status, unknown.message) == (400, "field label not supported: spec.n")


async def test_pages_show_the_moment_of_the_first_one(api: Client) -> None:
    for name in ("a", "b", "c"):
        await api.create(widget(name))
    first = (await api.get(f"{WIDGETS}?limit=2")).body
    await api.delete(f"{WIDGETS}/c")
    second = (await api.get(f"{WIDGETS}?limit=2&continue={first['metadata']['continue']}")).body
    assert first["metadata"]["remainingItemCount"] == 1
    assert [item["metadata"]["name"] for item in second["items"]] == ["c"]
    assert second["metadata"] == {"resourceVersion": first["metadata"]["resourceVersion"]}


async def test_an_expired_or_broken_continue_token_is_refused(api: Client) -> None:
    for name in ("a", "b"):
        await api.create(widget(name))
    token = (await api.get(f"{WIDGETS}?limit=1")).body["metadata"]["continue"]
    await api.order("expire")
    expired = await api.get(f"{WIDGETS}?limit=1&continue={token}")
    assert (expired.status, expired.body["reason"]) == (410, "Expired")
    assert (await api.get(f"{WIDGETS}?continue=garbage")).status == 400


async def test_a_version_from_the_future_is_a_timeout(api: Client) -> None:
    answer = await api.get(f"{WIDGETS}?resourceVersion=9999999999999999")
    assert (answer.status, answer.body["details"]["causes"][0]["reason"]) == (504, "ResourceVersionTooLarge")
    assert (await api.get(f"{WIDGETS}?resourceVersion=abc")).status == 400


async def test_a_table_has_the_columns_of_the_crd(api: Client) -> None:
    await api.create(widget())
    await api.patch(f"{WIDGETS}/w/status", {"status": {"phase": "Up", "when": "2020-01-01T00:00:00Z"}})
    table = (await api.get(WIDGETS, **TABLE)).body
    assert table["kind"] == "Table"
    assert [(one["name"], one["priority"]) for one in table["columnDefinitions"]] == [
        ("Name", 0),
        ("ID", 0),
        ("N", 0),
        ("Phase", 1),
        ("When", 0),
    ]
    cells = table["rows"][0]["cells"]
    assert cells[:4] == ["w", "abc", 3, "Up"]
    assert cells[4].endswith("d")
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    whole = (await api.get(f"{WIDGETS}/w?includeObject=Object", **TABLE)).body
    assert whole["rows"][0]["object"]["kind"] == "Widget"
    none = (await api.get(f"{WIDGETS}?includeObject=None", **TABLE)).body
    assert none["rows"][0]["object"] is None


async def test_metadata_alone_can_be_requested(api: Client) -> None:
    await api.create(widget())
    body = (await api.get(WIDGETS, **METADATA)).body
    assert (body["kind"], body["items"][0]["kind"]) == ("PartialObjectMetadataList", "PartialObjectMetadata")
    assert "spec" not in body["items"][0]


async def test_json_has_no_charset(api: Client) -> None:
    for path in (WIDGETS, f"{WIDGETS}/none", "/apis", "/version", "/openapi/v3", "/_sandbox/requests"):
        assert (await api.get(path)).content_type == "application/json", path
    for method, body in (("POST", widget()), ("POST", widget()), ("DELETE", None)):
        assert (await api.call(method, WIDGETS, body)).content_type == "application/json"


async def test_yaml_is_served_to_those_who_ask_for_it(api: Client) -> None:
    await api.create(widget(metadata={"annotations": {"who": "Zoë"}}))
    for path in (WIDGETS, f"{WIDGETS}/w", f"{WIDGETS}/none", "/apis"):
        answer = await api.get(path, Accept="application/yaml")
        assert answer.content_type == "application/yaml"
        assert yaml.safe_load(answer.body) == (await api.get(path)).body
    table = await api.get(WIDGETS, Accept="application/yaml;as=Table;v=v1;g=meta.k8s.io,application/json")
    assert yaml.safe_load(table.body)["kind"] == "Table"
    assert "who: Zoë" in (await api.get(f"{WIDGETS}/w", Accept="application/yaml, application/json")).body
    assert (await api.get(WIDGETS, Accept="application/json, application/yaml")).content_type == "application/json"
    watch = await api.get(f"{WIDGETS}?watch=1", Accept="application/yaml")
    assert (watch.status, "application/json;stream=watch" in watch.body) == (406, True)


async def test_other_representations_are_not_acceptable(api: Client) -> None:
    assert (await api.get(WIDGETS, Accept="text/html")).status == 406


async def test_events_have_one_storage_and_two_shapes(api: Client) -> None:
    created = await api.create(event(), EVENTS)
    assert created.status == 201
    core = (await api.get(f"{CORE_EVENTS}/e")).body
    assert (core["apiVersion"], core["message"]) == ("v1", "It stopped.")
    assert core["involvedObject"]["name"] == "w"
    assert core["reportingComponent"] == "example.com/operator"
    assert (await api.get(f"{EVENTS}/e")).body == created.body
    assert await names(api, "fieldSelector=involvedObject.name%3Dw,reason%3DStopped", CORE_EVENTS) == ["e"]
    assert await names(api, "fieldSelector=regarding.name%3Dother", EVENTS) == []
    cells = (await api.get(CORE_EVENTS, **TABLE)).body["rows"][0]["cells"]
    assert cells[1:7] == ["Normal", "Stopped", "widget/w", "", "example.com/operator, pod-1", "It stopped."]


async def test_an_event_shows_the_times_that_it_does_not_have(api: Client) -> None:
    """As Kubernetes does: without them `kubectl get events --sort-by=.lastTimestamp` sorts nothing and fails."""
    await api.create(event(), EVENTS)
    core, new = (await api.get(f"{CORE_EVENTS}/e")).body, (await api.get(f"{EVENTS}/e")).body
    assert {key: core[key] for key in ("firstTimestamp", "lastTimestamp", "source")} == {
        "firstTimestamp": None,
        "lastTimestamp": None,
        "source": {},
    }
    assert [new[key] for key in ("deprecatedFirstTimestamp", "deprecatedLastTimestamp", "deprecatedSource")] == [
        *(None, None, {})
    ]
    assert {"deprecatedCount", "count"}.isdisjoint({*core, *new})
    legacy = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "l"}, "lastTimestamp": "2026-01-01T00:00:00Z"}
    await api.create(legacy | {"involvedObject": core["involvedObject"]}, CORE_EVENTS)
    core, new = (await api.get(f"{CORE_EVENTS}/l")).body, (await api.get(f"{EVENTS}/l")).body
    assert (core["eventTime"], core["reportingComponent"], core["lastTimestamp"]) == (None, "", "2026-01-01T00:00:00Z")
    assert (new["eventTime"], "reportingController" in new) == (None, False)
    series = {"count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z"}
    assert (await api.patch(f"{EVENTS}/e", {"series": series})).body["deprecatedSource"] == {}


async def test_an_event_must_be_complete_and_only_its_series_may_change(api: Client) -> None:
    faults: dict[str, Any] = {"eventTime": None, "type": "Odd", "reportingController": "", "note": "x" * 1025}
    for field, value in faults.items():
        answer = await api.create(event() | {field: value}, EVENTS)
        assert [one["field"] for one in answer.body["details"]["causes"]] == [field]
    elsewhere = {"kind": "Widget", "namespace": "other", "name": "w"}
    answer = await api.create(event(regarding=elsewhere), EVENTS)
    assert answer.body["details"]["causes"][0]["field"] == "involvedObject.namespace"
    await api.create(event(), EVENTS)
    series = {"count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z"}
    assert (await api.patch(f"{EVENTS}/e", {"series": series})).status == 200
    assert (await api.patch(f"{EVENTS}/e", {"note": "changed"})).status == 422


async def test_discovery_lists_what_is_served_in_both_forms(api: Client) -> None:
    groups = (await api.get("/apis")).body["groups"]
    assert "example.com" in [group["name"] for group in groups]
    listed = {one["name"]: one for one in (await api.get("/apis/example.com/v1")).body["resources"]}
    assert listed["widgets"]["shortNames"] == ["wd"]
    assert listed["widgets/status"]["verbs"] == ["get", "patch", "update"]
    aggregated = await api.get("/apis", **DISCOVERY)
    assert aggregated.body["kind"] == "APIGroupDiscoveryList"
    ours = next(item for item in aggregated.body["items"] if item["metadata"]["name"] == "example.com")
    assert ours["versions"][0]["resources"][0]["categories"] == ["things"]
    core = (await api.get("/api", **DISCOVERY)).body["items"][0]["versions"][0]["resources"]
    assert {"namespaces", "events"} <= {resource["resource"] for resource in core}
    assert (await api.get("/api")).body["versions"] == ["v1"]


async def test_open_api_describes_the_crd_and_its_query_parameters(api: Client) -> None:
    paths = (await api.get("/openapi/v3")).body["paths"]
    document = (await api.get(paths["apis/example.com/v1"]["serverRelativeURL"])).body
    kind = {"group": "example.com", "version": "v1", "kind": "Widget"}
    schema = document["components"]["schemas"]["com.example.v1.Widget"]
    patch = document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"]
    assert schema["x-kubernetes-group-version-kind"] == [kind]
    assert schema["properties"]["spec"]["properties"]["id"]["maxLength"] == 8
    assert "fieldValidation" in [parameter["name"] for parameter in patch["parameters"]]


async def test_the_index_states_that_it_is_not_kubernetes_and_probes_succeed(api: Client) -> None:
    assert "not Kubernetes" in (await api.get("/")).message
    assert (await api.get("/version")).body["gitVersion"].endswith("+awsbatch-sandbox")
    assert {(await api.get(path)).body for path in ("/healthz", "/livez", "/readyz")} == {"ok"}


async def test_reviews_allow_everything(api: Client) -> None:
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {}}
    answer = await api.create(review, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
    assert (answer.status, answer.body["status"]) == (201, {"allowed": True})


async def test_an_unknown_path_is_not_found(api: Client) -> None:
    for path in ("/nowhere", "/apis/other.example.com/v1/x", WIDGETS.replace("widgets", "gadgets")):
        answer = await api.get(path)
        assert (answer.status, answer.body) == (404, "404 page not found\n")
    built_in = await api.get("/api/v1/nodes")
    assert (built_in.status, built_in.body["reason"]) == (404, "NotFound")
