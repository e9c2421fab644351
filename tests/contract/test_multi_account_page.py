"""docs/multi-account.md: its policies are valid, their roles match, its commands and columns exist."""

import re
import shlex
from functools import reduce
from pathlib import Path
from typing import Any, Final

import jmespath  # type: ignore[import-untyped]
import pytest
import yaml

from awsbatch_operator.api.access_policy import Policy, parse_policy
from awsbatch_operator.policy.authorizer import job_not_allowed
from awsbatch_operator.policy.resolution import Mode, select_policy
from awsbatch_operator.policy.role_session import external_id

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs/multi-account.md").read_text("utf-8")
CLUSTER: Final = "my-cluster"


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    return [text for _, text in found]


def policies() -> list[Policy]:
    manifests = [one for text in blocks("yaml") for one in yaml.safe_load_all(text)]
    parsed = [parse_policy(one["metadata"]["name"], one["spec"]) for one in manifests]
    assert [one for one in parsed if not isinstance(one, Policy)] == []
    return [one for one in parsed if isinstance(one, Policy)]


def commands() -> list[str]:
    lines = "\n".join(blocks("console")).replace("\\\n", " ").splitlines()
    return [line.strip().removeprefix("$ ") for line in lines if line.strip().startswith("$ ")]


POLICIES: Final = {one.name: one for one in policies()}


def test_each_namespace_of_the_page_is_under_one_policy() -> None:
    expected = {"team-a-dev": "team-a", "team-a-prod": "team-a", "team-b": "team-b", "awsbatch-operator": None}
    for namespace, name in expected.items():
        selected = select_policy(POLICIES.values(), {"kubernetes.io/metadata.name": namespace})
        assert selected == (None if name is None else POLICIES[name])


def test_each_spoke_of_the_page_is_the_role_of_its_policy() -> None:
    spokes = [line for line in commands() if "spoke/template.yaml" in line]
    found = {_option(line, "PolicyName"): (_option(line, "RoleName"), _option(line, "Regions")) for line in spokes}
    assert set(found) == set(POLICIES)
    (hub,) = [line for line in commands() if "deploy/iam/template.yaml" in line]
    assert set(_option(hub, "SpokeRoleArns").split(",")) == {one.role for one in POLICIES.values()}
    for name, policy in POLICIES.items():
        role, regions = found[name]
        assert (policy.role or "").endswith(f":role/{role}")
        assert set(policy.regions or ("eu-west-1",)) == set(regions.split(","))
        assert f"`{external_id(CLUSTER, name)}`" in PAGE
    assert {_option(line, "ClusterName") for line in spokes} == {CLUSTER}


def test_terraform_matches_cloudformation() -> None:
    (text,) = blocks("hcl")
    assert set(re.findall(r'"(arn:aws:iam::[^"]+)"', text)) == {one.role for one in POLICIES.values()}
    assert re.findall(r'policy_name *= "(.*)"', text) == list(POLICIES)
    assert set(re.findall(r'cluster_name *= "(.*)"', text)) == {CLUSTER}


def _option(line: str, name: str) -> str:
    (value,) = re.findall(rf"\b{name}=(\S+)", line)
    return str(value)


@pytest.mark.parametrize("template", ["deploy/iam/template.yaml", "deploy/iam/spoke/template.yaml"])
def test_every_parameter_is_one_of_its_template(template: str) -> None:
    declared = set(re.findall(r"^  (\w+):$", (ROOT / template).read_text().split("Parameters:\n")[-1], re.MULTILINE))
    given = {
        name
        for line in commands()
        if f"--template-file {template}" in line
        for name in re.findall(r"(\w+)=", line.split("--parameter-overrides")[1])
    }
    assert given
    assert given <= declared


def test_the_denial_on_the_page_is_the_one_of_the_code() -> None:
    deny = job_not_allowed("team-a")
    assert deny.message in " ".join(PAGE.split())
    assert f"Terminated=False {deny.reason}" in PAGE


def test_every_value_that_is_set_is_one_of_the_chart() -> None:
    values: Any = yaml.safe_load((ROOT / "deploy/helm/awsbatch-operator/values.yaml").read_text())
    pairs = re.findall(r"--set ([\w.]+)=([^\s`]+)", PAGE)
    assert {"accessPolicy.mode", "clusterName"} <= {name for name, _ in pairs}
    for name, _ in pairs:
        reduce(lambda place, part: place[part], name.split("."), values)
    assert {value for name, value in pairs if name == "accessPolicy.mode"} <= set(Mode)
    assert {value for name, value in pairs if name == "clusterName"} == {CLUSTER}


def test_every_query_can_be_read() -> None:
    given = re.findall(r'--query ("(?:[^"\\]|\\.)*"|\S+)', "\n".join(commands()))
    queries = [shlex.split(one)[0] for one in given]
    assert len(queries) >= 3
    for query in queries:
        jmespath.compile(query)
    (untagged,) = [query for query in queries if "k8s-namespace" in query]
    jobs = [
        {"jobId": str(n), "jobQueue": "q", "tags": tags} for n, tags in enumerate(({}, {"k8s-namespace": "team-a-dev"}))
    ]
    assert jmespath.search(untagged, {"jobs": jobs}) == [["0", "q"]]


@pytest.mark.parametrize(
    ("plural", "command"), [("batchaccesspolicies", "kubectl get bap"), ("batchjobs", "kubectl -n team-a-dev get bj")]
)
def test_the_columns_are_those_of_the_definition(plural: str, command: str) -> None:
    definition: Any = yaml.safe_load((ROOT / f"crds/{plural}.awsbatch.dev.yaml").read_text())
    columns = definition["spec"]["versions"][0]["additionalPrinterColumns"]
    expected = ["NAME", *(one["name"].upper() for one in columns if not one.get("priority"))]
    (header,) = re.findall(rf"^\$ {command}\n(.*)$", PAGE, re.MULTILINE)
    assert header.split() == expected
