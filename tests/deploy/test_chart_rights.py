"""Who gets which right by the chart; that the operator needs each of them, and no other, is proven beside."""

from typing import Any, Final

import pytest

from deploy.charts import NAME, Object, Values, matrix, objects, of_kind, pod_of

WORK: Final = [
    {"apiGroups": ["awsbatch.dev"], "resources": ["batchjobs"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["awsbatch.dev"], "resources": ["batchjobs/status"], "verbs": ["patch"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "get", "patch"]},
]
USERS: Final = ("batchjobs-viewer", "batchjobs-editor")
AGGREGATE: Final = "rbac.authorization.k8s.io/aggregate-to-"


def _lease(name: str) -> list[Object]:
    head = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}
    return [{**head, "verbs": ["create"]}, {**head, "resourceNames": [name], "verbs": ["get", "update"]}]


def _own(all_objects: Any, *kinds: str) -> dict[tuple[str | None, str], Object]:
    found = [body for body in of_kind(all_objects, *kinds) if body["metadata"]["name"] not in USERS]
    return {(body["metadata"].get("namespace"), body["metadata"]["name"]): body for body in found}


def test_the_whole_cluster_takes_a_clusterrole_and_the_lease_a_role() -> None:
    all_objects = objects()
    (role,) = _own(all_objects, "ClusterRole").values()
    assert role["rules"] == WORK
    (lease,) = _own(all_objects, "Role").values()
    assert (lease["metadata"]["namespace"], lease["rules"]) == (NAME, _lease(NAME))


def test_some_namespaces_take_a_role_each_and_no_clusterrole() -> None:
    all_objects = objects({"watchNamespaces": ["team-a", "team-b"], "lease": {"name": "batch"}})
    assert not _own(all_objects, "ClusterRole", "ClusterRoleBinding")
    roles = {name: body["rules"] for name, body in _own(all_objects, "Role").items()}
    assert roles == {
        ("team-a", NAME): WORK,
        ("team-b", NAME): WORK,
        (NAME, f"{NAME}-lease"): _lease("batch"),
    }


def test_every_role_of_the_operator_is_bound_to_its_account_where_it_stands() -> None:
    for values, all_objects in matrix():
        roles = _own(all_objects, "Role", "ClusterRole")
        bindings = _own(all_objects, "RoleBinding", "ClusterRoleBinding")
        assert roles.keys() == bindings.keys()
        assert bool(roles) == values.get("rbac", {}).get("create", True)
        account = pod_of(all_objects)["spec"]["serviceAccountName"]
        for where, binding in bindings.items():
            assert binding["roleRef"]["name"] == where[1]
            assert binding["kind"] == f"{binding['roleRef']['kind']}Binding"
            assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": NAME}]


def test_no_rule_grants_everything_of_anything() -> None:
    for _, all_objects in matrix():
        for role in of_kind(all_objects, "Role", "ClusterRole"):
            for rule in role["rules"]:
                assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
                assert not {"escalate", "bind", "impersonate", "deletecollection"} & set(rule["verbs"])


def _aggregated(values: Values) -> dict[str, set[str]]:
    labels = {role["metadata"]["name"]: role["metadata"]["labels"] for role in of_kind(objects(values), "ClusterRole")}
    return {
        name: {
            label.removeprefix(AGGREGATE)
            for label, on in labels[name].items()
            if label.startswith(AGGREGATE) and on == "true"
        }
        for name in USERS
        if name in labels
    }


@pytest.mark.parametrize(
    ("roles", "joins"),
    [
        ({}, ({"view"}, {"edit", "admin"})),
        ({"aggregate": "view"}, ({"view"}, set())),
        ({"aggregate": "none"}, (set(), set())),
        ({"aggregate": "all"}, ({"view"}, {"edit", "admin"})),
    ],
)
def test_who_may_edit_a_namespace_may_end_jobs_unless_that_was_not_wanted(roles: Values, joins: Any) -> None:
    assert _aggregated({"userRoles": roles}) == dict(zip(USERS, joins, strict=True))


def test_users_roles_can_be_left_out() -> None:
    assert _aggregated({"userRoles": {"create": False}}) == {}


def test_the_viewer_reads_and_the_editor_writes_objects_but_never_the_status() -> None:
    rules = {role["metadata"]["name"]: role["rules"] for role in of_kind(objects(), "ClusterRole")}
    may = {
        name: {(resource, verb) for rule in rules[name] for resource in rule["resources"] for verb in rule["verbs"]}
        for name in USERS
    }
    reading = {(resource, verb) for resource in ("batchjobs", "batchjobs/status") for verb in ("get", "list", "watch")}
    assert may["batchjobs-viewer"] == reading
    writing = {verb for resource, verb in may["batchjobs-editor"] if resource == "batchjobs"}
    assert writing == {"create", "delete", "get", "list", "patch", "update", "watch"}
    assert {verb for resource, verb in may["batchjobs-editor"] if resource == "batchjobs/status"} == {"get"}
