"""The simulated AWS Batch verifies every signature, and rejects wrong ones with the messages of AWS."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from awsbatch_sandbox.batch.credentials import Credential
from awsbatch_sandbox.batch.replies import Reply
from awsbatch_sandbox.batch.signature import SignedRequest
from awsbatch_sandbox.batch.simulator import BatchSimulator
from unit.sandbox.batch_wire_calls import START, frozen, signed

PATH = "/v1/describejobs"
ROLE = "arn:aws:iam::222222222222:role/teams/batch-team-a"
TEMPORARY = Credential(
    access_key="ASIATEAMA",
    secret="hunter2",
    account="222222222222",
    token="token-a",
    role=ROLE,
    role_session="awsbatch-operator",
    expires_at=START + 900,
)
SIGNER = {"access_key": "ASIATEAMA", "secret": "hunter2", "token": "token-a"}
Tamper = Callable[[SignedRequest], SignedRequest]


@pytest.fixture
def batch() -> BatchSimulator:
    return frozen(unlisted_keys=False)


def request(**signer: Any) -> SignedRequest:
    call = signed(PATH, {"jobs": ["x"]}, **signer)
    return SignedRequest("POST", PATH, call["headers"], call["data"])


def answer(batch: BatchSimulator, requested: SignedRequest) -> Reply:
    return batch.frontend.perform(batch.frontend.receive("DescribeJobs", requested))


def refusal(batch: BatchSimulator, requested: SignedRequest) -> tuple[int, str | None, str]:
    reply = answer(batch, requested)
    return reply.status, reply.error_type, reply.body.decode()


def header(name: str, value: str | None) -> Tamper:
    """Set it after the request was signed, or take it away."""

    def tamper(requested: SignedRequest) -> SignedRequest:
        others = {key: old for key, old in requested.headers.items() if key != name}
        return replace(requested, headers=others if value is None else others | {name: value})

    return tamper


def authorization(pattern: str, instead: str) -> Tamper:
    def tamper(requested: SignedRequest) -> SignedRequest:
        changed, times = re.subn(pattern, instead, requested.headers["authorization"])
        assert times == 1
        return header("authorization", changed)(requested)

    return tamper


def test_a_signed_call_is_accepted_and_its_caller_is_known(batch: BatchSimulator) -> None:
    assert answer(batch, request(region="us-east-1")).status == 200
    (call,) = batch.calls()
    assert (call["account"], call["region"], call["access_key"]) == ("123456789012", "us-east-1", "sandbox")


TAMPERED: dict[str, tuple[Tamper, str, str]] = {
    "another body": (
        lambda requested: replace(requested, body=b'{"jobs":["y"]}'),
        "InvalidSignatureException",
        "The request signature we calculated does not match",
    ),
    "another path": (
        lambda requested: replace(requested, target="/v1/terminatejob"),
        "InvalidSignatureException",
        "does not match",
    ),
    "a query": (
        lambda requested: replace(requested, target=f"{PATH}?a=b"),
        "InvalidSignatureException",
        "does not match",
    ),
    "another method": (
        lambda requested: replace(requested, method="GET"),
        "InvalidSignatureException",
        "does not match",
    ),
    "another host": (header("host", "elsewhere"), "InvalidSignatureException", "does not match"),
    "another minute": (header("x-amz-date", "20231114T221400Z"), "InvalidSignatureException", "does not match"),
    "another region": (authorization("eu-west-1", "us-east-1"), "InvalidSignatureException", "does not match"),
    "one digit of the signature": (
        authorization("Signature=.", "Signature=x"),
        "InvalidSignatureException",
        "does not match",
    ),
    "another service": (
        authorization("/batch/", "/sqs/"),
        "InvalidSignatureException",
        "Credential should be scoped to correct service: 'batch'.",
    ),
    "another terminator": (
        authorization("aws4_request", "aws5_request"),
        "InvalidSignatureException",
        "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5_request'.",
    ),
    "another day": (
        authorization("/20231114/", "/20231115/"),
        "InvalidSignatureException",
        "'20231115' != '20231114', from '20231114T221320Z'.",
    ),
    "a token that was not signed": (
        header("x-amz-security-token", "t"),
        "InvalidSignatureException",
        "'X-Amz-Security-Token' must be a 'SignedHeader' in the AWS Authorization.",
    ),
    "the host not signed": (
        authorization("SignedHeaders=host;", "SignedHeaders="),
        "InvalidSignatureException",
        "'Host' must be a 'SignedHeader'",
    ),
    "a signed header that did not come": (
        authorization("SignedHeaders=host;", "SignedHeaders=accept;host;"),
        "InvalidSignatureException",
        "did not come: accept",
    ),
    "a date that is none": (header("x-amz-date", "20231114"), "IncompleteSignatureException", "ISO-8601"),
    "no date": (header("x-amz-date", None), "IncompleteSignatureException", "existence of either a 'X-Amz-Date'"),
    "no signature": (
        authorization(", Signature=.*", ""),
        "IncompleteSignatureException",
        "Authorization header requires 'Signature' parameter.",
    ),
    "no signed headers": (authorization("SignedHeaders=[^,]*,", ""), "IncompleteSignatureException", "'SignedHeaders'"),
    "a credential that is cut": (
        authorization("/aws4_request", ""),
        "IncompleteSignatureException",
        "Credential must have exactly 5 slash-delimited elements",
    ),
    "a bearer token": (
        header("authorization", "Bearer eyJ"),
        "IncompleteSignatureException",
        "Authorization header requires 'Credential' parameter.",
    ),
    "no authorization": (
        header("authorization", None),
        "MissingAuthenticationTokenException",
        "Missing Authentication Token",
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_request_changed_after_signing_is_rejected(batch: BatchSimulator, what: str) -> None:
    tamper, code, words = TAMPERED[what]
    status, error, body = refusal(batch, tamper(request()))
    assert (status, error) == (403, code)
    assert words in body


def test_every_header_that_a_client_chose_to_sign_is_covered(batch: BatchSimulator) -> None:
    call = signed(PATH, {"jobs": ["x"]}, headers={"user-agent": "boto3", "accept": "a,  b"})
    requested = SignedRequest("POST", PATH, call["headers"], call["data"])
    assert answer(batch, requested).status == 200
    assert answer(batch, header("accept", "a, b")(requested)).status == 200, "blanks in a row count as one"
    for name in ("user-agent", "accept"):
        assert refusal(batch, header(name, "another")(requested))[:2] == (403, "InvalidSignatureException")


def test_a_hash_header_of_another_body_is_rejected(batch: BatchSimulator) -> None:
    digest = "0" * 64
    headers = {"host": "batch.test", "x-amz-content-sha256": digest}
    call = signed(PATH, {"jobs": ["x"]}, headers=headers)
    requested = SignedRequest("POST", PATH, call["headers"], call["data"])
    assert refusal(batch, requested)[:2] == (403, "InvalidSignatureException")


def test_a_wrong_secret_is_refused_and_the_refusal_shows_what_was_to_be_signed(batch: BatchSimulator) -> None:
    batch.credentials.issue(TEMPORARY)
    status, error, body = refusal(batch, request(**SIGNER | {"secret": "hunter3"}))
    assert (status, error) == (403, "InvalidSignatureException")
    assert "The Canonical String for this request should have been\\n'POST\\n/v1/describejobs\\n" in body
    # As AWS does: a caller that shows this text to users must cut it.
    assert "x-amz-security-token:token-a" in body


def test_a_secret_is_that_of_its_key(batch: BatchSimulator) -> None:
    batch.settings(accounts={"AKIAOTHER": "222222222222"}, secrets={"AKIAOTHER": "hunter2"})
    assert refusal(batch, request(access_key="AKIAOTHER"))[1] == "InvalidSignatureException"
    assert answer(batch, request(access_key="AKIAOTHER", secret="hunter2")).status == 200
    assert batch.calls()[-1]["account"] == "222222222222"


def test_an_unknown_key_is_rejected_unless_unlisted_keys_are_accepted(batch: BatchSimulator) -> None:
    unknown = (
        403,
        "UnrecognizedClientException",
        '{"message":"The security token included in the request is invalid."}',
    )
    assert refusal(batch, request(access_key="AKIASTRAY")) == unknown
    batch.settings(unlisted_keys=True)
    assert answer(batch, request(access_key="AKIASTRAY")).status == 200
    assert refusal(batch, request(access_key="ASIASTRAY")) == unknown


def test_an_unknown_region_is_rejected(batch: BatchSimulator) -> None:
    batch.settings(regions=["eu-west-1"])
    assert answer(batch, request()).status == 200
    status, error, body = refusal(batch, request(region="mars-north-1"))
    assert (status, error) == (403, "InvalidSignatureException")
    assert "Credential should be scoped to a valid region, not 'mars-north-1'." in body


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        (-300, None),
        (-301, "Signature expired: 20231114T220819Z is now earlier than 20231114T220820Z (20231114T221320Z - 5 min.)"),
        (300, None),
        (301, "Signature not yet current: 20231114T221821Z is still later than 20231114T221820Z"),
    ],
)
def test_a_clock_may_be_off_by_five_minutes(batch: BatchSimulator, seconds: int, message: str | None) -> None:
    requested = request(at=START + seconds)
    if message is None:
        assert answer(batch, requested).status == 200
    else:
        status, error, body = refusal(batch, requested)
        assert (status, error) == (403, "InvalidSignatureException")
        assert message in body


def test_the_clock_of_aws_can_be_set_ahead(batch: BatchSimulator) -> None:
    batch.settings(clock_ahead=600)
    assert refusal(batch, request())[1] == "InvalidSignatureException"
    assert answer(batch, request(at=START + 600)).status == 200


def test_moving_the_jobs_time_ages_no_signature(batch: BatchSimulator) -> None:
    batch.advance(3600)
    assert answer(batch, request()).status == 200


def test_temporary_credentials_are_good_for_their_account_until_they_expire(batch: BatchSimulator) -> None:
    batch.credentials.issue(TEMPORARY)
    assert answer(batch, request(**SIGNER)).status == 200
    (call,) = batch.calls()
    assert (call["account"], call["role"], call["role_session"]) == ("222222222222", ROLE, "awsbatch-operator")
    batch.settings(clock_ahead=900)
    status, error, body = refusal(batch, request(at=START + 900, **SIGNER))
    assert (status, error) == (403, "ExpiredTokenException")
    assert "The security token included in the request is expired" in body


@pytest.mark.parametrize(
    "signer",
    [SIGNER | {"token": None}, SIGNER | {"token": "token-b"}, {"token": "token-a"}],
    ids=["none", "other", "new"],
)
def test_a_token_belongs_to_its_key(batch: BatchSimulator, signer: dict[str, str]) -> None:
    batch.credentials.issue(TEMPORARY)
    assert refusal(batch, request(**signer))[:2] == (403, "UnrecognizedClientException")


def test_the_sessions_of_a_role_can_be_ended_early(batch: BatchSimulator) -> None:
    batch.credentials.issue(TEMPORARY)
    assert batch.credentials.expire("arn:aws:iam::222222222222:role/another", START) == 0
    assert answer(batch, request(**SIGNER)).status == 200
    assert batch.credentials.expire(ROLE, START) == 1
    assert refusal(batch, request(**SIGNER))[1] == "ExpiredTokenException"


def test_an_unauthenticated_call_is_recorded_without_an_account_and_costs_none(batch: BatchSimulator) -> None:
    batch.limit(rate=1, burst=1)
    batch.fault(kind="server_500")
    assert answer(batch, request(secret="wrong")).status == 403
    assert answer(batch, request()).status == 500
    refused, granted = batch.calls()
    assert (refused["account"], refused["region"], refused["access_key"]) == ("", "eu-west-1", "sandbox")
    assert (refused["http_status"], refused["error"], refused["fault"]) == (403, "InvalidSignatureException", None)
    assert granted["fault"] == "server_500"
