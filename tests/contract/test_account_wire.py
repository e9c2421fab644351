"""Accounts, regions and roles of the sandbox with real boto3 over HTTP: Batch and STS in one process."""

import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialProvider,
    CredentialResolver,
    Credentials,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import ClientError

from awsbatch_operator.api.errors import ErrorClass
from awsbatch_operator.aws.errors import classify_error
from awsbatch_sandbox.batch.remote import RemoteBatch
from awsbatch_sandbox.sts.remote import RemoteSts
from contract.servers import simulated_batch

HERE, THERE = "eu-west-1", "us-east-1"
OURS, THEIRS = "123456789012", "222222222222"
ROLE = f"arn:aws:iam::{THEIRS}:role/teams/batch-team-a"
EXTERNAL_ID = "awsbatch-operator/prod/team-a"
TAGS = {"kubernetes-namespace": "team-a", "kubernetes-cluster": "prod"}
SANDBOX = Credentials("sandbox", "sandbox")
ONE_ATTEMPT = Config(retries={"mode": "standard", "total_max_attempts": 1}, read_timeout=5)


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """URLs of the simulated AWS Batch and STS."""
    directory = tmp_path_factory.mktemp("accounts")
    sts = directory / "sts"
    with simulated_batch(directory, f"--sts-announce={sts}") as url:
        yield url, sts.read_text("utf-8").strip()


@pytest.fixture
def batch(urls: tuple[str, str]) -> Iterator[RemoteBatch]:
    with RemoteBatch(urls[0]) as remote:
        before = remote.settings()
        yield remote
        remote.settings(**before)
        remote.clear_faults()
        remote.clear_denials()
        remote.clear_calls()
        remote.limit(None)
        for job in remote.jobs():
            remote.forget(job["job_id"], account=job["account"], region=job["region"])


@pytest.fixture
def sts(urls: tuple[str, str]) -> Iterator[RemoteSts]:
    with RemoteSts(urls[1]) as remote:
        remote.clear_calls()
        yield remote
        remote.clear_trust()


class Given(CredentialProvider):
    """Credentials by hand, whatever the environment has."""

    METHOD = "given"

    def __init__(self, credentials: Credentials) -> None:
        super().__init__()
        self._credentials = credentials

    def load(self) -> Credentials:
        return self._credentials


class Clients:
    """boto3 clients, closed together. They share what botocore reads of its models, which takes long."""

    def __init__(self, batch_url: str, sts_url: str) -> None:
        self._urls = {"batch": batch_url, "sts": sts_url}
        self._made: list[Any] = []

    def of(self, service: str, credentials: Credentials = SANDBOX, region: str = HERE) -> Any:
        session = botocore.session.Session()
        session.register_component("data_loader", models())
        session.register_component("credential_provider", CredentialResolver([Given(credentials)]))
        made = boto3.session.Session(botocore_session=session).client(  # type: ignore[call-overload]
            service, region_name=region, endpoint_url=self._urls[service], config=ONE_ATTEMPT
        )
        self._made.append(made)
        return made

    def close(self) -> None:
        for made in self._made:
            made.close()


@cache
def models() -> Any:
    return botocore.session.Session().get_component("data_loader")


@pytest.fixture
def clients(urls: tuple[str, str]) -> Iterator[Clients]:
    made = Clients(*urls)
    yield made
    made.close()


def assume(clients: Clients, role: str = ROLE, **parameters: Any) -> Credentials:
    answer = clients.of("sts").assume_role(RoleArn=role, RoleSessionName="awsbatch-operator", **parameters)
    given = answer["Credentials"]
    return Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])


