"""STS of the sandbox: who may assume a role, on which terms, and what is recorded of it."""

import asyncio
import re
from typing import Any

import aiohttp
import pytest

from awsbatch_sandbox.batch.signature import SignedRequest
from awsbatch_sandbox.sts.remote import RemoteSts
from awsbatch_sandbox.sts.server import serve
from unit.sandbox.batch_wire_calls import START, Wire, signed
from unit.sandbox.sts_calls import ROLE, Sts, tags

NAMESPACE_TAG = tags({"kubernetes-namespace": "team-a"})
HANDED_ON = NAMESPACE_TAG | {"TransitiveTagKeys.member.1": "kubernetes-namespace"}
ANOTHER = "arn:aws:iam::333333333333:role/another"
DENIED = (
    f"User: arn:aws:iam::123456789012:user/sandbox is not authorized to perform: sts:AssumeRole on resource: {ROLE}"
)


@pytest.fixture
def sts() -> Sts:
    return Sts()


def test_every_call_is_recorded_with_its_parameters(sts: Sts) -> None:
    sts.assume({"ExternalId": "awsbatch-operator/prod/team-a", "DurationSeconds": "900", **HANDED_ON})
    assert sts.simulator.calls() == [
        {
            "n": 1,
            "at": START,
            "action": "AssumeRole",
            "account": "123456789012",
            "region": "eu-west-1",
            "access_key": "sandbox",
            "caller": "arn:aws:iam::123456789012:user/sandbox",
            "role": ROLE,
            "role_session": "operator",
            "external_id": "awsbatch-operator/prod/team-a",
            "tags": {"kubernetes-namespace": "team-a"},
            "transitive_tag_keys": ["kubernetes-namespace"],
            "duration": 900,
            "http_status": 200,
            "error": None,
            "issued": "ASIA1",
            "expires_at": START + 900,
        }
    ]
    sts.call("GetCallerIdentity")
    (second,) = sts.simulator.calls("GetCallerIdentity")
    assert (sts.simulator.calls(since=1), second["n"], second["external_id"]) == ([second], 2, None)
    sts.simulator.clear_calls()
    assert sts.simulator.calls() == []


def test_batch_accepts_issued_credentials(sts: Sts) -> None:
    sts.assume(NAMESPACE_TAG)
    job_id = sts.batch.seed(account="222222222222", tags={"k8s-namespace": "team-a"})
    stranger = sts.batch.seed(account="222222222222", tags={"k8s-namespace": "team-b"})
    sts.batch.deny("TerminateJob", job_tag="k8s-namespace", principal_tag="kubernetes-namespace")
    for one, status in ((job_id, 200), (stranger, 403)):
        call = signed("/", {"jobId": one, "reason": "r"}, access_key="ASIA1", secret="secret-1", token="token-1")
        requested = SignedRequest("POST", "/", call["headers"], call["data"])
        assert sts.batch.frontend.perform(sts.batch.frontend.receive("TerminateJob", requested)).status == status
    assert [one["role_session"] for one in sts.batch.terminate_requests("222222222222")] == ["operator"]
    assert sts.batch.accounts() == ["123456789012", "222222222222"]
    assert Wire(sts.batch).shown(job_id) == []


@pytest.mark.parametrize("number", [None, 1])
def test_the_identity_of_a_caller_is_that_of_its_credential(sts: Sts, number: int | None) -> None:
    sts.assume()
    status, _, body = sts.call("GetCallerIdentity", by=number)
    arn = (
        "arn:aws:iam::123456789012:user/sandbox"
        if number is None
        else "arn:aws:sts::222222222222:assumed-role/batch-team-a/operator"
    )
    assert (status, f"<Arn>{arn}</Arn>" in body, f"<Account>{arn.split(':')[4]}</Account>" in body) == (200, True, True)


TERMS: list[tuple[dict[str, Any], dict[str, str], int, str | None]] = [
    ({}, {}, 200, None),
    ({"external_id": "x/y"}, {"ExternalId": "x/y"}, 200, None),
    ({"external_id": "x/y"}, {"ExternalId": "x/z"}, 403, "AccessDenied"),
    ({"external_id": "x/y"}, {}, 403, "AccessDenied"),
    ({"session_tags": False}, {}, 200, None),
    ({"session_tags": False}, NAMESPACE_TAG, 403, "AccessDenied"),
    ({"refuses": "AccessDenied"}, {}, 403, "AccessDenied"),
    ({"refuses": "Throttling"}, {}, 400, "Throttling"),
    ({"refuses": "ServiceUnavailable"}, {}, 503, "ServiceUnavailable"),
    ({}, {"DurationSeconds": "3601"}, 400, "ValidationError"),
    ({"max_duration": 7200}, {"DurationSeconds": "7200"}, 200, None),
]


@pytest.mark.parametrize(("terms", "parameters", "status", "error"), TERMS)
def test_a_role_is_assumed_on_its_terms(
    sts: Sts, terms: dict[str, Any], parameters: dict[str, str], status: int, error: str | None
) -> None:
    sts.simulator.trust(ROLE, **terms)
    assert sts.assume(parameters)[:2] == (status, error)
    (call,) = sts.simulator.calls()
    assert (call["http_status"], call["error"], call["issued"]) == (status, error, "ASIA1" if status == 200 else None)
    # What is said of one role concerns no other.
    assert sts.assume({"RoleArn": ANOTHER})[0] == 200


