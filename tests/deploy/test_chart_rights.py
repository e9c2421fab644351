"""Tests which permissions the chart grants. test_rbac.py proves that the operator needs exactly these."""

from typing import Any, Final

import pytest

from deploy.charts import ADMISSION, CLUSTER_SCOPED, NAME, Object, Values, matrix, objects, of_kind, only, pod_of

WORK: Final = [
    {"apiGroups": ["awsbatch.dev"], "resources": ["batchjobs"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["awsbatch.dev"], "resources": ["batchterminations"], "verbs": ["list", "watch"]},
    {"apiGroups": ["awsbatch.dev"], "resources": ["batchjobs/status", "batchterminations/status"], "verbs": ["patch"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "get", "patch"]},
]
ACCESS: Final = [
    {"apiGroups": ["awsbatch.dev"], "resources": ["batchaccesspolicies"], "verbs": ["list", "watch"]},
    {"apiGroups": ["awsbatch.dev"], "resources": ["batchaccesspolicies/status"], "verbs": ["patch"]},
    {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "watch"]},
]
FINALIZER: Final = [{"apiGroups": ["awsbatch.dev"], "resources": ["batchjobs"], "verbs": ["patch"]}]
DEFINITION: Final = [
    {
        "apiGroups": ["apiextensions.k8s.io"],
        "resources": ["customresourcedefinitions"],
        "resourceNames": ["batchjobs.awsbatch.dev"],
        "verbs": ["get"],
    }
]
ON_DELETE: Final[Values] = {"onDelete": {"enabled": True}}
USERS: Final = tuple(f"{NAME}-{role}" for role in ("view", "edit", "policies-view", "policies-edit", "bulk-terminate"))
AGGREGATE: Final = "rbac.authorization.k8s.io/aggregate-to-"


def _lease(name: str) -> list[Object]:
    head = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}
    return [{**head, "verbs": ["create"]}, {**head, "resourceNames": [name], "verbs": ["get", "update"]}]


def _own(all_objects: Any, *kinds: str) -> dict[tuple[str | None, str], Object]:
    found = [body for body in of_kind(all_objects, *kinds) if body["metadata"]["name"] not in USERS]
    return {(body["metadata"].get("namespace"), body["metadata"]["name"]): body for body in found}


def test_the_whole_cluster_needs_a_clusterrole_and_the_lease_a_role() -> None:
    all_objects = objects()
    (role,) = _own(all_objects, "ClusterRole").values()
    assert role["rules"] == [*WORK, *ACCESS, *FINALIZER]
    (lease,) = _own(all_objects, "Role").values()
    assert (lease["metadata"]["namespace"], lease["rules"]) == (NAME, _lease(NAME))


def test_some_namespaces_need_a_role_each_and_a_clusterrole_for_policies_labels_and_the_finalizer() -> None:
    all_objects = objects({"watchNamespaces": ["team-a", "team-b"], "lease": {"name": "batch"}})
    (role,) = _own(all_objects, "ClusterRole").values()
    assert role["rules"] == [*ACCESS, *FINALIZER]
    roles = {name: body["rules"] for name, body in _own(all_objects, "Role").items()}
    assert roles == {
        ("team-a", NAME): WORK,
        ("team-b", NAME): WORK,
        (NAME, f"{NAME}-lease"): _lease("batch"),
    }


def test_without_access_policies_some_namespaces_need_roles_alone() -> None:
    disabled = {"accessPolicy": {"mode": "disabled"}}
    (role,) = _own(objects(disabled), "ClusterRole").values()
    assert role["rules"] == [*WORK, *FINALIZER]
    all_objects = objects({**disabled, "watchNamespaces": ["team-a"], "userRoles": {"create": False}})
    assert not of_kind(all_objects, *CLUSTER_SCOPED)
    roles = {name: body["rules"] for name, body in _own(all_objects, "Role").items()}
    assert roles == {("team-a", NAME): WORK, (NAME, f"{NAME}-lease"): _lease(NAME)}


def test_on_delete_needs_a_clusterrole_for_the_finalizer_and_for_the_definition() -> None:
    """The Role of a namespace that is being deleted is gone before the objects that the finalizer holds."""
    values = {**ON_DELETE, "watchNamespaces": ["team-a"], "accessPolicy": {"mode": "disabled"}}
    (role,) = _own(objects(values), "ClusterRole").values()
    assert role["rules"] == [*FINALIZER, *DEFINITION]


def test_the_operator_can_patch_objects_only_where_a_policy_limits_it_to_its_finalizer() -> None:
    for values, all_objects in matrix():
        patches = [role for role in of_kind(all_objects, "ClusterRole") if FINALIZER[0] in role["rules"]]
        pinned = of_kind(all_objects, *ADMISSION)
        wanted = values.get("rbac", {}).get("create", True) and values.get("rbac", {}).get("finalizers", True)
        assert (len(patches), len(pinned)) == ((1, 2) if wanted else (0, 0))
        if not wanted:
            continue
        account = pod_of(all_objects)["spec"]["serviceAccountName"]
        (condition,) = only(all_objects, ADMISSION[0])["spec"]["matchConditions"]
        assert condition["expression"] == f'request.userInfo.username == "system:serviceaccount:{NAME}:{account}"'
        assert only(all_objects, ADMISSION[1])["spec"] == {
            "policyName": only(all_objects, ADMISSION[0])["metadata"]["name"],
            "validationActions": ["Deny"],
        }


