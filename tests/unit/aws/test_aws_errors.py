"""The error table: one row for each reply of real Batch, made into an exception by botocore's own parser."""

import json
from typing import Any

import botocore.session
import pytest
from botocore import exceptions as sdk
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError, create_parser

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.aws.errors import AWS_ERRORS, MAX_TEXT, classify_code, classify_error, lacks_operation

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
REPLIES: list[tuple[str, ClientError, CallError]] = [
    (
        "malformed id",
        reply(400, said(f"Error executing request, Exception : bad  id., RequestId: {REQUEST}"), "ClientException"),
        CallError(ErrorClass.REJECTED, "Error executing request, Exception : bad id.", "ClientException"),
    ),
    (
        "permission error as ClientException",
        reply(400, said("User is not authorized to do this"), "ClientException"),
        CallError(ErrorClass.DENIED, "User is not authorized to do this", "ClientException"),
    ),
    (
        "server",
        reply(500, said("Error executing request"), "ServerException"),
        CallError(ErrorClass.UNAVAILABLE, "Error executing request", "ServerException"),
    ),
    (
        "authorizer, message null",
        reply(500, said(None), "AuthorizerConfigurationException"),
        CallError(ErrorClass.UNAVAILABLE, "HTTP 500 Internal Server Error", "AuthorizerConfigurationException"),
    ),
    ("502 html", reply(502, HTML), CallError(ErrorClass.UNAVAILABLE, "Bad Gateway", "502")),
    ("503 empty", reply(503, b""), CallError(ErrorClass.UNAVAILABLE, "Service Unavailable", "503")),
    ("504 empty", reply(504, b""), CallError(ErrorClass.UNAVAILABLE, "Gateway Timeout", "504")),
    (
        "429",
        reply(429, said("Too Many Requests"), "TooManyRequestsException"),
        CallError(ErrorClass.THROTTLED, "Too Many Requests", "TooManyRequestsException"),
    ),
    (
        "throttling as 400",
        reply(400, said("Rate exceeded"), "ThrottlingException:http://internal.amazon.com/"),
        CallError(ErrorClass.THROTTLED, "Rate exceeded", "ThrottlingException"),
    ),
    ("429 empty", reply(429, b""), CallError(ErrorClass.THROTTLED, "HTTP 429 Too Many Requests", "429")),
    ("429 without type", reply(429, said("Limit Exceeded")), CallError(ErrorClass.THROTTLED, "Limit Exceeded", "429")),
    (
        "denied",
        reply(403, said(f"User: {ROLE}1700000000 {DENIED}"), "AccessDeniedException"),
        CallError(
            ErrorClass.DENIED,
            f"User: arn:aws:sts::123456789012:assumed-role/batch/botocore-session {DENIED}",
            "AccessDeniedException",
        ),
    ),
    (
        "expired",
        reply(403, said("The security token included in the request is expired"), "ExpiredTokenException"),
        CallError(
            ErrorClass.CREDENTIALS, "The security token included in the request is expired", "ExpiredTokenException"
        ),
    ),
    (
        "unknown key",
        reply(403, said("The security token included in the request is invalid."), "UnrecognizedClientException"),
        CallError(
            ErrorClass.CREDENTIALS,
            "The security token included in the request is invalid.",
            "UnrecognizedClientException",
        ),
    ),
    (
        "clock",
        reply(403, said(f"Signature expired: {EARLIER} is now earlier than {LATER}"), "InvalidSignatureException"),
        CallError(ErrorClass.CREDENTIALS, "Signature expired: … is now earlier than …", "InvalidSignatureException"),
    ),
    (
        "404 html",
        reply(404, HTML),
        CallError(
            ErrorClass.CREDENTIALS,
            "HTTP 404 Not Found; check AWS_ENDPOINT_URL_BATCH and the region: the endpoint is not AWS Batch",
            "404",
        ),
    ),
]


@pytest.mark.parametrize(("error", "expected"), [row[1:] for row in REPLIES], ids=[row[0] for row in REPLIES])
def test_each_reply_of_batch_has_its_class(error: ClientError, expected: CallError) -> None:
    assert classify_error(error) == expected


URL = "https://batch.eu-west-1.amazonaws.com/v1/describejobs"
WITHOUT_REPLY: list[tuple[Exception, ErrorClass]] = [
    (sdk.EndpointConnectionError(endpoint_url=URL), ErrorClass.UNAVAILABLE),
    (sdk.ConnectTimeoutError(endpoint_url=URL), ErrorClass.UNAVAILABLE),
    (sdk.ReadTimeoutError(endpoint_url=URL), ErrorClass.UNAVAILABLE),
    (sdk.ConnectionClosedError(endpoint_url=URL), ErrorClass.UNAVAILABLE),
    (sdk.ProxyConnectionError(proxy_url="http://proxy"), ErrorClass.UNAVAILABLE),
    (sdk.HTTPClientError(error=ConnectionResetError(104, "reset")), ErrorClass.UNAVAILABLE),
    (sdk.SSLError(endpoint_url=URL, error=OSError("EOF occurred in violation of protocol")), ErrorClass.UNAVAILABLE),
    (
        sdk.SSLError(endpoint_url=URL, error=OSError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed")),
        ErrorClass.CREDENTIALS,
    ),
    (sdk.IncompleteReadError(actual_bytes=1, expected_bytes=2), ErrorClass.UNAVAILABLE),
    (ResponseParserError("not JSON"), ErrorClass.UNAVAILABLE),
    (sdk.ParamValidationError(report="Missing required parameter"), ErrorClass.REJECTED),
    (sdk.NoCredentialsError(), ErrorClass.CREDENTIALS),
    (sdk.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), ErrorClass.CREDENTIALS),
    (sdk.CredentialRetrievalError(provider="container-role", error_msg="unreachable"), ErrorClass.CREDENTIALS),
    (sdk.MetadataRetrievalError(error_msg="unreachable"), ErrorClass.CREDENTIALS),
    (FileNotFoundError(2, "No such file", "/var/run/secrets/eks.amazonaws.com/token"), ErrorClass.CREDENTIALS),
    (PermissionError(13, "Permission denied", "/var/run/secrets/token"), ErrorClass.CREDENTIALS),
    (sdk.ProfileNotFound(profile="typo"), ErrorClass.CREDENTIALS),
    (sdk.NoRegionError(), ErrorClass.CREDENTIALS),
    (sdk.InvalidRegionError(region_name="eu west"), ErrorClass.CREDENTIALS),
    (sdk.DataNotFoundError(data_path="batch"), ErrorClass.CREDENTIALS),
    (sdk.InvalidEndpointConfigurationError(msg="Invalid endpoint: nonsense"), ErrorClass.CREDENTIALS),
]


