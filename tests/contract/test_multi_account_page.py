"""docs/multi-account.md: its policies are those of examples/, their roles match, its commands and columns exist."""

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
EXAMPLES: Final = ROOT / "examples/multi-account"
CLUSTER: Final = "my-cluster"


def section(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def blocks(language: str, text: str = PAGE) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text, flags=re.DOTALL | re.MULTILINE)
    return [block for _, block in found]


def example(file: str) -> list[Any]:
    return list(yaml.load_all((EXAMPLES / file).read_text("utf-8"), yaml.CSafeLoader))


def policies(file: str) -> dict[str, Policy]:
    parsed = [parse_policy(one["metadata"]["name"], one["spec"]) for one in example(file)]
    assert [one for one in parsed if not isinstance(one, Policy)] == []
    return {one.name: one for one in parsed if isinstance(one, Policy)}


def commands() -> list[str]:
    lines = "\n".join(blocks("console")).replace("\\\n", " ").splitlines()
    return [line.strip().removeprefix("$ ") for line in lines if line.strip().startswith("$ ")]


POLICIES: Final = policies("policies-two-teams.yaml")
"""Those of the tutorial, with a role each."""


@pytest.mark.parametrize(
    ("heading", "file", "shown"),
    [
        ("Two teams, one account", "policies-one-account.yaml", ["team-a", "team-b"]),
        ("3. Policies", "policies-two-teams.yaml", ["team-a"]),
    ],
)
def test_the_policies_of_the_page_are_those_of_the_example(heading: str, file: str, shown: list[str]) -> None:
    (quoted,) = blocks("yaml", section(heading))
    assert list(yaml.load_all(quoted, yaml.CSafeLoader)) == [
        one for one in example(file) if one["metadata"]["name"] in shown
    ]
    assert f"../examples/multi-account/{file}" in section(heading)


def test_each_namespace_of_the_page_is_under_one_policy() -> None:
    expected = {"team-a-dev": "team-a", "team-a-prod": "team-a", "team-b": "team-b", "awsbatch-operator": None}
    for namespace, name in expected.items():
        selected = select_policy(POLICIES.values(), {"kubernetes.io/metadata.name": namespace})
        assert selected == (None if name is None else POLICIES[name])


def test_in_one_account_no_policy_names_a_role_and_a_job_of_one_team_is_none_of_the_other() -> None:
    one_account = policies("policies-one-account.yaml")
    assert {one.role for one in one_account.values()} == {None}
    rules = {name: (one.rules.queues, one.rules.tags) for name, one in one_account.items()}
    assert rules == {"team-a": (("team-a-*",), ()), "team-b": (("shared",), (("team", "b"),))}
    (submit,) = [line for line in commands() if "aws batch submit-job" in line]
    assert "--job-queue shared" in submit
    assert "--tags team=b" in submit


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


def test_the_terraform_inputs_of_the_hub_exist() -> None:
    (named,) = re.findall(r"deploy/iam/terraform\]\([^)]*\) with (.*?) for the hub", PAGE, re.DOTALL)
    variables = (ROOT / "deploy/iam/terraform/variables.tf").read_text("utf-8")
    assert set(re.findall(r"`(\w+)", named)) == {"own_jobs", "spoke_role_arns"}
    assert all(f'variable "{name}"' in variables for name in re.findall(r"`(\w+)", named))


def test_the_denial_on_the_page_is_the_one_of_the_code() -> None:
    deny = job_not_allowed("team-a")
    (shown,) = re.findall(r"^(The BatchAccessPolicy .*) …$", PAGE, re.MULTILINE)
    assert deny.message.startswith(shown)
    (theirs,) = re.findall(r"^theirs +(.*)$", section("4. What teams see"), re.MULTILINE)
    assert deny.reason in theirs.split()


def test_every_value_that_is_set_is_one_of_the_chart() -> None:
    values: Any = yaml.load((ROOT / "deploy/helm/awsbatch-operator/values.yaml").read_text(), yaml.CSafeLoader)
    pairs = re.findall(r"--set ([\w.]+)=([^\s`]+)", PAGE)
    assert {"accessPolicy.mode", "clusterName", "aws.roleArn"} <= {name for name, _ in pairs}
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
    definition: Any = yaml.load((ROOT / f"crds/{plural}.awsbatch.dev.yaml").read_text(), yaml.CSafeLoader)
    columns = definition["spec"]["versions"][0]["additionalPrinterColumns"]
    expected = ["NAME", *(one["name"].upper() for one in columns if not one.get("priority"))]
    (header,) = re.findall(rf"^\$ {command}\n(.*)$", PAGE, re.MULTILINE)
    assert header.split() == expected
