"""Tests what is not sent: requests of a replica that is not the leader, and terminations without permits."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from botocore.config import Config

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.job import Target
from awsbatch_operator.aws.errors import NoSigningScopeError
from awsbatch_operator.aws.hooks import RequestScope
from awsbatch_operator.aws.provider import AwsBatch
from awsbatch_operator.aws.sdk_session import CONFIG, ClientFactory, ClientKind, own_credentials
from awsbatch_operator.aws.sessions import OwnSession
from fakes.aws import HERE, FakePermit, classes, describe, expires_after, make_batch, terminate

QUICK = CONFIG.merge(Config(connect_timeout=0.5, read_timeout=0.5))


class Server:
    """Takes each request instead of AWS: keeps its body and answers `{}`.

    With `fails` it answers 500, which botocore tries again, and by then the replica is not the leader.
    """

    def __init__(self) -> None:
        self.acting, self.fails, self.status = True, False, 200
        self.requests: list[bytes] = []

    def make_client(self, kind: ClientKind, region: str) -> Any:
        client = ClientFactory(lambda: self.acting, QUICK)(kind, region)
        client.meta.events.register_last("before-send.batch", self._serve)
        return client

    def _serve(self, request: Any, **_: Any) -> Any:
        self.requests.append(request.body.read())
        self.acting = not self.fails
        return _Answer(500 if self.fails else self.status)


class _Answer:
    def __init__(self, status_code: int) -> None:
        self.status_code, self.headers, self.content = status_code, dict[str, str](), b"{}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "sandbox")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sandbox")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return Server()


@pytest.fixture
async def batch(server: Server) -> AsyncIterator[AwsBatch]:
    batch = make_batch(make_client=server.make_client)
    yield batch
    batch.close()


def refused(answer: object) -> bool:
    return (
        isinstance(answer, CallError)
        and answer.error_class is ErrorClass.UNAVAILABLE
        and "is no longer the leader" in answer.message
    )


async def test_a_termination_is_refused(server: Server, batch: AwsBatch) -> None:
    assert classes(await terminate(batch, FakePermit("j1"))) == [None]
    assert len(server.requests) == 1
    server.acting = False
    assert all(map(refused, await terminate(batch, FakePermit("j2"))))
    assert all(map(refused, await terminate(batch, *(FakePermit(f"j{n}") for n in range(5)))))
    assert len(server.requests) == 1


async def test_a_describe_is_refused(server: Server, batch: AwsBatch) -> None:
    server.acting = False
    results = await describe(batch, Target(HERE), "j1", "j2")
    assert [refused(result) for result in results.values()] == [True, True]
    assert server.requests == []


async def test_botocore_does_not_try_again_for_a_replica_that_lost_leadership(server: Server, batch: AwsBatch) -> None:
    server.fails = True
    assert all(map(refused, await terminate(batch, FakePermit("j1"))))
    assert len(server.requests) == 1


async def test_a_request_that_may_have_arrived_is_never_called_not_sent(server: Server, batch: AwsBatch) -> None:
    server.status = 500
    withdrawn = FakePermit("j1", validity=expires_after(1))
    results = await terminate(batch, withdrawn, FakePermit("j2"))
    assert classes(results) == [ErrorClass.UNAVAILABLE] * 2
    assert len(server.requests) == 1, "and it is not repeated"


@pytest.mark.parametrize("operation", ["terminate_job", "terminate_jobs"])
def test_a_termination_without_permits_is_not_sent(server: Server, operation: str) -> None:
    client = server.make_client("terminate", HERE)
    request = {"jobId": "j1"} if operation == "terminate_job" else {"jobs": ["j1"]}
    with RequestScope(OwnSession(own_credentials)).active(), pytest.raises(NoSigningScopeError):
        getattr(client, operation)(**request, reason="why")
    assert server.requests == []
    client.close()


def test_nothing_is_signed_outside_of_a_scope(server: Server) -> None:
    client = server.make_client("describe", HERE)
    with pytest.raises(NoSigningScopeError):
        client.describe_jobs(jobs=["j1"])
    assert server.requests == []
    client.close()