def test_an_uninstallation_scales_the_deployment_down_and_removes_the_finalizers_where_they_were_set() -> None:
    for values, all_objects in matrix():
        jobs = of_kind(all_objects, "Job")
        assert bool(jobs) == ("onDelete" in values)
        if not jobs:
            continue
        deployment, (job,) = only(all_objects, "Deployment"), jobs
        (container,) = job["spec"]["template"]["spec"]["containers"]
        name, leased = deployment["metadata"]["name"], values.get("lease", {}).get("name")
        watched = [f"--namespace={one}" for one in values.get("watchNamespaces", [])]
        flags = [f"--scale-down={name}", f"--lease-name={leased or name}", *watched]
        assert container["args"] == ["release-finalizers", *flags]
        scaling = [role for role in of_kind(all_objects, "Role") if _hook(role)]
        assert len(scaling) == values.get("rbac", {}).get("create", True)
        for role in scaling:
            scale = {"apiGroups": ["apps"], "resources": ["deployments/scale"], "resourceNames": [name]}
            assert role["rules"] == [{**scale, "verbs": ["patch"]}]
        hooks = [body for body in all_objects if _hook(body)]
        assert len(hooks) == len(jobs) + 2 * len(scaling)
        assert {body["metadata"]["annotations"]["helm.sh/hook"] for body in hooks} == {"pre-delete"}
        # The Job needs the right from its first moment.
        assert {body["kind"] for body in hooks if _weight(body) < _weight(job)} <= {"Role", "RoleBinding"}


def _hook(body: Object) -> bool:
    return "helm.sh/hook" in body["metadata"].get("annotations", {})


def _weight(body: Object) -> int:
    return int(body["metadata"]["annotations"].get("helm.sh/hook-weight", 0))


def test_the_uninstall_hook_can_be_left_out() -> None:
    kinds = {body["kind"] for body in objects({"onDelete": {"enabled": True, "uninstallHook": False}})}
    assert "Job" not in kinds


def test_two_namespaced_releases_of_one_name_share_no_clusterrole() -> None:
    """Helm would refuse the second one."""

    def shared(one: str, other: str, **values: Any) -> set[tuple[str | None, str]]:
        values = {"watchNamespaces": ["team-a"], "userRoles": {"create": False}, **values}
        names = [_own(objects(values, namespace=namespace), *CLUSTER_SCOPED).keys() for namespace in (one, other)]
        return {*names[0]} & {*names[1]}

    assert shared("team-a", "team-b") == set()
    assert shared("a", "b" * 63, fullnameOverride="n" * 63) == set()


def test_every_role_of_the_operator_is_bound_to_its_account_in_its_namespace() -> None:
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
        ({}, ({"view"}, {"edit", "admin"}, set(), set(), set())),
        ({"aggregate": "view"}, ({"view"}, set(), set(), set(), set())),
        ({"aggregate": "none"}, (set(),) * 5),
        ({"aggregate": "all"}, ({"view"}, {"edit", "admin"}, set(), set(), set())),
    ],
)
def test_editors_of_a_namespace_can_terminate_jobs_unless_aggregation_is_limited(roles: Values, joins: Any) -> None:
    assert _aggregated({"userRoles": roles}) == dict(zip(USERS, joins, strict=True))


def test_users_roles_can_be_left_out() -> None:
    assert _aggregated({"userRoles": {"create": False}}) == {}
    assert tuple(_aggregated({"userRoles": {"bulkTerminate": False}})) == USERS[:4]


@pytest.mark.parametrize(
    ("viewer", "editor", "written", "read"),
    [
        (*USERS[:2], "batchjobs", {"batchjobs", "batchterminations"}),
        (*USERS[2:4], "batchaccesspolicies", {"batchaccesspolicies"}),
        (USERS[0], USERS[4], "batchterminations", {"batchjobs", "batchterminations"}),
    ],
)
def test_the_viewer_reads_and_the_editor_writes_objects_but_never_the_status(
    viewer: str, editor: str, written: str, read: set[str]
) -> None:
    rules = {role["metadata"]["name"]: role["rules"] for role in of_kind(objects(), "ClusterRole")}
    may = {
        name: {(which, verb) for rule in rules[name] for which in rule["resources"] for verb in rule["verbs"]}
        for name in USERS
    }
    shown = {*read, *(f"{one}/status" for one in read)}
    verbs = ("create", "delete", "get", "list", "patch", "update", "watch")
    assert may[viewer] == {(which, verb) for which in shown for verb in ("get", "list", "watch")}
    assert may[editor] == {(f"{written}/status", "get"), *((written, verb) for verb in verbs)}