def test_a_denial_names_the_caller_and_not_what_was_missing(sts: Sts) -> None:
    sts.simulator.trust(ROLE, external_id="x/y")
    refused = sts.assume({"ExternalId": "x/z"})[2]
    assert f"<Code>AccessDenied</Code><Message>{DENIED}</Message>" in refused
    assert "x/y" not in refused


def test_terms_may_be_said_of_all_other_roles_and_taken_back(sts: Sts) -> None:
    sts.simulator.trust("*", refuses="AccessDenied")
    sts.simulator.trust(ROLE)
    assert (sts.assume()[0], sts.assume({"RoleArn": ANOTHER})[0]) == (200, 403)
    sts.simulator.clear_trust()
    assert sts.assume({"RoleArn": ANOTHER})[0] == 200


@pytest.mark.parametrize("terms", [{"refuses": "Gremlin"}, {"colour": "red"}])
def test_terms_that_there_are_not_are_refused(sts: Sts, terms: dict[str, str]) -> None:
    with pytest.raises((ValueError, TypeError), match=r"refuses must be one of|unexpected keyword argument 'colour'"):
        sts.simulator.trust(ROLE, **terms)


def test_a_lifetime_may_be_shorter_than_what_was_asked_for(sts: Sts) -> None:
    sts.simulator.trust(ROLE, lifetime=60)
    sts.assume({"DurationSeconds": "3600"})
    assert sts.simulator.calls()[0]["expires_at"] == START + 60
    sts.batch.settings(clock_ahead=60)
    request = sts.request({"Action": "GetCallerIdentity"}, 1, at=START + 60)
    assert sts.simulator.answer(request).error == "ExpiredToken"


def test_sessions_can_be_ended_early(sts: Sts) -> None:
    sts.assume()
    sts.assume({"RoleArn": ANOTHER})
    assert sts.simulator.expire(ROLE) == 1
    assert (sts.call("GetCallerIdentity", by=1)[:2], sts.call("GetCallerIdentity", by=2)[0]) == (
        (403, "ExpiredToken"),
        200,
    )
    assert sts.simulator.expire() == 2
    assert sts.call("GetCallerIdentity", by=2)[1] == "ExpiredToken"


def test_an_answer_may_take_its_time(sts: Sts) -> None:
    sts.simulator.trust(ROLE, latency=2.5)
    form = {"Action": "AssumeRole", "RoleArn": ROLE}
    assert sts.simulator.latency(sts.request(form)) == 2.5
    assert sts.simulator.latency(sts.request(form | {"RoleArn": ANOTHER})) == 0


@pytest.mark.parametrize(
    ("parameters", "where", "demand"),
    [
        ({"RoleSessionName": "s"}, "Value 's' at 'roleSessionName'", "length greater than or equal to 2"),
        ({"RoleSessionName": "s" * 65}, "at 'roleSessionName'", "length less than or equal to 64"),
        ({"RoleSessionName": "team a"}, "at 'roleSessionName'", r"regular expression pattern: [\w+=,.@-]*"),
        ({"RoleSessionName": "éé"}, "at 'roleSessionName'", "regular expression pattern"),
        ({"ExternalId": "x"}, "at 'externalId'", "length greater than or equal to 2"),
        ({"ExternalId": "awsbatch operator"}, "at 'externalId'", "regular expression pattern"),
        ({"DurationSeconds": "899"}, "Value '899' at 'durationSeconds'", "value greater than or equal to 900"),
        ({"DurationSeconds": "long"}, "at 'durationSeconds'", "value greater than or equal to 900"),
        (tags({"a": "b" * 257}), "at 'tags.member.value'", "length less than or equal to 256"),
        (tags({"a*": "b"}), "Value 'a*' at 'tags.member.key'", "regular expression pattern"),
    ],
)
def test_a_parameter_is_held_to_the_service_model(
    sts: Sts, parameters: dict[str, str], where: str, demand: str
) -> None:
    status, error, body = sts.assume(parameters)
    assert (status, error) == (400, "ValidationError")
    assert (where in body, demand in body) == (True, True)
    assert sts.simulator.calls()[0]["issued"] is None


def test_a_name_and_a_role_are_required_and_the_role_must_be_one(sts: Sts) -> None:
    assert "Member must not be null" in sts.call("AssumeRole", {"RoleArn": ROLE})[2]
    assert sts.assume({"RoleArn": "arn:aws:iam::222222222222:user/somebody"})[:2] == (400, "ValidationError")


def test_tags_may_hold_letters_of_any_language(sts: Sts) -> None:
    assert sts.assume(tags({"équipe": "größe 1"}))[0] == 200
    assert sts.simulator.calls()[0]["tags"] == {"équipe": "größe 1"}


# -- chains of roles --------------------------------------------------------------------------------------------------


