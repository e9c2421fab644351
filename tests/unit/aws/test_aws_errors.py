"""The error table: one row for each reply of real Batch, made into an exception by botocore's own parser."""

import json
from typing import Any

import botocore.session
import pytest
from botocore import exceptions as sdk
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError, create_parser

from awsbatch_operator.aws.errors import AWS_ERRORS, MOST_TEXT, fault_of, fault_of_code, lacks_operation
from awsbatch_operator.domain.errors import Fate, Fault

ROLE = "arn:aws:sts::123456789012:assumed-role/batch/botocore-session-"
REQUEST = "5f0c1a52-8d27-4f3c-9d0e-7d7c3a5f0001"
SHAPE = botocore.session.get_session().get_service_model("batch").shape_for("DescribeJobsResponse")


def reply(status: int, body: bytes | dict[str, Any], kind: str = "", operation: str = "DescribeJobs") -> ClientError:
    """The exception that boto3 raises for this reply."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"x-amzn-requestid": REQUEST} | ({"x-amzn-errortype": kind} if kind else {})
    parsed = create_parser("rest-json").parse(
        {"status_code": status, "headers": headers, "body": raw, "context": {}}, SHAPE
    )
    return ClientError(parsed, operation)


def said(text: str | None) -> dict[str, Any]:
    return {"message": text}


EARLIER, LATER = "20260101T000000Z", "20260101T001000Z"
HTML = b"<html><head><title>gateway</title></head><body><h1>gateway</h1></body></html>"
DENIED = "is not authorized to perform: batch:TerminateJob on resource: arn:aws:batch:eu-west-1:123456789012:job/a"
REPLIES: list[tuple[str, ClientError, Fault]] = [
    (
        "malformed id",
        reply(400, said(f"Error executing request, Exception : bad  id., RequestId: {REQUEST}"), "ClientException"),
        Fault(Fate.REJECTED, "Error executing request, Exception : bad id.", "ClientException"),
    ),
    (
        "permission told as ClientException",
        reply(400, said("User is not authorized to do this"), "ClientException"),
        Fault(Fate.DENIED, "User is not authorized to do this", "ClientException"),
    ),
    (
        "server",
        reply(500, said("Error executing request"), "ServerException"),
        Fault(Fate.UNAVAILABLE, "Error executing request", "ServerException"),
    ),
    (
        "authorizer, message null",
        reply(500, said(None), "AuthorizerConfigurationException"),
        Fault(Fate.UNAVAILABLE, "HTTP 500 Internal Server Error", "AuthorizerConfigurationException"),
    ),
    ("502 html", reply(502, HTML), Fault(Fate.UNAVAILABLE, "Bad Gateway", "502")),
    ("503 empty", reply(503, b""), Fault(Fate.UNAVAILABLE, "Service Unavailable", "503")),
    ("504 empty", reply(504, b""), Fault(Fate.UNAVAILABLE, "Gateway Timeout", "504")),
    (
        "429",
        reply(429, said("Too Many Requests"), "TooManyRequestsException"),
        Fault(Fate.THROTTLED, "Too Many Requests", "TooManyRequestsException"),
    ),
    (
        "throttling as 400",
        reply(400, said("Rate exceeded"), "ThrottlingException:http://internal.amazon.com/"),
        Fault(Fate.THROTTLED, "Rate exceeded", "ThrottlingException"),
    ),
    ("429 empty", reply(429, b""), Fault(Fate.THROTTLED, "HTTP 429 Too Many Requests", "429")),
    ("429 without type", reply(429, said("Limit Exceeded")), Fault(Fate.THROTTLED, "Limit Exceeded", "429")),
    (
        "denied",
        reply(403, said(f"User: {ROLE}1700000000 {DENIED}"), "AccessDeniedException"),
        Fault(
            Fate.DENIED,
            f"User: arn:aws:sts::123456789012:assumed-role/batch/botocore-session {DENIED}",
            "AccessDeniedException",
        ),
    ),
    (
        "expired",
        reply(403, said("The security token included in the request is expired"), "ExpiredTokenException"),
        Fault(Fate.CREDENTIALS, "The security token included in the request is expired", "ExpiredTokenException"),
    ),
    (
        "unknown key",
        reply(403, said("The security token included in the request is invalid."), "UnrecognizedClientException"),
        Fault(
            Fate.CREDENTIALS, "The security token included in the request is invalid.", "UnrecognizedClientException"
        ),
    ),
    (
        "clock",
        reply(403, said(f"Signature expired: {EARLIER} is now earlier than {LATER}"), "InvalidSignatureException"),
        Fault(Fate.CREDENTIALS, "Signature expired: … is now earlier than …", "InvalidSignatureException"),
    ),
    (
        "404 html",
        reply(404, HTML),
        Fault(
            Fate.CREDENTIALS,
            "HTTP 404 Not Found; check AWS_ENDPOINT_URL_BATCH and the region: this address is not AWS Batch's",
            "404",
        ),
    ),
]


@pytest.mark.parametrize(("error", "fault"), [row[1:] for row in REPLIES], ids=[row[0] for row in REPLIES])
def test_each_reply_of_batch_has_its_fate(error: ClientError, fault: Fault) -> None:
    assert fault_of(error) == fault


URL = "https://batch.eu-west-1.amazonaws.com/v1/describejobs"
WITHOUT_REPLY: list[tuple[Exception, Fate]] = [
    (sdk.EndpointConnectionError(endpoint_url=URL), Fate.UNAVAILABLE),
    (sdk.ConnectTimeoutError(endpoint_url=URL), Fate.UNAVAILABLE),
    (sdk.ReadTimeoutError(endpoint_url=URL), Fate.UNAVAILABLE),
    (sdk.ConnectionClosedError(endpoint_url=URL), Fate.UNAVAILABLE),
    (sdk.ProxyConnectionError(proxy_url="http://proxy"), Fate.UNAVAILABLE),
    (sdk.HTTPClientError(error=ConnectionResetError(104, "reset")), Fate.UNAVAILABLE),
    (sdk.SSLError(endpoint_url=URL, error=OSError("EOF occurred in violation of protocol")), Fate.UNAVAILABLE),
    (sdk.SSLError(endpoint_url=URL, error=OSError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed")), Fate.CREDENTIALS),
    (sdk.IncompleteReadError(actual_bytes=1, expected_bytes=2), Fate.UNAVAILABLE),
    (ResponseParserError("not JSON"), Fate.UNAVAILABLE),
    (sdk.ParamValidationError(report="Missing required parameter"), Fate.REJECTED),
    (sdk.NoCredentialsError(), Fate.CREDENTIALS),
    (sdk.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), Fate.CREDENTIALS),
    (sdk.CredentialRetrievalError(provider="container-role", error_msg="unreachable"), Fate.CREDENTIALS),
    (sdk.MetadataRetrievalError(error_msg="unreachable"), Fate.CREDENTIALS),
    (FileNotFoundError(2, "No such file", "/var/run/secrets/eks.amazonaws.com/token"), Fate.CREDENTIALS),
    (PermissionError(13, "Permission denied", "/var/run/secrets/token"), Fate.CREDENTIALS),
    (sdk.ProfileNotFound(profile="typo"), Fate.CREDENTIALS),
    (sdk.NoRegionError(), Fate.CREDENTIALS),
    (sdk.InvalidRegionError(region_name="eu west"), Fate.CREDENTIALS),
    (sdk.DataNotFoundError(data_path="batch"), Fate.CREDENTIALS),
    (sdk.InvalidEndpointConfigurationError(msg="Invalid endpoint: nonsense"), Fate.CREDENTIALS),
]


@pytest.mark.parametrize(("error", "fate"), WITHOUT_REPLY, ids=[type(row[0]).__name__ for row in WITHOUT_REPLY])
def test_what_fails_without_a_reply_has_its_fate_and_names_its_kind(error: Exception, fate: Fate) -> None:
    assert isinstance(error, AWS_ERRORS)
    fault = fault_of(error)
    assert (fault.fate, fault.code) == (fate, type(error).__name__)
    assert fault.message


def test_missing_credentials_come_with_the_remedy() -> None:
    assert "IRSA" in fault_of(sdk.NoCredentialsError()).message


@pytest.mark.parametrize(
    ("code", "status", "fate"),
    [
        ("AccessDenied", 403, Fate.CREDENTIALS),
        ("InvalidIdentityToken", 400, Fate.CREDENTIALS),
        ("ValidationError", 400, Fate.CREDENTIALS),
        ("Throttling", 400, Fate.THROTTLED),
        ("IDPCommunicationError", 400, Fate.UNAVAILABLE),
        ("InternalFailure", 500, Fate.UNAVAILABLE),
    ],
)
def test_a_refusal_on_the_way_to_credentials_is_about_credentials(code: str, status: int, fate: Fate) -> None:
    fault = fault_of(reply(status, said("no"), code, operation="AssumeRoleWithWebIdentity"))
    assert (fault.fate, fault.code) == (fate, code)
    assert ("AssumeRoleWithWebIdentity" in fault.message) is (fate is Fate.CREDENTIALS)


@pytest.mark.parametrize(
    ("code", "fate"),
    [
        ("ValidationException", Fate.REJECTED),
        ("ClientException", Fate.REJECTED),
        ("ThrottlingException", Fate.THROTTLED),
        ("ServerException", Fate.UNAVAILABLE),
        ("AccessDenied", Fate.DENIED),
        ("SomethingNew", Fate.UNAVAILABLE),
        ("", Fate.UNAVAILABLE),
    ],
)
def test_the_codes_of_a_bulk_answer_have_their_fates(code: str, fate: Fate) -> None:
    assert fault_of_code(code, 0, "words").fate is fate


@pytest.mark.parametrize("status", [301, 100, 0, 999])
def test_a_reply_that_no_rule_knows_may_pass(status: int) -> None:
    assert fault_of_code(str(status), status, "").fate is Fate.UNAVAILABLE


@pytest.mark.parametrize(
    "text",
    [
        "no, RequestId: {}",
        "no (Request ID: {})",
        "no; request_id={}",
        "no Encoded authorization failure message: {}",
        "no at 2026-11-23T22:43:0{}",
        "no at 0x7f{}",
    ],
)
def test_equal_faults_of_two_calls_are_equal(text: str) -> None:
    ids = (REQUEST, "9d0e7d7c-1111-4f3c-8d27-5f0c1a52abcd")
    suffixes = ids if "Re" in text or "req" in text or "Encoded" in text else ("1", "2")
    first, second = (fault_of_code("ClientException", 400, text.format(each)) for each in suffixes)
    assert first == second
    assert first.message.startswith("no")


def test_job_ids_and_resources_stay_in_the_message() -> None:
    text = f"not allowed on arn:aws:batch:eu-west-1:123456789012:job/{REQUEST}"
    assert fault_of_code("ClientException", 400, text).message == text


def test_a_quoted_request_with_its_session_token_never_gets_into_a_message() -> None:
    text = (
        "The request signature we calculated does not match.\n\n"
        "The Canonical String for this request should have been\n"
        "'POST\n/v1/terminatejob\n\nx-amz-security-token:IQoJsecret\n\nhost'"
    )
    fault = fault_of_code("InvalidSignatureException", 403, text)
    assert fault.message == "The request signature we calculated does not match."
    assert "secret" not in fault_of_code("X", 400, "X-Amz-Security-Token=IQoJsecret; rest").message


def test_a_message_is_one_line_of_bounded_length() -> None:
    message = fault_of_code("ClientException", 400, "words \n" * 5000).message
    assert len(message) == MOST_TEXT
    assert "\n" not in message


@pytest.mark.parametrize("response", [{}, {"Error": {"Message": 5, "Code": None}}, {"ResponseMetadata": {}}])
def test_an_error_without_its_parts_is_a_fault_all_the_same(response: Any) -> None:
    assert fault_of(ClientError({"Error": {}} | response, "DescribeJobs")).fate is Fate.UNAVAILABLE


@pytest.mark.parametrize("code", ["404", "405", "UnknownOperationException", "MissingAuthenticationTokenException"])
def test_codes_that_say_that_there_is_no_such_operation(code: str) -> None:
    assert lacks_operation(fault_of_code(code, 404, ""))
    assert not lacks_operation(fault_of_code("ClientException", 400, ""))
