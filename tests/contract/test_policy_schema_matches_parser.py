"""The operator accepts the policies that the API server accepts, and rejects those that it rejects.

The rules are the CRD's, evaluated as the embedded API server does it. The examples are judged by real ones too
(test_crd_examples.py); here it is the pieces that count, in any combination.
"""

from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from awsbatch_operator.api.access_policy import NAMESPACE, Policy, parse_policy
from awsbatch_sandbox.apiserver.cel import Rules
from awsbatch_sandbox.apiserver.schema import prune, with_defaults
from awsbatch_sandbox.apiserver.validation import Validator

CRD = Path(__file__).parents[2] / "crds" / "batchaccesspolicies.awsbatch.dev.yaml"
(VERSION,) = yaml.load(CRD.read_text(encoding="utf-8"), yaml.CSafeLoader)["spec"]["versions"]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]
VALIDATOR, rules = Validator(SCHEMA), cache(lambda: Rules(SCHEMA))


def stored(spec: Any) -> Any:
    """The spec as it would be stored: without nulls and unknown fields, which clients that don't ask lose silently."""
    return with_defaults(prune({"spec": spec}, SCHEMA, (), []), SCHEMA).get("spec")


def taken(spec: Any) -> bool:
    body = {"spec": spec}
    return not VALIDATOR.faults(body, None) and not rules().faults(body, None)


def mostly(good: st.SearchStrategy[Any], bad: list[Any]) -> st.SearchStrategy[Any]:
    """Seldom a bad piece: two of them in one spec hide each other."""
    return st.integers(0, 29).flatmap(lambda roll: st.sampled_from(bad) if roll == 17 else good)


ODD: list[Any] = [None, "", 7, True, [], {}, [None], {"a": 1}]
KEYS = mostly(
    st.sampled_from(["team", "example.com/team", "a.b-c/d_e.f", "kubernetes.io/metadata.name", "A"]),
    ["", "a/b/c", "-a", "a-", "Example.com/a", "a..b/c", "/a", "a/", "a" * 64, "a" * 254 + "/b", "a\n", "ä"],
)
VALUES = mostly(st.sampled_from(["", "a", "a-b_c.d", "A" * 63]), ["a b", "-", "a-", "a" * 64, "a\n", "*", "ä"])
REQUIREMENTS = mostly(
    st.fixed_dictionaries(
        {
            "key": KEYS,
            "operator": mostly(st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]), ["in", "", "Equals"]),
        },
        optional={"values": mostly(st.lists(VALUES, max_size=2), [None, "a", [1]])},
    ),
    [{"key": "a"}, {"operator": "Exists"}, {"key": "a", "operator": "Exists", "value": "a"}, "a"],
)
SELECTORS = mostly(
    st.fixed_dictionaries(
        {},
        optional={
            "matchLabels": mostly(st.dictionaries(KEYS, VALUES, max_size=2), [None, "a", {"a": 1}, {"a": None}]),
            "matchExpressions": mostly(st.lists(REQUIREMENTS, max_size=2), [None, {}, "a"]),
        },
    ),
    [*ODD, {"matchNames": ["a"]}],
)
ARN = "arn:aws:iam::111122223333:role/"
ROLES = mostly(
    st.sampled_from(
        [f"{ARN}a", f"{ARN}a/b/c", ARN.replace("aws", "aws-cn") + "a", ARN.replace("aws", "aws-us-gov") + "a"]
    ),
    [ARN, f"{ARN}a b", f"{ARN}{'a' * 65}", f"{ARN}a\n", f"{ARN}{'p' * 600}/a", ARN.replace("role", "user") + "a", ""],
)
QUEUE = "https://sqs.eu-west-1.amazonaws.com/111122223333/events"
EVENTS_QUEUES = mostly(
    st.sampled_from([QUEUE, QUEUE.replace("sqs.", "sqs-fips."), QUEUE.replace("events", "e_1-" * 20)]),
    [
        *(None, "", QUEUE[:-6], f"{QUEUE}.fifo", f"{QUEUE}\n", f"{QUEUE}/a", f"{QUEUE}?a=b", QUEUE + "s" * 500),
        *(QUEUE.replace("https", "http"), QUEUE.replace("eu-west-1", "eu-west-1a"), QUEUE.replace("sqs", "sns")),
        *(QUEUE.replace("amazonaws.com/", "/"), QUEUE.replace("com/", "com@example.com/"), QUEUE.replace("1111", "")),
    ],
)
REGIONS = mostly(
    st.sampled_from(["eu-west-1", "us-east-1", "cn-north-1", "us-gov-west-1", "eusc-de-east-1"]),
    ["", "eu-west-1a", "*", "EU-WEST-1", "eu-west-1\n", "a" * 33],
)
QUEUES = mostly(
    st.sampled_from(
        [
            "*",
            "team-a-*",
            "a_B-1",
            "q" * 128,
            "arn:aws:batch:*:111122223333:job-queue/a-*",
            "arn:*:batch:*:*:job-queue/*",
        ]
    ),
    [
        "",
        "a b",
        "?",
        "[a]",
        "a/b",
        "arn:aws:batch:*:job-queue/a",
        "q" * 129,
        "a\n",
        "arn:aws:batch:eu-west-1:1:job-queue/",
        "a:b",
    ],
)
TAG_KEYS = mostly(st.sampled_from(["team", "cost center", "k" * 128, "a/ä:b"]), ["", "k" * 129, "aws:a", "AwS:a"])
TAG_VALUES = mostly(
    st.sampled_from(
        ["", "a", NAMESPACE, f"x{NAMESPACE}y{NAMESPACE}", "v" * 256, "v" * 255 + NAMESPACE, "$5", "{a}", "*"]
    ),
    ["v" * 257, "v" * 256 + NAMESPACE, "${a}", "${namespace", "${ namespace }", "$${namespace}{a}", "${Namespace}"],
)
JOBS = mostly(
    st.fixed_dictionaries(
        {},
        optional={
            "queues": mostly(st.lists(QUEUES, min_size=1, max_size=2), [None, [], "a", [1], ["a", "a"]]),
            "tags": mostly(st.dictionaries(TAG_KEYS, TAG_VALUES, min_size=1, max_size=2), [None, {}, "a", {"a": 1}]),
        },
    ),
    [*ODD, {"queues": ["a"], "names": ["a"]}],
)
ALLOWS = mostly(
    st.permutations(["Observe", "Terminate"]).flatmap(lambda verbs: st.sampled_from([verbs, ["Observe"]])),
    [[], ["Terminate"], ["Observe", "Observe"], ["observe"], ["Observe", "Delete"], "Observe", None, [None]],
)
SPECS = st.fixed_dictionaries(
    {"namespaceSelector": SELECTORS, "jobs": JOBS},
    optional={
        "role": mostly(
            st.fixed_dictionaries({"arn": ROLES}, optional={"eventsQueue": EVENTS_QUEUES}),
            [*ODD, {"arn": None}, {"arn": f"{ARN}a", "name": "a"}, {"eventsQueue": QUEUE}],
        ),
        "regions": mostly(st.lists(REGIONS, min_size=1, max_size=2), [None, [], "eu-west-1", [1]]),
        "allow": ALLOWS,
        "suspend": mostly(st.booleans(), [None, "true", 1, {}]),
        "until": st.just("friday"),
    },
)


