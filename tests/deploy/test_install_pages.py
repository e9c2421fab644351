"""docs/quickstart.md, install.md and upgrade.md: their commands, values, parameters and permissions exist."""

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import jmespath  # type: ignore[import-untyped]  # that of botocore and the AWS CLI
import pytest
import yaml

from awsbatch_sandbox.cluster import kubectl_program
from contract.test_operations_pages import CODE
from deploy.charts import NAME, Values, merged, objects, of_kind, render
from deploy.iam_cloudformation import Stack, load
from deploy.iam_forms import TEMPLATE
from deploy.page_commands import programs, steps
from deploy.places import CRDS, ROOT

PAGES: Final = {name: (ROOT / f"docs/{name}.md").read_text("utf-8") for name in ("quickstart", "install", "upgrade")}
COMMANDS: Final = [
    (page, words) for page, text in PAGES.items() for step in steps(text) for words in programs(step.command)
]
PSEUDO: Final = {"AWS::Partition": "aws", "AWS::AccountId": "111122223333", "AWS::Region": "eu-west-1"}


def commands(*beginning: str, page: str = "") -> list[list[str]]:
    """Those of the pages, or of one page, that begin with these words."""
    start = list(beginning)
    return [words for name, words in COMMANDS if words[: len(start)] == start and page in ("", name)]


def options(words: Sequence[str], *names: str) -> list[str]:
    """The values of an option that may be repeated."""
    return [value for name, value in pairwise(words) if name in names]


@pytest.mark.parametrize("words", commands("kubectl"), ids=" ".join)
def test_kubectl_knows_every_command_and_flag(words: Sequence[str]) -> None:
    done = subprocess.run(
        [kubectl_program(), *words[1:], "--help"], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    # Without its second word, such as `kubectl rollout`, it would only print its help.
    assert " SUBCOMMAND" not in done.stdout


def test_every_file_of_a_command_exists() -> None:
    flags = ("-f", "--values", "--template-file", "-k", "-r")
    named = {value for _, words in COMMANDS for value in options(words, *flags)} - {"-", "OVERLAY"}
    named |= {words[3] for words in commands("helm", "install") if ":" not in words[3]}
    assert {"deploy/iam/template.yaml", "deploy/helm/awsbatch-operator", "crds", "locks/operator.txt"} <= named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


# -- Helm -------------------------------------------------------------------------------------------------------------


def values_of(words: Sequence[str]) -> Values:
    """Those of --values and --set; a shell variable is the ARN of a role."""
    values: Values = {}
    for file in options(words, "--values"):
        values = merged(values, yaml.load((ROOT / file).read_text("utf-8"), yaml.CSafeLoader))
    for pair in (pair for given in options(words, "--set") for pair in given.split(",")):
        path, _, text = pair.partition("=")
        value: Any = yaml.load(
            text.replace("$ROLE", "arn:aws:iam::111122223333:role/awsbatch-operator"), yaml.CSafeLoader
        )
        for name in reversed(path.split(".")):
            value = {name: value}
        values = merged(values, value)
    return values


@pytest.mark.parametrize("words", commands("helm", "install"), ids=" ".join)
def test_the_chart_takes_the_values_and_installs_where_the_role_expects_it(words: Sequence[str]) -> None:
    assert words[2] == NAME
    assert options(words, "--namespace") == [NAME]
    render(values_of(words), namespace=NAME)  # the schema rejects unknown values
    parameters = {name: one.get("Default") for name, one in TEMPLATE["Parameters"].items()}
    (account,) = of_kind(objects(values_of(words)), "ServiceAccount")
    assert (account["metadata"]["namespace"], account["metadata"]["name"]) == (
        parameters["Namespace"],
        parameters["ServiceAccount"],
    )


def test_the_commands_that_install_are_the_same_on_both_pages() -> None:
    # The quickstart explains them one by one.
    for beginning in (
        ["aws", "cloudformation", "deploy"],
        ["aws", "eks"],
        ["aws", "cloudformation", "describe-stacks"],
    ):
        assert commands(*beginning, page="install") == commands(*beginning, page="quickstart") != []
    charts = [words for words in commands("helm", "install", page="quickstart") if words[3].startswith("oci://")]
    assert commands("helm", "install", page="install") == charts != []
    for beginning in (["helm", "uninstall"], ["kubectl", "delete", "crd"], ["aws", "cloudformation", "delete-stack"]):
        assert commands(*beginning, page="install") == commands(*beginning, page="quickstart") != []


def test_the_definitions_that_are_deleted_are_all() -> None:
    for words in commands("kubectl", "delete", "crd"):
        assert set(words[3:]) == {crd.stem for crd in CRDS}


# -- AWS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", commands("aws", "cloudformation", "deploy"), ids=" ".join)
def test_the_template_takes_the_parameters(words: Sequence[str]) -> None:
    template = load(ROOT / options(words, "--template-file")[0])
    given = dict(one.split("=", 1) for one in words[words.index("--parameter-overrides") + 1 :])
    for name, value in given.items():
        pattern = template["Parameters"][name].get("AllowedPattern", ".*")
        assert "$" in value or re.fullmatch(pattern, value), name
    assert Stack(template, given, PSEUDO).refusals() == []
    assert options(words, "--capabilities") == ["CAPABILITY_IAM"]


def test_the_output_that_a_command_reads_exists() -> None:
    queries = [options(words, "--query")[0] for words in commands("aws", "cloudformation", "describe-stacks")]
    outputs = [{"OutputKey": name, "OutputValue": f"the {name}"} for name in TEMPLATE["Outputs"]]
    for query in queries:
        assert jmespath.search(query, {"Stacks": [{"Outputs": outputs}]}) == ["the RoleArn"]


# -- the tables of permissions ----------------------------------------------------------------------------------------


def table(heading: str) -> list[list[str]]:
    """The cells of the rows below the heading of install.md, without the first row."""
    section = PAGES["install"].split(f"# {heading}\n")[1].split("\n#")[0]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows[1:]]


def spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def granted(rules: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Resource and verb."""
    for rule in rules:
        yield from ((resource, verb) for resource in rule["resources"] for verb in rule["verbs"])


def test_the_table_of_permissions_has_what_the_chart_grants() -> None:
    release = objects({"onDelete": {"enabled": True}, "userRoles": {"create": False}})
    roles = [body for body in of_kind(release, "ClusterRole", "Role") if "helm.sh/hook" not in str(body["metadata"])]
    shown = [
        (resource, verb)
        for resources, verbs, _ in table("Permissions in Kubernetes")
        for resource in spans(resources)
        for verb in spans(verbs)
        if "." not in resource  # a group, or the name of the only one
    ]
    assert set(shown) == {right for body in roles for right in granted(body["rules"])}
    assert len(shown) == len(set(shown))


def test_the_table_of_actions_has_those_of_all_policies() -> None:
    files = [*(ROOT / "deploy/iam").glob("policy*.json"), ROOT / "deploy/events/policy.json"]
    statements = [one for file in files for one in yaml.load(file.read_text("utf-8"), yaml.CSafeLoader)["Statement"]]
    actions = [one["Action"] for one in statements]
    expected = {action for one in actions for action in ([one] if isinstance(one, str) else one)}
    assert {span for row in table("Permissions in AWS") for span in spans(row[0])} == expected


# -- what a page quotes -----------------------------------------------------------------------------------------------


def test_a_message_of_the_log_is_in_the_code() -> None:
    messages = re.findall(r"logs\s+`([^`]+)`", PAGES["upgrade"])
    assert messages
    assert [message for message in messages if message not in CODE] == []