def test_transitive_tags_go_on_to_the_next_role_and_others_do_not(sts: Sts) -> None:
    colour = {"Tags.member.2.Key": "colour", "Tags.member.2.Value": "red"}
    sts.assume({**HANDED_ON, **colour})
    assert sts.assume({"RoleArn": ANOTHER, **tags({"size": "1"})}, by=1)[0] == 200
    second = sts.batch.credentials.find("ASIA2")
    assert second is not None
    assert second.tags == {"size": "1", "kubernetes-namespace": "team-a"}
    assert second.transitive == {"kubernetes-namespace"}
    assert sts.simulator.calls()[-1]["tags"] == {"size": "1"}


@pytest.mark.parametrize(
    ("number", "parameters", "message"),
    [
        (1, NAMESPACE_TAG, "conflicts with a transitive tag key from the calling session"),
        (1, tags({"Kubernetes-Namespace": "team-b"}), "conflicts with a transitive tag key"),
        (None, tags({"a": "1", "A": "2"}), "Duplicate tag keys found"),
        (None, {"TransitiveTagKeys.member.1": "a"}, "must be included in the requested tags"),
    ],
)
def test_tags_that_sts_will_not_have(sts: Sts, number: int | None, parameters: dict[str, str], message: str) -> None:
    sts.assume(HANDED_ON)
    status, error, body = sts.assume(parameters, by=number)
    assert (status, error) == (400, "InvalidParameterValue")
    # Apostrophes stand as they are in XML's text.
    assert message in body


def test_a_role_assumed_by_a_role_lives_an_hour_at_most(sts: Sts) -> None:
    sts.simulator.trust("*", max_duration=43200)
    assert sts.assume({"DurationSeconds": "7200"})[0] == 200
    assert "1 hour session limit for roles assumed by role chaining" in sts.assume({"DurationSeconds": "3601"}, by=1)[2]
    assert sts.assume(by=1)[0] == 200


# -- signatures -------------------------------------------------------------------------------------------------------


def test_a_signature_is_verified_and_refused_in_the_words_of_sts(sts: Sts) -> None:
    form = {"Action": "GetCallerIdentity", "Version": "2011-06-15"}
    good = sts.request(form)
    unsigned = {name: value for name, value in good.headers.items() if name != "authorization"}
    cut = {**good.headers, "authorization": "AWS4-HMAC-SHA256 Credential=sandbox"}
    cases = [
        (good, 200, None),
        (sts.request(form, secret="wrong"), 403, "SignatureDoesNotMatch"),
        (SignedRequest("POST", "/", good.headers, b"Action=AssumeRole"), 403, "SignatureDoesNotMatch"),
        (sts.request(form, 7), 403, "InvalidClientTokenId"),
        (SignedRequest("POST", "/", unsigned, good.body), 403, "MissingAuthenticationToken"),
        (SignedRequest("POST", "/", cut, good.body), 400, "IncompleteSignature"),
        (sts.request(form, at=START - 901), 403, "SignatureDoesNotMatch"),
        (sts.request(form, at=START - 900), 200, None),
    ]
    for request, status, error in cases:
        reply = sts.simulator.answer(request)
        assert (reply.status, reply.error) == (status, error)
    assert [call["account"] for call in sts.simulator.calls()] == ["123456789012", *[None] * 6, "123456789012"]
    assert "(20231114T221320Z - 15 min.)" in sts.simulator.answer(sts.request(form, at=START - 901)).body.decode()


def test_a_signature_for_batch_is_none_for_sts(sts: Sts) -> None:
    call = signed("/", None)
    reply = sts.simulator.answer(SignedRequest("POST", "/", call["headers"], b""))
    assert re.search(r"<Code>SignatureDoesNotMatch</Code><Message>.*correct service: 'sts'", reply.body.decode())


def test_an_action_that_the_sandbox_does_not_have_is_refused(sts: Sts) -> None:
    status, error, body = sts.call("GetSessionToken")
    assert (status, error) == (400, "InvalidAction")
    assert "Could not find operation GetSessionToken for version 2011-06-15" in body


async def test_it_is_served_with_its_control_verbs(sts: Sts) -> None:
    form = {"Action": "AssumeRole", "Version": "2011-06-15", "RoleArn": ROLE, "RoleSessionName": "operator"}
    requested = sts.request(form)
    async with serve(sts.simulator) as url, aiohttp.ClientSession(url) as session:

        def drive() -> None:
            with RemoteSts(url) as remote:
                assert remote.health()
                remote.trust("*", refuses="AccessDenied")
                remote.clear_trust()
                assert (remote.calls(), remote.expire()) == ([], 0)
                remote.clear_calls()
                with pytest.raises(ValueError, match="refuses must be one of AccessDenied"):
                    remote.trust(ROLE, refuses="Gremlin")

        await asyncio.to_thread(drive)
        async with session.post("/", data=requested.body, headers=dict(requested.headers)) as answer:
            assert (answer.status, answer.content_type) == (200, "text/xml")
            assert "<AccessKeyId>ASIA1</AccessKeyId>" in await answer.text()
        async with session.post("/_sandbox/seed") as answer:
            assert (answer.status, "use one of trust" in (await answer.json())["error"]) == (404, True)