@settings(max_examples=4 * settings().max_examples)
@given(spec=SPECS)
def test_the_operator_reads_exactly_what_the_api_server_accepts(spec: Any) -> None:
    shown = stored(spec)
    assert isinstance(parse_policy("any", shown), Policy) is taken(shown)


def test_both_outcomes_occur() -> None:
    good = {"namespaceSelector": {}, "jobs": {"queues": ["*"]}}
    assert taken(stored(good))
    assert not taken(stored({**good, "jobs": {}}))


def sqs_hosts() -> list[str]:
    """The host of SQS in one region of each partition of botocore, also FIPS and dual-stack, and a VPC endpoint."""
    data = botocore.session.get_session().get_component("data_loader").load_data("partitions")
    hosts = []
    for partition in data["partitions"]:
        region = next(name for name in partition["regions"] if not name.endswith("-global"))
        suffixes = [partition["outputs"][f"{kind}nsSuffix"] for kind in ("d", "dualStackD")]
        hosts += [f"{name}.{region}.{suffix}" for name in ("sqs", "sqs-fips") for suffix in suffixes]
        hosts.append(f"vpce-0a1b2c3d-4e5f-{region}a.sqs.{region}.vpce.{suffixes[0]}")
    return hosts


@pytest.mark.parametrize("host", sqs_hosts())
def test_the_queue_may_have_each_host_of_sqs(host: str) -> None:
    spec = {
        "namespaceSelector": {},
        "role": {"arn": f"{ARN}a", "eventsQueue": f"https://{host}/111122223333/events"},
        "jobs": {"queues": ["*"]},
    }
    assert taken(stored(spec))
    assert isinstance(parse_policy("any", stored(spec)), Policy)