@pytest.mark.parametrize(("error", "error_class"), WITHOUT_REPLY, ids=[type(row[0]).__name__ for row in WITHOUT_REPLY])
def test_a_failure_without_a_response_has_a_class_and_names_its_kind(error: Exception, error_class: ErrorClass) -> None:
    assert isinstance(error, AWS_ERRORS)
    found = classify_error(error)
    assert (found.error_class, found.code) == (error_class, type(error).__name__)
    assert found.message


def test_missing_credentials_come_with_the_remedy() -> None:
    assert "IRSA" in classify_error(sdk.NoCredentialsError()).message


@pytest.mark.parametrize(
    ("code", "status", "error_class"),
    [
        ("AccessDenied", 403, ErrorClass.CREDENTIALS),
        ("InvalidIdentityToken", 400, ErrorClass.CREDENTIALS),
        ("ValidationError", 400, ErrorClass.CREDENTIALS),
        ("Throttling", 400, ErrorClass.THROTTLED),
        ("IDPCommunicationError", 400, ErrorClass.UNAVAILABLE),
        ("InternalFailure", 500, ErrorClass.UNAVAILABLE),
    ],
)
def test_a_refusal_on_the_way_to_credentials_is_about_credentials(
    code: str, status: int, error_class: ErrorClass
) -> None:
    error = classify_error(reply(status, said("no"), code, operation="AssumeRoleWithWebIdentity"))
    assert (error.error_class, error.code) == (error_class, code)
    assert ("AssumeRoleWithWebIdentity" in error.message) is (error_class is ErrorClass.CREDENTIALS)


@pytest.mark.parametrize(
    ("code", "error_class"),
    [
        ("ValidationException", ErrorClass.REJECTED),
        ("ClientException", ErrorClass.REJECTED),
        ("ThrottlingException", ErrorClass.THROTTLED),
        ("ServerException", ErrorClass.UNAVAILABLE),
        ("AccessDenied", ErrorClass.DENIED),
        ("SomethingNew", ErrorClass.UNAVAILABLE),
        ("", ErrorClass.UNAVAILABLE),
    ],
)
def test_the_codes_of_a_bulk_answer_have_their_classes(code: str, error_class: ErrorClass) -> None:
    assert classify_code(code, 0, "words").error_class is error_class


@pytest.mark.parametrize("status", [301, 100, 0, 999])
def test_a_reply_that_no_rule_knows_may_pass(status: int) -> None:
    assert classify_code(str(status), status, "").error_class is ErrorClass.UNAVAILABLE


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
    first, second = (classify_code("ClientException", 400, text.format(each)) for each in suffixes)
    assert first == second
    assert first.message.startswith("no")


def test_job_ids_and_resources_stay_in_the_message() -> None:
    text = f"not allowed on arn:aws:batch:eu-west-1:123456789012:job/{REQUEST}"
    assert classify_code("ClientException", 400, text).message == text


def test_a_quoted_request_with_its_session_token_never_gets_into_a_message() -> None:
    text = (
        "The request signature we calculated does not match.\n\n"
        "The Canonical String for this request should have been\n"
        "'POST\n/v1/terminatejob\n\nx-amz-security-token:IQoJsecret\n\nhost'"
    )
    error = classify_code("InvalidSignatureException", 403, text)
    assert error.message == "The request signature we calculated does not match."
    assert "secret" not in classify_code("X", 400, "X-Amz-Security-Token=IQoJsecret; rest").message


def test_a_message_is_one_line_of_bounded_length() -> None:
    message = classify_code("ClientException", 400, "words \n" * 5000).message
    assert len(message) == MAX_TEXT
    assert "\n" not in message


@pytest.mark.parametrize("response", [{}, {"Error": {"Message": 5, "Code": None}}, {"ResponseMetadata": {}}])
def test_an_error_without_its_parts_is_a_fault_all_the_same(response: Any) -> None:
    assert classify_error(ClientError({"Error": {}} | response, "DescribeJobs")).error_class is ErrorClass.UNAVAILABLE


@pytest.mark.parametrize("code", ["404", "405", "UnknownOperationException", "MissingAuthenticationTokenException"])
def test_codes_that_say_that_there_is_no_such_operation(code: str) -> None:
    assert lacks_operation(classify_code(code, 404, ""))
    assert not lacks_operation(classify_code("ClientException", 400, ""))
