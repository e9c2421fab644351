"""Making, sharing and renewing clients; reading bodies."""

import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import InvalidEndpointConfigurationError

from awsbatch_operator.aws.clients import RENEW_EVERY, Clients, SettingsError, default_region
from awsbatch_operator.aws.sessions import Connector
from awsbatch_operator.aws.wire import read_body
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


class Connections:
    """Counts sessions and clients, on a settable clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sessions = 0
        self.made: list[FakeClient] = []
        self.clients = Clients(self.connect, monotonic=lambda: self.now)

    def connect(self) -> Callable[[str], FakeClient]:
        assert self.clients._lock.locked(), "boto3 makes sessions for one thread at a time"
        self.sessions += 1

        def make(region: str) -> FakeClient:
            assert self.clients._lock.locked(), "boto3 makes clients for one thread at a time"
            self.made.append(FakeClient(region))
            return self.made[-1]

        return make


def test_a_client_is_made_once_for_a_lane_and_region() -> None:
    world = Connections()
    look, again = world.clients.get("look", HERE), world.clients.get("look", HERE)
    assert look is again
    assert world.clients.get("terminate", HERE) is not look
    assert world.clients.get("look", "us-east-1") is not look
    assert (world.sessions, len(world.made)) == (1, 3)


def test_threads_that_come_at_once_share_one_client() -> None:
    world = Connections()
    together = threading.Barrier(8)

    def get(_: int) -> Any:
        together.wait(5)
        return world.clients.get("look", HERE)

    with ThreadPoolExecutor(8) as threads:
        assert len(set(map(id, threads.map(get, range(8))))) == 1
    assert (world.sessions, len(world.made)) == (1, 1)


def test_a_renewal_makes_session_and_clients_anew() -> None:
    world = Connections()
    old = world.clients.get("look", HERE)
    assert world.clients.renew(world.clients.generation)
    assert world.clients.get("look", HERE) is not old
    assert world.sessions == 2


def test_a_renewal_leaves_old_clients_open_for_the_calls_under_way() -> None:
    world = Connections()
    world.clients.get("look", HERE)
    world.clients.renew(world.clients.generation)
    assert not world.made[0].closed
    world.clients.get("look", HERE)
    world.now += RENEW_EVERY
    world.clients.renew(world.clients.generation)
    assert [client.closed for client in world.made] == [True, False]
    world.clients.close()
    assert [client.closed for client in world.made] == [True, True]


def test_renewals_come_at_most_every_few_seconds() -> None:
    world = Connections()
    assert world.clients.renew(world.clients.generation)
    assert not world.clients.renew(world.clients.generation)
    world.now += RENEW_EVERY
    assert world.clients.renew(world.clients.generation)


def test_who_failed_with_clients_renewed_meanwhile_only_tries_again() -> None:
    world = Connections()
    failed = world.clients.generation
    world.clients.renew(failed)
    assert world.clients.renew(failed)
    assert world.clients.generation == failed + 1


def test_closing_closes_every_client() -> None:
    world = Connections()
    world.clients.get("look", HERE)
    world.clients.get("terminate", HERE)
    world.clients.close()
    assert [client.closed for client in world.made] == [True, True]


@pytest.mark.parametrize("endpoint", ["nonsense", "http://", "http://a b"])
def test_an_endpoint_that_is_none_is_told_with_its_variable(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_BATCH", endpoint)
    with pytest.raises(InvalidEndpointConfigurationError, match="AWS_ENDPOINT_URL_BATCH"):
        Connector()()(HERE)


def test_the_region_is_none_when_nothing_says_it() -> None:
    assert default_region() is None


@pytest.mark.parametrize(
    ("variables", "region"),
    [
        ({"AWS_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-1"),
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": ""}, None),
        ({"AWS_PROFILE": "team"}, "eu-west-3"),
    ],
)
def test_the_region_comes_from_the_variables_or_the_profile(
    variables: dict[str, str], region: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[profile team]\nregion = eu-west-3\n", encoding="utf-8")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_region() == region


def test_a_profile_that_does_not_exist_is_told_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "typo")
    with pytest.raises(SettingsError, match=r"typo.*AWS_PROFILE"):
        default_region()


def read(status: int, body: bytes) -> tuple[bytes, dict[str, Any]]:
    """What is left for botocore to parse, and what goes into the answer as it is."""
    response: dict[str, Any] = {"status_code": status, "body": body, "headers": {}}
    answer: dict[str, Any] = {}
    read_body(response, answer, operation_model=None)
    return response["body"], answer


def test_an_answer_is_taken_as_its_json_says() -> None:
    body = {"jobs": [{"jobId": "a", "container": "a string where an object should be"}]}
    assert read(200, json.dumps(body).encode()) == (b"", body)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"jobs":[{"jo', b"[]", b'"x"', b"null", b"3", b"\xff\xfe", b"[" * 200_000, b'{"__type":3}']
)
def test_an_answer_that_is_no_object_is_empty_and_never_raises(body: bytes) -> None:
    left, answer = read(200, body)
    assert (left, answer) in ((b"", {}), (b"{}", {}))


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
        Connector()
        assert log.level == after
    finally:
        log.setLevel(was)
