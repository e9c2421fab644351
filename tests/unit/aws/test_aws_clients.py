"""Making, sharing and closing clients; what botocore gets to read of an answer."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import InvalidEndpointConfigurationError
from botocore.session import Session as BotoSession

from awsbatch_operator.aws.client_cache import MAX_CLIENTS, ClientCache
from awsbatch_operator.aws.hooks import keep_body_raw
from awsbatch_operator.aws.sdk_session import ClientFactory, ClientKind, SettingsError, default_region, new_session
from unit.aws.fake_client import FakeClient

HERE = "eu-west-1"
AWS_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ENDPOINT_URL_BATCH")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in AWS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


class World:
    """Counts the clients that are made."""

    def __init__(self) -> None:
        self.made: list[FakeClient] = []
        self.cache = ClientCache(self._make)

    def _make(self, kind: str, region: str) -> FakeClient:
        assert self.cache._making.locked(), "boto3 makes clients for one thread at a time"
        self.made.append(FakeClient(kind, region))
        return self.made[-1]


def test_a_client_is_made_once_for_a_kind_and_region() -> None:
    world = World()
    client = world.cache.get("describe", HERE)
    assert world.cache.get("describe", HERE) is client
    assert world.cache.get("terminate", HERE) is not client
    assert world.cache.get("describe", "us-east-1") is not client
    assert len(world.made) == 3


def test_threads_that_come_at_once_share_one_client() -> None:
    world = World()
    together = threading.Barrier(8)

    def get(_: int) -> Any:
        together.wait(5)
        return world.cache.get("describe", HERE)

    with ThreadPoolExecutor(8) as threads:
        assert len(set(map(id, threads.map(get, range(8))))) == 1
    assert len(world.made) == 1


def test_the_least_recently_used_clients_are_closed() -> None:
    world = World()
    for number in range(MAX_CLIENTS):
        world.cache.get("describe", f"r{number}")
    world.cache.get("describe", "r0")
    world.cache.get("describe", "new")
    assert [number for number, client in enumerate(world.made) if client.closed] == [1]
    world.cache.get("describe", "r0")
    assert len(world.made) == MAX_CLIENTS + 1


def test_discarding_closes_the_named_clients_of_a_region_alone() -> None:
    world = World()
    for kind, region in (("describe", HERE), ("sts", HERE), ("describe", "us-east-1"), ("terminate", HERE)):
        world.cache.get(kind, region)  # type: ignore[arg-type]
    world.cache.discard(HERE, "describe", "sts")
    assert [client.closed for client in world.made] == [True, True, False, False]
    assert world.cache.get("describe", HERE) is world.made[4]
    world.cache.close()
    assert all(client.closed for client in world.made)


@pytest.mark.parametrize("endpoint", ["nonsense", "http://", "http://a b", "http://127.0.0.1:99999"])
@pytest.mark.parametrize(("kind", "service"), [("describe", "BATCH"), ("sts", "STS")])
def test_an_invalid_endpoint_is_reported_with_its_variable(
    kind: ClientKind, service: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", endpoint)
    with pytest.raises(InvalidEndpointConfigurationError, match=f"AWS_ENDPOINT_URL_{service}"):
        ClientFactory(bool)(kind, HERE)


def test_the_region_is_none_when_nothing_says_it() -> None:
    assert default_region()[0] == ""


@pytest.mark.parametrize(
    ("variables", "region", "named_by"),
    [
        ({"AWS_REGION": "eu-west-1"}, "eu-west-1", "AWS_REGION"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2", "AWS_DEFAULT_REGION"),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-1", "AWS_REGION"),
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": ""}, "", "region of the AWS profile default"),
        ({"AWS_PROFILE": "team"}, "eu-west-3", "region of the AWS profile team"),
    ],
)
def test_the_region_comes_from_the_variables_or_the_profile(
    variables: dict[str, str], region: str, named_by: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[profile team]\nregion = eu-west-3\n", encoding="utf-8")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_region() == (region, named_by)


def test_a_profile_that_does_not_exist_is_reported_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "typo")
    with pytest.raises(SettingsError, match=r"typo.*AWS_PROFILE"):
        default_region()


def read(status: int, body: bytes) -> tuple[bytes, dict[str, Any]]:
    """What is left for botocore to parse, and what goes into the answer as it is."""
    response: dict[str, Any] = {"status_code": status, "body": body, "headers": {}}
    answer: dict[str, Any] = {}
    keep_body_raw(response, answer, operation_model=None)
    return response["body"], answer


@pytest.mark.parametrize("body", [b"", b"{}", b'{"jobs":[]}', b"[]", b"\xff\xfe", b"[" * 200_000])
def test_the_body_of_a_granted_answer_is_handed_on_undecoded(body: bytes) -> None:
    assert read(200, body) == (b"", {"body": body})


@pytest.mark.parametrize("body", [b'{"message":"no"}', b"<html></html>", b""])
def test_an_error_is_left_to_botocore(body: bytes) -> None:
    assert read(500, body) == (body, {})


@pytest.mark.parametrize("body", [b"[]", b"null", b'{"__type":3}'])
def test_an_error_that_botocore_would_stumble_over_is_emptied(body: bytes) -> None:
    assert read(400, body) == (b"", {})


@pytest.mark.parametrize(
    ("before", "after"), [(logging.DEBUG, logging.INFO), (logging.NOTSET, logging.INFO), (logging.ERROR, logging.ERROR)]
)
def test_the_sdk_never_logs_what_it_sends_and_stays_as_quiet_as_it_was(before: int, after: int) -> None:
    log = logging.getLogger("botocore")
    was = log.level
    log.setLevel(before)
    try:
        ClientFactory(bool)
        assert log.level == after
    finally:
        log.setLevel(was)


def test_only_endpoints_of_services_that_are_called_stay_in_memory() -> None:
    def endpoint(session: BotoSession, service: str, region: str) -> str:
        made = session.create_client(service, region, aws_access_key_id="a", aws_secret_access_key="s")
        return str(made.meta.endpoint_url)

    session, whole = new_session(), BotoSession()
    regions = (HERE, "cn-north-1", "us-gov-west-1", "us-iso-east-1", "xx-typo-1")
    for service in ("batch", "sqs", "events", "sts", "sso", "sso-oidc", "signin"):
        for region in regions:
            assert endpoint(session, service, region) == endpoint(whole, service, region)
    partitions = session.get_component("data_loader").load_data("endpoints")["partitions"]
    assert all(len(partition["services"]) <= 8 for partition in partitions)
