"""The simulated Batch against real boto3 over HTTP, and against the service model that botocore carries."""

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError
from botocore.model import ListShape, MapShape, Shape, StructureShape
from botocore.retries import standard
from click.testing import CliRunner, Result

from awsbatch_sandbox.batch.remote import RemoteBatch
from awsbatch_sandbox.batch.signature import SignedRequest, sign
from awsbatch_sandbox.cli import sandbox
from contract.servers import simulated_batch

REGION = "eu-west-1"
KINDS: dict[str, dict[str, Any]] = {
    "single": {},
    "array": {"children": ["RUNNING", "FAILED"]},
    "multinode": {"num_nodes": 2},
    "eks": {"kind": "eks"},
    "ecs-multi": {"kind": "ecs-multi"},
}
EVERYTHING: dict[str, Any] = {
    "environment": {"A": "1"},
    "secrets": {"B": "arn:aws:secretsmanager:x"},
    "command": ["run"],
    "parameters": {"p": "1"},
    "tags": {"team": "a"},
    "timeout": 60,
    "share_identifier": "s",
    "scheduling_priority": 1,
    "past_attempts": 1,
    "container_reason": "OutOfMemoryError: Container killed due to memory usage",
    "depends_on": ["another"],
}


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteBatch]:
    with simulated_batch(tmp_path_factory.mktemp("batch")) as url, RemoteBatch(url) as remote:
        yield remote


@pytest.fixture(autouse=True)
def _clean(batch: RemoteBatch) -> Iterator[None]:
    yield
    batch.clear_faults()
    batch.clear_calls()
    batch.limit(None)


@pytest.fixture(scope="module")
def client(batch: RemoteBatch) -> Iterator[Any]:
    made = client_for(batch)
    yield made
    made.close()


def client_for(batch: RemoteBatch, *, region: str = REGION, access_key: str = "sandbox") -> Any:
    """A client that retries as the operator's does, without the waits in between."""
    made: Any = boto3.client(
        "batch",
        region_name=region,
        endpoint_url=batch.url,
        aws_access_key_id=access_key,
        aws_secret_access_key="sandbox",
        config=Config(retries={"mode": "standard", "total_max_attempts": 3}, read_timeout=5),
    )
    detector = standard.ThrottlingErrorDetector(standard.RetryEventAdapter())
    impatient = standard.RetryHandler(
        retry_policy=standard.RetryPolicy(
            retry_checker=standard.StandardRetryConditions(max_attempts=3),
            retry_backoff=standard.ExponentialBackoff(random=lambda: 0.0, throttling_detector=detector),
        ),
        retry_event_adapter=standard.RetryEventAdapter(),
        # The stub asks for the quota itself where botocore hands over its checker.
        retry_quota=standard.RetryQuotaChecker(standard.quota.RetryQuota(10_000), detector),  # type: ignore[arg-type]
    )
    unique_id = "retry-config-batch"
    made.meta.events.unregister("needs-retry.batch", unique_id=unique_id)
    made.meta.events.register("needs-retry.batch", impatient.needs_retry, unique_id=unique_id)
    return made


def raw(batch: RemoteBatch, operation: str, **body: Any) -> Any:
    """The answer before botocore drops what its model does not know."""
    path, data = f"/v1/{operation.lower()}", json.dumps(body).encode()
    unsigned = SignedRequest("POST", path, {"host": urllib.parse.urlsplit(batch.url).netloc}, data)
    headers = sign(unsigned, at=time.time(), region=REGION, access_key="sandbox", secret="sandbox")
    request = urllib.request.Request(batch.url + path, data, headers)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def strays(value: Any, shape: Shape, path: str = "") -> list[str]:
    """Keys that the model does not have, required ones that are missing, and values of a wrong type."""
    if isinstance(shape, StructureShape):
        if not isinstance(value, dict):
            return [f"{path}: not an object"]
        found = [f"{path}.{key}: unknown" for key in value if key not in shape.members]
        found += [f"{path}.{key}: missing" for key in shape.required_members if key not in value]
        known = ((key, one) for key, one in value.items() if key in shape.members)
        return found + [stray for key, one in known for stray in strays(one, shape.members[key], f"{path}.{key}")]
    if isinstance(shape, ListShape):
        return [stray for one in value for stray in strays(one, shape.member, f"{path}[]")]
    if isinstance(shape, MapShape):
        return [stray for one in value.values() for stray in strays(one, shape.value, f"{path}{{}}")]
    types = {"string": str, "integer": int, "long": int, "boolean": bool}
    return [] if type(value) is types[shape.type_name] else [f"{path}: {type(value).__name__}"]


