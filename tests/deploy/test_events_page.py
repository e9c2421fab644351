"""docs/events.md: its commands, values, metrics, patterns and messages exist, and its policy is valid."""

import json
import re
from typing import Any, Final

import pytest
import yaml
from helm_chart import CHART

from awsbatch_operator.api.access_policy import Policy, parse_policy
from awsbatch_operator.config import Settings, flag
from awsbatch_operator.controller import event_receiver, event_streams
from awsbatch_operator.observability.metrics import Metrics
from awsbatch_operator.reconcile.poll_intervals import PollIntervals
from contract.test_operations_pages import CODE
from deploy.events_forms import EVENTS, FORWARD, FORWARD_TEMPLATE, TEMPLATE
from deploy.iam_terraform import read
from deploy.places import ROOT
from deploy.test_events_forms import CANARY, EVENT, matches

PAGE: Final = (ROOT / "docs/events.md").read_text("utf-8")
TEXT: Final = " ".join(PAGE.split())
TEMPLATES: Final = {"deploy/events/template.yaml": TEMPLATE, "deploy/events/forward/template.yaml": FORWARD_TEMPLATE}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    lines = "\n".join(blocks("console")).replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


@pytest.mark.parametrize("file", TEMPLATES)
def test_every_parameter_is_one_of_its_template_and_all_required_ones_are_given(file: str) -> None:
    parameters = TEMPLATES[file]["Parameters"]
    required = {name for name, one in parameters.items() if "Default" not in one}
    given = [
        set(re.findall(r"(\w+)=", line.split("--parameter-overrides")[1]))
        for line in commands()
        if f"--template-file {file}" in line
    ]
    assert given
    assert all(required <= names <= set(parameters) for names in given)


def test_the_outputs_that_the_commands_read_exist() -> None:
    named = set(re.findall(r"OutputKey=='(\w+)'", PAGE))
    assert named == {"RoleName", "QueueUrl", "BusArn"}
    iam = (ROOT / "deploy/iam/template.yaml").read_text("utf-8").split("\nOutputs:\n")[1]
    assert {"QueueUrl", "BusArn"} <= set(TEMPLATE["Outputs"])
    assert "  RoleName:\n" in iam


def test_the_modules_have_every_input_and_output_of_the_page() -> None:
    modules = {
        "deploy/iam/terraform": read(ROOT / "deploy/iam/terraform"),
        "deploy/events/terraform": read(EVENTS / "terraform"),
        "deploy/events/forward/terraform": read(FORWARD / "terraform"),
    }
    sources = {"awsbatch_operator": "deploy/iam/terraform"}
    for name, source, body in re.findall(
        r'module "(\w+)" {\n  source += "[^"]*//([\w/]+)"\n(.*?)^}', PAGE, re.DOTALL | re.MULTILINE
    ):
        sources[name] = source
        inputs = set(re.findall(r"^  (\w+) +=", body, re.MULTILINE)) - {"providers"}
        assert inputs <= {one.labels[0] for one in modules[source] if one.kind == "variable"}
    for name, output in re.findall(r"module\.(\w+)\.(\w+)", PAGE):
        assert output in {one.labels[0] for one in modules[sources[name]] if one.kind == "output"}
    ((inputs, bus_arn, forwarded),) = re.findall(
        r"With Terraform, set (.*?) of the module .*? its output `(\w+)` to the module .*? as `(\w+)`", TEXT
    )
    hub, forward = modules["deploy/events/terraform"], modules["deploy/events/forward/terraform"]
    named = set(re.findall(r"`(\w+)`", inputs))
    assert len(named) == 2
    assert named <= {one.labels[0] for one in hub if one.kind == "variable"}
    assert bus_arn in {one.labels[0] for one in hub if one.kind == "output"}
    assert forwarded in {one.labels[0] for one in forward if one.kind == "variable"}


def test_every_value_and_flag_of_the_page_exists() -> None:
    values = yaml.load((CHART / "values.yaml").read_text("utf-8"), yaml.CSafeLoader)
    assert {"eventsQueues", "listPolls"} <= set(values)
    assert "withEvents" in values["pollInterval"]
    for named in re.findall(r"`pollInterval\.(\w+)`", PAGE):
        assert named in values["pollInterval"]
    flags = {flag(field) for field in Settings.model_fields}
    ours = set(re.findall(r"`(--(?:no-)?[a-z-]+)", PAGE))
    assert {"--events-queue", "--poll-with-events", "--no-list-polls"} <= ours
    assert {one.replace("--no-", "--") for one in ours if not one.startswith("--regions")} <= flags


def test_every_metric_of_the_page_exists() -> None:
    metrics = Metrics()
    metrics.observe_polls(dict, dict)
    shown = {sample for family in metrics.registry.collect() for sample in (family.name, f"{family.name}_total")}
    named = set(re.findall(r"`(awsbatch_operator_\w+)", PAGE))
    assert len(named) >= 4
    assert named <= shown


def filters() -> list[Any]:
    """The `detail` of the pattern, and the other that a sentence names."""
    (by_queue,) = [json.loads(block) for block in blocks("json")]
    (status,) = re.findall(r"With `(\{.*?\})` as the `detail`", TEXT)
    return [by_queue, by_queue | {"detail": json.loads(status)}]


@pytest.mark.parametrize("pattern", filters())
def test_a_filter_of_the_page_lets_the_canary_pass(pattern: Any) -> None:
    assert matches(pattern, CANARY)
    detail: Any = pattern["detail"]
    ((name, allowed),) = detail.items()
    taken, *_ = allowed
    assert matches(pattern, EVENT | {"detail": {name: taken}})
    assert not matches(pattern, EVENT | {"detail": {name: "something else"}})


def test_a_message_of_the_page_is_what_the_transformer_leaves() -> None:
    (shown,) = re.findall(r"^`(\{.*\})`$", PAGE, re.MULTILINE)
    (target,) = TEMPLATE["Resources"]["Rule"]["Properties"]["Targets"]
    assert list(json.loads(shown)) == list(target["InputTransformer"]["InputPathsMap"])


def test_the_policy_of_the_page_is_valid() -> None:
    (body,) = [yaml.load(block, yaml.CSafeLoader) for block in blocks("yaml")]
    policy = parse_policy("team-a", {"namespaceSelector": {}, "jobs": {"queues": ["*"]}} | body["spec"])
    assert isinstance(policy, Policy)
    assert policy.events_queue is not None


def test_the_figures_of_the_page_are_those_of_the_code() -> None:
    assert f"After {event_streams.PROOF_COUNTS:.0f} s without any" in TEXT
    assert event_receiver.CANARY_INTERVAL == 60
    assert f"more than {event_receiver.MANY_QUEUES} queues" in TEXT
    assert PollIntervals().with_events == 5 * 60_000


def quoted() -> list[str]:
    """Messages of the log: those of the first column of the troubleshooting table, and those that a sentence names."""
    rows = PAGE.split("\n## Troubleshooting\n")[1].split("\n## ")[0].splitlines()
    first = [row.split("|")[1] for row in rows if row.startswith("| ")]
    said = [text for cell in first for text in re.findall(r"`([^`]+)`", cell) if text.count(" ") > 1]
    return [*said, *re.findall(r"log (?:of the leader has the line|says) `([^`]+)`", TEXT)]


def test_the_page_quotes_messages() -> None:
    assert {"events of AWS Batch arrive", "events do not arrive any more", "a canary event did not arrive"} <= set(
        quoted()
    )


@pytest.mark.parametrize("text", quoted())
def test_a_quoted_message_is_in_the_code(text: str) -> None:
    assert text in CODE