def refused(call: Callable[..., Any], **parameters: Any) -> tuple[str, int, str]:
    """Code and HTTP status of the refusal, and the class that the operator's own table gives it."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    response: Any = caught.value.response
    return (
        response["Error"]["Code"],
        response["ResponseMetadata"]["HTTPStatusCode"],
        classify_error(caught.value).error_class.value,
    )


NO_CREDENTIALS = ErrorClass.CREDENTIALS.value


def test_the_right_secret_is_accepted_and_a_wrong_one_rejected(batch: RemoteBatch, clients: Clients) -> None:
    batch.settings(accounts={"AKIAOTHER": THEIRS}, secrets={"AKIAOTHER": "hunter2"})
    right = clients.of("batch", Credentials("AKIAOTHER", "hunter2"))
    wrong = clients.of("batch", Credentials("AKIAOTHER", "hunter3"))
    assert right.describe_jobs(jobs=["x"])["jobs"] == []
    assert refused(wrong.describe_jobs, jobs=["x"]) == ("InvalidSignatureException", 403, NO_CREDENTIALS)
    granted, denied = batch.calls()
    assert (granted["account"], denied["account"], denied["access_key"]) == (THEIRS, "", "AKIAOTHER")


def other_body(request: Any) -> None:
    request.body = request.body.replace(b"mine", b"your")


def other_path(request: Any) -> None:
    request.url = request.url.replace("terminatejob", "canceljob")


def other_second(request: Any) -> None:
    signed_at = request.headers["X-Amz-Date"]
    second = b"00" if signed_at[13:15] != b"00" else b"01"
    request.headers["X-Amz-Date"] = signed_at[:13] + second + signed_at[15:]


def other_region(request: Any) -> None:
    authorization = request.headers["Authorization"]
    request.headers["Authorization"] = authorization.replace(HERE.encode(), THERE.encode())


@pytest.mark.parametrize("change", [other_body, other_path, other_second, other_region])
def test_a_request_that_was_changed_after_signing_is_rejected(
    batch: RemoteBatch, clients: Clients, change: Callable[[Any], None]
) -> None:
    client = clients.of("batch")

    def tamper(request: Any, **_: Any) -> None:
        change(request)

    client.meta.events.register("before-send.batch", tamper)
    batch.seed(job_id="mine")
    assert refused(client.terminate_job, jobId="mine", reason="r")[:2] == ("InvalidSignatureException", 403)
    assert batch.job("mine")["is_terminated"] is False


@pytest.mark.parametrize("access_key", ["AKIASTRAY", "ASIASTRAY"])
def test_an_unknown_key_is_refused(batch: RemoteBatch, clients: Clients, access_key: str) -> None:
    batch.settings(unlisted_keys=False)
    client = clients.of("batch", Credentials(access_key, "sandbox"))
    assert refused(client.describe_jobs, jobs=["x"]) == ("UnrecognizedClientException", 403, NO_CREDENTIALS)


@pytest.mark.parametrize("seconds", [-301, 301])
def test_a_wrong_clock_is_rejected(batch: RemoteBatch, clients: Clients, seconds: int) -> None:
    batch.settings(clock_ahead=seconds)
    assert refused(clients.of("batch").describe_jobs, jobs=["x"]) == ("InvalidSignatureException", 403, NO_CREDENTIALS)
    batch.settings(clock_ahead=seconds - seconds // 10)
    assert clients.of("batch").describe_jobs(jobs=["x"])["jobs"] == []


def test_an_unknown_region_is_rejected(batch: RemoteBatch, clients: Clients) -> None:
    batch.settings(regions=[HERE])
    assert refused(clients.of("batch", region=THERE).describe_jobs, jobs=["x"])[0] == "InvalidSignatureException"


def test_one_id_in_two_accounts_and_two_regions_is_four_jobs(batch: RemoteBatch, clients: Clients) -> None:
    theirs = assume(clients)
    places = [(account, region) for account in (OURS, THEIRS) for region in (HERE, THERE)]
    for account, region in places:
        batch.seed(job_id="same", name=f"{account}-{region}", account=account, region=region, grace=0)
    for account, region in places:
        client = clients.of("batch", SANDBOX if account == OURS else theirs, region)
        (shown,) = client.describe_jobs(jobs=["same"])["jobs"]
        assert (shown["jobName"], shown["jobArn"]) == (
            f"{account}-{region}",
            f"arn:aws:batch:{region}:{account}:job/same",
        )
    clients.of("batch", theirs, THERE).terminate_job(jobId="same", reason="theirs, there")
    ended = [(one["account"], one["region"]) for one in batch.jobs() if one["is_terminated"]]
    assert ended == [(THEIRS, THERE)]
    assert [one["name"] for one in batch.jobs(account=THEIRS, region=THERE)] == [f"{THEIRS}-{THERE}"]
    assert batch.accounts() == [OURS, THEIRS]


def test_tags_are_set_on_the_job_of_ones_own_account(batch: RemoteBatch, clients: Clients) -> None:
    theirs = clients.of("batch", assume(clients))
    arn = theirs.submit_job(jobName="a", jobQueue="default", jobDefinition="c")["jobArn"]
    assert arn.startswith(f"arn:aws:batch:{HERE}:{THEIRS}:job/")
    # Its ARN stands in the path, where it is quoted twice before it is signed.
    theirs.tag_resource(resourceArn=arn, tags={"team": "a", "colour": "red"})
    theirs.untag_resource(resourceArn=arn, tagKeys=["colour", "size"])
    assert theirs.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "a"}
    assert refused(clients.of("batch").tag_resource, resourceArn=arn, tags={"team": "b"})[:2] == (
        "ClientException",
        400,
    )


def test_a_role_gives_access_to_its_account_and_is_recorded(
    batch: RemoteBatch, sts: RemoteSts, clients: Clients
) -> None:
    pairs = [{"Key": key, "Value": value} for key, value in TAGS.items()]
    credentials = assume(clients, ExternalId=EXTERNAL_ID, Tags=pairs, TransitiveTagKeys=["kubernetes-cluster"])
    (requested,) = sts.calls("AssumeRole")
    assert (requested["role"], requested["role_session"], requested["external_id"]) == (
        ROLE,
        "awsbatch-operator",
        EXTERNAL_ID,
    )
    assert (requested["tags"], requested["transitive_tag_keys"]) == (TAGS, ["kubernetes-cluster"])
    assert (requested["account"], requested["issued"], requested["error"]) == (OURS, credentials.access_key, None)
    assert requested["expires_at"] == pytest.approx(time.time() + 3600, abs=30)
    identity = clients.of("sts", credentials).get_caller_identity()
    assert identity["Account"] == THEIRS
    assert identity["Arn"] == f"arn:aws:sts::{THEIRS}:assumed-role/batch-team-a/awsbatch-operator"
    job_id = batch.seed(account=THEIRS)
    clients.of("batch", credentials).terminate_job(jobId=job_id, reason="INC-4711")
    (request,) = batch.terminate_requests(account=THEIRS)
    assert (request["role"], request["role_session"], request["reason"]) == (ROLE, "awsbatch-operator", "INC-4711")
    assert clients.of("batch").describe_jobs(jobs=[job_id])["jobs"] == []


def test_a_session_tag_decides_which_job_may_be_terminated(batch: RemoteBatch, clients: Clients) -> None:
    batch.deny("TerminateJob", account=THEIRS, job_tag="k8s-namespace", principal_tag="kubernetes-namespace")
    ours, other = (batch.seed(account=THEIRS, tags={"k8s-namespace": name}) for name in ("team-a", "team-b"))
    tagged = clients.of("batch", assume(clients, Tags=[{"Key": "kubernetes-namespace", "Value": "team-a"}]))
    assert tagged.describe_jobs(jobs=[other])["jobs"] != []
    answer = tagged.terminate_jobs(jobs=[ours, other], reason="r")
    assert (answer["successful"], [one["code"] for one in answer["errors"]]) == ([ours], ["AccessDenied"])
    denied = ("AccessDeniedException", 403, ErrorClass.DENIED.value)
    assert refused(tagged.terminate_job, jobId=other, reason="r") == denied
    assert refused(clients.of("batch", assume(clients)).terminate_job, jobId=ours, reason="r") == denied
    free = batch.seed()
    clients.of("batch").terminate_job(jobId=free, reason="our account has no such rule")


def test_one_role_can_be_denied_alone(batch: RemoteBatch, clients: Clients) -> None:
    batch.deny("DescribeJobs", role=ROLE)
    another = assume(clients, f"arn:aws:iam::{THEIRS}:role/another")
    assert clients.of("batch", another).describe_jobs(jobs=["x"])["jobs"] == []
    assert refused(clients.of("batch", assume(clients)).describe_jobs, jobs=["x"])[0] == "AccessDeniedException"


def test_credentials_expire_at_the_time_that_sts_states(batch: RemoteBatch, sts: RemoteSts, clients: Clients) -> None:
    credentials = assume(clients)
    client = clients.of("batch", credentials)
    assert client.describe_jobs(jobs=["x"])["jobs"] == []
    assert sts.expire(ROLE) >= 1
    assert refused(client.describe_jobs, jobs=["x"]) == ("ExpiredTokenException", 403, NO_CREDENTIALS)
    assert refused(clients.of("sts", credentials).get_caller_identity) == ("ExpiredToken", 403, NO_CREDENTIALS)


def test_a_rejected_signature_does_not_reveal_its_token(clients: Clients) -> None:
    given = assume(clients)
    client = clients.of("batch", Credentials(given.access_key, "wrong", given.token))
    with pytest.raises(ClientError) as caught:
        client.describe_jobs(jobs=["x"])
    assert f"x-amz-security-token:{given.token}" in caught.value.response["Error"]["Message"]
    assert classify_error(caught.value).message.endswith("Consult the service documentation for details.")


@pytest.mark.parametrize("token", [None, "another"])
def test_a_token_belongs_to_its_key(clients: Clients, token: str | None) -> None:
    given = assume(clients)
    client = clients.of("batch", Credentials(given.access_key, given.secret_key, token))
    assert refused(client.describe_jobs, jobs=["x"])[0] == "UnrecognizedClientException"


def test_a_throttled_account_does_not_use_the_budget_of_others(batch: RemoteBatch, clients: Clients) -> None:
    batch.limit(0.001, 1, account=THEIRS)
    theirs = clients.of("batch", assume(clients))
    assert theirs.describe_jobs(jobs=["x"])["jobs"] == []
    assert refused(theirs.describe_jobs, jobs=["x"]) == ("TooManyRequestsException", 429, ErrorClass.THROTTLED.value)
    for _ in range(5):
        assert clients.of("batch").describe_jobs(jobs=["x"])["jobs"] == []


REFUSALS: list[tuple[dict[str, Any], dict[str, Any], tuple[str, int, str]]] = [
    ({"external_id": EXTERNAL_ID}, {"ExternalId": "another"}, ("AccessDenied", 403, NO_CREDENTIALS)),
    ({"external_id": EXTERNAL_ID}, {}, ("AccessDenied", 403, NO_CREDENTIALS)),
    ({"refuses": "AccessDenied"}, {}, ("AccessDenied", 403, NO_CREDENTIALS)),
    ({"refuses": "RegionDisabledException"}, {}, ("RegionDisabledException", 403, NO_CREDENTIALS)),
    ({"refuses": "PackedPolicyTooLarge"}, {}, ("PackedPolicyTooLarge", 400, NO_CREDENTIALS)),
    ({"refuses": "Throttling"}, {}, ("Throttling", 400, ErrorClass.THROTTLED.value)),
    ({"refuses": "InternalFailure"}, {}, ("InternalFailure", 500, ErrorClass.UNAVAILABLE.value)),
    ({"refuses": "ServiceUnavailable"}, {}, ("ServiceUnavailable", 503, ErrorClass.UNAVAILABLE.value)),
    ({}, {"DurationSeconds": 7200}, ("ValidationError", 400, NO_CREDENTIALS)),
    ({}, {"ExternalId": "no blanks"}, ("ValidationError", 400, NO_CREDENTIALS)),
]


@pytest.mark.parametrize(("terms", "parameters", "expected"), REFUSALS)
def test_a_refusing_role_has_its_error_class(
    sts: RemoteSts, clients: Clients, terms: dict[str, Any], parameters: dict[str, Any], expected: tuple[str, int, str]
) -> None:
    sts.trust(ROLE, **terms)
    assert refused(lambda: assume(clients, **parameters)) == expected
    assert sts.calls()[-1]["error"] == expected[0]
    assert assume(clients, f"arn:aws:iam::{THEIRS}:role/another").token


def test_a_slow_role_answers_late(sts: RemoteSts, clients: Clients) -> None:
    sts.trust(ROLE, latency=0.3)
    began = time.monotonic()
    assume(clients)
    assert time.monotonic() - began >= 0.3


def test_boto3_finds_sts_by_its_variable_and_renews_expiring_credentials(
    batch: RemoteBatch, sts: RemoteSts, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
    made: list[Any] = []

    def client(service: str, **options: Any) -> Any:
        made.append(boto3.client(service, region_name=HERE, **options))  # type: ignore[call-overload]
        return made[-1]

    extra = {"ExternalId": EXTERNAL_ID, "Tags": [{"Key": "kubernetes-namespace", "Value": "team-a"}]}
    fetcher = AssumeRoleCredentialFetcher(client, SANDBOX, ROLE, extra_args=extra)
    renewing = DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
    try:
        theirs = clients.of("batch", renewing)
        # botocore renews what has less than ten minutes to live.
        sts.trust(ROLE, lifetime=599)
        theirs.describe_jobs(jobs=["x"])
        sts.trust(ROLE, lifetime=3600)
        for _ in range(3):
            theirs.describe_jobs(jobs=["x"])
    finally:
        for one in made:
            one.close()
    first, second = sts.calls("AssumeRole")
    assert first["external_id"] == second["external_id"] == EXTERNAL_ID
    used = [call["access_key"] for call in batch.calls(account=THEIRS)]
    assert used == [first["issued"], *[second["issued"]] * 3]