def output(operation: str) -> Shape:
    model = botocore.session.get_session().get_service_model("batch").operation_model(operation)
    assert model.output_shape is not None
    return model.output_shape


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", ["SUBMITTED", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED"])
def test_every_key_of_every_kind_of_job_is_in_the_service_model(batch: RemoteBatch, kind: str, status: str) -> None:
    job_id = batch.seed(status=status, **KINDS[kind], **EVERYTHING)
    mark = {"array": ":0", "multinode": "#0"}.get(kind)
    answer = raw(batch, "DescribeJobs", jobs=[job_id] + ([job_id + mark] if mark else []))
    assert answer["jobs"]
    # startedAt is required in the model, but real answers lack it for a job that never ran.
    found = [stray for stray in strays(answer, output("DescribeJobs")) if stray != ".jobs[].startedAt: missing"]
    assert found == []


def test_the_other_answers_are_in_the_service_model_too(batch: RemoteBatch) -> None:
    job_id = batch.seed(status="FAILED", queue="model", **EVERYTHING)
    batch.seed(queue="model", num_nodes=2, status="FAILED")
    listed = raw(batch, "ListJobs", jobQueue="model", jobStatus="FAILED")
    assert len(listed["jobSummaryList"]) == 2
    assert strays(listed, output("ListJobs")) == []
    assert strays(raw(batch, "TerminateJobs", jobs=[job_id, "a b"], reason="r"), output("TerminateJobs")) == []
    assert strays(raw(batch, "CancelJobs", jobs=[job_id, "a b"], reason="r"), output("CancelJobs")) == []
    submitted = raw(batch, "SubmitJob", jobName="a", jobQueue="default", jobDefinition="c")
    assert strays(submitted, output("SubmitJob")) == []


def test_answers_are_dated_by_the_clock_of_the_jobs(batch: RemoteBatch, client: Any) -> None:
    batch.advance(3600)
    job_id = batch.seed()
    answer = client.describe_jobs(jobs=[job_id])
    dated = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()
    assert 0 <= dated - answer["jobs"][0]["createdAt"] // 1000 <= 5


@pytest.mark.parametrize("kind", KINDS)
def test_boto3_sees_a_job_of_any_kind_through_its_termination(batch: RemoteBatch, client: Any, kind: str) -> None:
    job_id = batch.seed(**KINDS[kind], grace=30)
    reason = 'INC-4711: "runaway" cost\nnow 🎉'
    client.terminate_job(jobId=job_id, reason=reason)
    (detail,) = client.describe_jobs(jobs=[job_id])["jobs"]
    assert (detail["status"], detail["isTerminated"]) == ("PENDING" if kind == "array" else "RUNNING", True)
    batch.advance(30)
    (detail,) = client.describe_jobs(jobs=[job_id])["jobs"]
    assert (detail["status"], detail["statusReason"]) == ("FAILED", reason)
    assert batch.terminate_requests()[0]["reason"] == reason


def test_boto3_submits_lists_cancels_and_tags(batch: RemoteBatch, client: Any) -> None:
    batch.settings(queues=["default", "lists"])
    submitted = client.submit_job(jobName="a", jobQueue="lists", jobDefinition="c", tags={"team": "a"})
    job_id, arn = submitted["jobId"], submitted["jobArn"]
    client.tag_resource(resourceArn=arn, tags={"cost": "b"})
    client.untag_resource(resourceArn=arn, tagKeys=["team"])
    assert client.list_tags_for_resource(resourceArn=arn)["tags"] == {"cost": "b"}
    pages = client.get_paginator("list_jobs").paginate(jobQueue="lists", jobStatus="SUBMITTED")
    assert [one["jobId"] for page in pages for one in page["jobSummaryList"]] == [job_id]
    client.cancel_job(jobId=job_id, reason="not needed")
    (detail,) = client.describe_jobs(jobs=[job_id])["jobs"]
    assert (detail["status"], detail["isCancelled"]) == ("FAILED", True)
    assert client.cancel_jobs(jobs=[job_id], reason="again")["successful"] == [job_id]


def test_boto3_learns_which_operation_is_not_served(batch: RemoteBatch, client: Any) -> None:
    for operation, body in (("describe_job_queues", {}), ("describe_service_job", {"jobId": "x"})):
        with pytest.raises(client.exceptions.ClientException) as refused:
            getattr(client, operation)(**body)
        name = client.meta.method_to_api_mapping[operation]
        assert f"{name} is not served by this sandbox; it serves DescribeJobs, " in str(refused.value)
    assert batch.counts() == {"DescribeJobQueues": 1, "DescribeServiceJob": 1}


def test_boto3_reads_the_bulk_answer(batch: RemoteBatch, client: Any) -> None:
    job_ids = batch.seed_many(2)
    batch.fault("TerminateJobs", kind="refused_in_bulk", job_id=job_ids[0], code="AccessDenied")
    answer = client.terminate_jobs(jobs=job_ids, reason="r")
    assert (answer["successful"], answer["errors"][0]["code"]) == ([job_ids[1]], "AccessDenied")


def test_the_region_of_the_signature_and_the_access_key_choose_the_jobs(batch: RemoteBatch) -> None:
    batch.settings(accounts={"AKIAOTHER": "222222222222"})
    job_id = batch.seed(region="us-east-1", account="222222222222")
    there = client_for(batch, region="us-east-1", access_key="AKIAOTHER")
    elsewhere = client_for(batch, region="us-east-1")
    assert len(there.describe_jobs(jobs=[job_id])["jobs"]) == 1
    assert elsewhere.describe_jobs(jobs=[job_id])["jobs"] == []
    there.close()
    elsewhere.close()


REFUSED: list[tuple[str, str, str, int]] = [
    ("client_400", "ClientException", "ClientException", 1),
    ("server_500", "ServerException", "ServerException", 3),
    ("authorizer_500", "ClientError", "AuthorizerConfigurationException", 3),
    ("html_502", "ClientError", "502", 3),
    ("empty_503", "ClientError", "503", 3),
    ("empty_504", "ClientError", "504", 3),
    ("throttle_429", "ClientError", "TooManyRequestsException", 3),
    ("throttle_400", "ClientError", "ThrottlingException", 3),
    ("bare_429", "ClientError", "429", 3),
    ("limit_429", "ClientError", "429", 3),
    ("denied_403", "ClientError", "AccessDeniedException", 1),
    ("expired_403", "ClientError", "ExpiredTokenException", 1),
    ("unrecognized_403", "ClientError", "UnrecognizedClientException", 1),
    ("signature_403", "ClientError", "InvalidSignatureException", 1),
    ("html_404", "ClientError", "404", 1),
    ("unknown_operation_404", "ClientError", "UnknownOperationException", 1),
]


@pytest.mark.parametrize("expected", REFUSED, ids=lambda expected: expected[0])
def test_a_refusing_fault_gives_the_exception_code_and_attempts_that_real_answers_give(
    batch: RemoteBatch, client: Any, expected: tuple[str, str, str, int]
) -> None:
    kind, raised, code, attempts = expected
    batch.fault("DescribeJobs", kind=kind, times=None)
    with pytest.raises(ClientError) as caught:
        client.describe_jobs(jobs=["x"])
    assert type(caught.value) is getattr(client.exceptions, raised)
    assert (caught.value.response["Error"]["Code"], batch.counts()) == (code, {"DescribeJobs": attempts})


@pytest.mark.parametrize("kind", ["empty_200", "cut_200", "braces_200"])
def test_a_broken_success_raises_nothing_and_lacks_its_jobs(batch: RemoteBatch, client: Any, kind: str) -> None:
    batch.fault("DescribeJobs", kind=kind, times=None)
    assert "jobs" not in client.describe_jobs(jobs=["x"])
    assert batch.counts() == {"DescribeJobs": 1}


def test_a_reset_connection_is_tried_three_times(batch: RemoteBatch, client: Any) -> None:
    batch.fault("DescribeJobs", kind="reset", times=None)
    with pytest.raises(ConnectionClosedError):
        client.describe_jobs(jobs=["x"])
    assert batch.counts() == {"DescribeJobs": 3}


def test_a_throttled_call_succeeds_once_the_bucket_has_a_token_again(batch: RemoteBatch, client: Any) -> None:
    batch.limit(rate=0.001, burst=1)
    client.describe_jobs(jobs=["x"])
    with pytest.raises(ClientError, match="TooManyRequestsException"):
        client.describe_jobs(jobs=["x"])
    batch.advance(1000)
    assert client.describe_jobs(jobs=["x"])["jobs"] == []


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.describe_jobs(jobs=["x"] * 101),
        lambda client: client.describe_jobs(jobs=["ok", "two ids"]),
        lambda client: client.describe_jobs(jobs=[]),
        lambda client: client.terminate_job(jobId="", reason="r"),
        lambda client: client.terminate_job(jobId="x", reason="r" * 1025),
        lambda client: client.terminate_jobs(jobs=["x"] * 51, reason="r"),
    ],
)
def test_the_limits_of_batch_raise_a_client_exception(client: Any, call: Callable[[Any], Any]) -> None:
    with pytest.raises(client.exceptions.ClientException, match=r"Error executing request, Exception : .*RequestId: "):
        call(client)


def fault_command(url: str, *arguments: str) -> Result:
    """`awsbatch-operator sandbox ...` in a shell that has read the sandbox's `env`."""
    return CliRunner().invoke(sandbox, arguments, env={"AWS_ENDPOINT_URL_BATCH": url})


def test_fault_commands_hit_what_they_name_until_they_are_cleared(batch: RemoteBatch, client: Any) -> None:
    batch.deny("CancelJob", job_tag="team", principal_tag="team")
    assert "for account 123456789012" in fault_command(batch.url, "deny", "ListJobs", "--account=123456789012").stdout
    with pytest.raises(ClientError, match=r"AccessDeniedException.*batch:ListJobs"):
        client.list_jobs(jobQueue="default")
    fault_command(batch.url, "slow", "TerminateJob", "--seconds=0.3", "--times=1")
    began = time.monotonic()
    for _ in range(2):
        client.terminate_job(jobId="x", reason="r")
        assert 0.3 <= time.monotonic() - began < 0.6
    fault_command(batch.url, "throttle", "--rate=0.001")
    client.describe_jobs(jobs=["x"])
    with pytest.raises(ClientError, match="TooManyRequestsException"):
        client.describe_jobs(jobs=["x"])
    fault_command(batch.url, "slow", "--seconds=30")
    assert "any more" in fault_command(batch.url, "clear").stdout
    client.list_jobs(jobQueue="default")
    with pytest.raises(ClientError, match="AccessDeniedException"):
        client.cancel_job(jobId="x", reason="the denial by tag stands for the policy of a role, and stays")
    batch.clear_denials()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["deny", "TerminateJobs"], "TerminateJobs needs the permission TerminateJob: deny that"),
        (["slow", "DescribeJob", "--seconds=1"], "operation must be * or one of DescribeJobs, "),
        (["throttle", "--rate=0"], "is not in the range x>0"),
    ],
)
def test_a_fault_that_can_not_be_injected_is_refused(batch: RemoteBatch, arguments: list[str], text: str) -> None:
    result = fault_command(batch.url, *arguments)
    assert (result.exit_code != 0, text in result.stderr) == (True, True), result.stderr


def test_without_a_running_sandbox_the_fault_commands_name_the_remedy() -> None:
    assert "source .sandbox/env" in fault_command("", "clear").stderr
    assert "no sandbox answers at AWS_ENDPOINT_URL_BATCH=" in fault_command("http://127.0.0.1:1", "clear").stderr
