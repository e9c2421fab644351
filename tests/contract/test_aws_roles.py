"""Roles of policies with real botocore over HTTP, against the simulated Batch and STS in this process."""

import asyncio
import datetime as dt
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.config import Config
from structlog.testing import capture_logs

from awsbatch_operator.aws import AwsBatch
from awsbatch_operator.aws.credentials import FAILED_FOR
from awsbatch_operator.aws.errors import UnsignedError
from awsbatch_operator.aws.keyring import Keyring
from awsbatch_operator.aws.sessions import CONFIG, LIFETIME, Connector
from awsbatch_operator.domain.admission import MayEnd
from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.job import ABSENT, Place
from awsbatch_operator.domain.ports import Sight, Whose
from awsbatch_sandbox import sts as sts_sandbox
from awsbatch_sandbox.batch import BatchSimulator, serve
from builders import leave_to_end
from fakes.sts import FakeMoto
from fakes.telemetry import FakeTelemetry

HERE, THERE = "eu-west-1", "us-east-1"
OURS, THEIRS = "123456789012", "222222222222"
ROLE = f"arn:aws:iam::{THEIRS}:role/teams/batch-team-a"
OTHER_ROLE = "arn:aws:iam::333333333333:role/batch-team-b"
THEIR_PLACE, OTHER_PLACE, OUR_PLACE = Place(HERE, ROLE, "team-a"), Place(HERE, OTHER_ROLE, "team-b"), Place(HERE)
ONE_ATTEMPT = CONFIG.merge(Config(retries={"mode": "standard", "total_max_attempts": 1}))
WORDS = "the role of the BatchAccessPolicy team-a can't be assumed"
REMEDY = "ask the platform team: the policy's status says why; it is tried again every 5 minutes"


@dataclass
class World:
    """`ahead`: by how many seconds the operator's clocks go ahead of the sandbox's."""

    simulator: BatchSimulator
    sts: sts_sandbox.StsSimulator
    telemetry: FakeTelemetry = field(default_factory=FakeTelemetry)
    ahead: float = 0.0
    holds: Callable[[MayEnd], bool] = lambda _leave: True

    def __post_init__(self) -> None:
        connector = Connector(
            ONE_ATTEMPT,
            now=lambda: dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self.ahead),
            monotonic=lambda: time.monotonic() + self.ahead,
        )
        self.batch = AwsBatch(
            telemetry=self.telemetry,
            describe_rate=1000,
            terminate_rate=1000,
            cluster="prod",
            holds=self._holds,
            connect=connector,
            identify=connector.account,
        )

    def _holds(self, leave: MayEnd) -> bool:
        return self.holds(leave)

    async def look(self, place: Place, job_id: str) -> Any:
        return (await self.batch.describe(place, [job_id]))[job_id]

    async def terminate(self, *ids: str, place: Place = THEIR_PLACE, namespace: str = "blue") -> list[Fault | None]:
        return await asyncio.gather(
            *(self.batch.terminate(leave_to_end(job_id, place, namespace), "why") for job_id in ids)
        )

    def seed(self, account: str = THEIRS, **job: Any) -> str:
        return self.simulator.seed(account=account, **job)

    def assumed(self) -> list[dict[str, Any]]:
        return self.sts.calls("AssumeRole")


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "sandbox")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ACCOUNT_ID"):
        monkeypatch.delenv(name, raising=False)
    simulator = BatchSimulator()
    moto = FakeMoto()
    sts = sts_sandbox.StsSimulator(simulator.credentials, simulator.aws_time, moto)
    async with serve(simulator) as batch_url, sts_sandbox.serve(sts) as sts_url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_BATCH", batch_url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts_url)
        world = World(simulator, sts)
        moto.clock = lambda: time.time() + world.ahead
        yield world
        await world.batch.close(within=0.5)


def fates(faults: list[Fault | None]) -> list[Fate | None]:
    return [None if fault is None else fault.fate for fault in faults]


async def test_a_role_is_assumed_once_as_its_policy_says_and_all_looks_share_it(world: World) -> None:
    ids = [world.seed() for _ in range(3)]
    for job_id in ids:
        assert isinstance(await world.look(THEIR_PLACE, job_id), Sight)
    (asked,) = world.assumed()
    assert (asked["role"], asked["external_id"], asked["role_session"]) == (
        ROLE,
        "awsbatch-operator/prod/team-a",
        "policy,team-a@prod",
    )
    assert (asked["tags"], asked["duration"]) == ({"kubernetes-cluster": "prod"}, LIFETIME)
    assert (asked["account"], asked["region"]) == (OURS, HERE)
    assert {(call["account"], call["role"]) for call in world.simulator.calls()} == {(THEIRS, ROLE)}


async def test_sts_is_asked_in_the_region_of_the_place(world: World) -> None:
    await world.look(Place(THERE, ROLE, "team-a"), "x")
    assert [call["region"] for call in world.assumed()] == [THERE]


async def test_without_a_role_no_role_is_assumed(world: World) -> None:
    job_id = world.seed(OURS)
    assert isinstance(await world.look(OUR_PLACE, job_id), Sight)
    assert await world.terminate(job_id, place=OUR_PLACE) == [None]
    assert world.sts.calls() == []


async def test_terminations_go_by_a_session_of_their_namespace(world: World) -> None:
    blue, green = [world.seed(), world.seed()], [world.seed(), world.seed()]
    await world.look(THEIR_PLACE, blue[0])
    await asyncio.gather(world.terminate(*blue), world.terminate(*green, namespace="green"))
    await world.terminate(world.seed())
    tags = [call["tags"].get("kubernetes-namespace") for call in world.assumed()]
    assert sorted(filter(None, tags)) == ["blue", "green"], "one session each, and none of looks"
    assert all(call["tags"]["kubernetes-cluster"] == "prod" for call in world.assumed())
    sent = {request["job_id"]: request["role_session"] for request in world.simulator.terminate_requests()}
    assert [sent[job_id] for job_id in (*blue, *green)] == ["ns,blue@prod"] * 2 + ["ns,green@prod"] * 2
    assert [len(call["job_ids"]) for call in world.simulator.calls("TerminateJobs")] == [2, 2]


async def test_the_namespace_of_a_session_decides_what_iam_lets_it_end(world: World) -> None:
    world.simulator.deny("TerminateJob", account=THEIRS, job_tag="k8s-namespace", principal_tag="kubernetes-namespace")
    mine, other = world.seed(tags={"k8s-namespace": "blue"}), world.seed(tags={"k8s-namespace": "green"})
    assert fates(await world.terminate(mine, other)) == [None, Fate.DENIED]


async def test_in_a_storm_no_termination_is_signed_for_another_namespace(world: World) -> None:
    world.simulator.deny("TerminateJob", account=THEIRS, job_tag="k8s-namespace", principal_tag="kubernetes-namespace")
    names, places = [f"n{number}" for number in range(12)], [THEIR_PLACE, THEIR_PLACE._replace(policy="team-a2")]
    owners: dict[str, str] = {}

    async def storm(name: str, place: Place) -> list[Fault | None]:
        faults = list[Fault | None]()
        for size in (1, 2, 1):
            ids = [world.seed(tags={"k8s-namespace": name}) for _ in range(size)]
            owners.update(dict.fromkeys(ids, name))
            faults += await world.terminate(*ids, place=place, namespace=name)
        return faults

    for _ in range(2):
        faults = await asyncio.gather(*(storm(name, place) for name in names for place in places))
        assert {fate for some in faults for fate in fates(some)} == {None}
        # The second time all sessions have to be had anew, in the middle of it.
        world.sts.expire(ROLE)
        for key in world.batch._places._keyring._keys.values():
            key._renewals._latest = float("-inf")
    tags = {call["issued"]: call["tags"]["kubernetes-namespace"] for call in world.assumed()}
    signed = {job_id: tags[call["access_key"]] for call in world.simulator.calls() for job_id in call["job_ids"]}
    assert signed == owners
    assert len(world.assumed()) == 2 * len(names) * len(places), "each once, and once more when it had ended"


async def test_a_client_signs_nothing_outside_of_a_call(world: World) -> None:
    keyring = Keyring("prod")
    client = Connector(ONE_ATTEMPT)(lambda: keyring.ending(THEIR_PLACE))(HERE)
    with pytest.raises(UnsignedError):
        client.terminate_job(jobId=world.seed(), reason="why")
    assert world.simulator.calls() == []
    assert world.assumed() == []


async def test_a_session_that_was_revoked_is_assumed_anew_for_its_namespace_alone(world: World) -> None:
    blue, green = [[world.seed() for _ in range(2)] for _ in range(2)]
    await asyncio.gather(world.terminate(blue[0]), world.terminate(green[0], namespace="green"))
    world.sts.trust(ROLE, refuses="AccessDenied")
    world.sts.expire(ROLE)
    (fault,) = await world.terminate(blue[1])
    assert fault == Fault(Fate.DENIED, WORDS, "AccessDenied", REMEDY)
    world.sts.clear_trust()
    assert await world.terminate(green[1], namespace="green") == [None]
    assert [call["role_session"] for call in world.assumed()[2:]] == ["ns,blue@prod", "ns,green@prod"]
    assert world.batch.trouble(THEIR_PLACE) is not None, "blue's"
    world.ahead = 2
    assert await world.terminate(blue[1]) == [None]
    assert world.batch.trouble(THEIR_PLACE) is None


async def test_credentials_are_had_anew_before_they_end(world: World) -> None:
    job_id = world.seed()
    await world.look(THEIR_PLACE, job_id)
    world.ahead = LIFETIME - 601
    await world.look(THEIR_PLACE, job_id)
    assert len(world.assumed()) == 1
    world.ahead = LIFETIME - 599
    assert isinstance(await world.look(THEIR_PLACE, job_id), Sight)
    first, second = world.assumed()
    used = [call["access_key"] for call in world.simulator.calls()]
    assert used == [first["issued"], first["issued"], second["issued"]]


@pytest.mark.parametrize("refuses", ["Throttling", "InternalFailure"])
async def test_credentials_that_live_are_used_on_while_sts_is_away(world: World, refuses: str) -> None:
    job_id = world.seed()
    await world.look(THEIR_PLACE, job_id)
    world.sts.trust(ROLE, refuses=refuses)
    world.ahead = LIFETIME - 500
    for _ in range(3):
        assert isinstance(await world.look(THEIR_PLACE, job_id), Sight)
    assert len(world.assumed()) == 2, "asked again a while later, not with each look"
    world.ahead += FAILED_FOR
    await world.look(THEIR_PLACE, job_id)
    assert len(world.assumed()) == 3
    world.ahead = LIFETIME
    look = await world.look(THEIR_PLACE, job_id)
    assert isinstance(look, Fault)
    assert look.fate.passes
    world.sts.clear_trust()
    world.ahead += 2
    assert isinstance(await world.look(THEIR_PLACE, job_id), Sight)


async def test_a_refusal_at_refresh_ends_the_use_of_what_still_lives(world: World) -> None:
    job_id = world.seed()
    await world.look(THEIR_PLACE, job_id)
    world.sts.trust(ROLE, refuses="AccessDenied")
    world.ahead = LIFETIME - 500
    assert (await world.look(THEIR_PLACE, job_id)).fate is Fate.DENIED


REFUSALS = {
    "AccessDenied": Fate.DENIED,
    "RegionDisabledException": Fate.DENIED,
    "PackedPolicyTooLarge": Fate.DENIED,
    "Throttling": Fate.THROTTLED,
    "InternalFailure": Fate.UNAVAILABLE,
    "ServiceUnavailable": Fate.UNAVAILABLE,
}


@pytest.mark.parametrize(("code", "fate"), REFUSALS.items())
async def test_a_role_that_cannot_be_assumed_is_no_affair_of_others(world: World, code: str, fate: Fate) -> None:
    world.sts.trust(ROLE, refuses=code)
    mine, other, ours = world.seed(), world.seed("333333333333"), world.seed(OURS)
    look = await world.look(THEIR_PLACE, mine)
    assert look == Fault(fate, WORDS, code, REMEDY)
    assert await world.terminate(mine) == [look]
    assert isinstance(await world.look(OTHER_PLACE, other), Sight)
    assert isinstance(await world.look(OUR_PLACE, ours), Sight)
    trouble = world.batch.trouble(THEIR_PLACE)
    assert trouble is not None
    assert (trouble.fate, trouble.code) == (fate, code)
    assert (world.batch.trouble(OTHER_PLACE), world.batch.trouble(OUR_PLACE)) == (None, None)
    assert world.simulator.calls(account=THEIRS) == []


async def test_the_words_of_aws_are_kept_for_the_policy(world: World) -> None:
    world.sts.trust(ROLE, external_id="another")
    with capture_logs() as lines:
        look = await world.look(THEIR_PLACE, world.seed())
    assert look.message == WORDS
    trouble = world.batch.trouble(THEIR_PLACE)
    assert trouble is not None
    assert f"not authorized to perform: sts:AssumeRole on resource: {ROLE}" in trouble.message
    (line,) = lines
    assert (line["account"], line["role"], line["region"]) == (THEIRS, "batch-team-a", HERE)
    assert ROLE not in str(line)


async def test_a_role_that_trusts_again_is_assumed_with_the_next_look(world: World) -> None:
    job_id = world.seed()
    world.sts.trust(ROLE, refuses="AccessDenied")
    await world.look(THEIR_PLACE, job_id)
    world.sts.clear_trust()
    world.ahead = 2
    assert isinstance(await world.look(THEIR_PLACE, job_id), Sight)
    assert world.batch.trouble(THEIR_PLACE) is None


async def test_calls_that_wait_for_one_refusal_share_it(world: World) -> None:
    world.sts.trust(ROLE, refuses="AccessDenied", latency=0.1)
    looks = await asyncio.gather(*(world.look(THEIR_PLACE, f"j{n}") for n in range(12)))
    assert {look.fate for look in looks} == {Fate.DENIED}
    assert len(world.assumed()) == 1


async def test_a_role_that_hangs_delays_nobody_else(world: World) -> None:
    world.sts.trust(ROLE, latency=1)
    other, ours = world.seed("333333333333"), world.seed(OURS)
    hanging = [asyncio.create_task(world.look(THEIR_PLACE, f"j{n}")) for n in range(20)]
    hanging += [asyncio.create_task(world.terminate("x", namespace=f"n{n}")) for n in range(20)]
    await asyncio.sleep(0.2)
    began = time.monotonic()
    for place, job_id in ((OTHER_PLACE, other), (OUR_PLACE, ours)):
        assert isinstance(await world.look(place, job_id), Sight)
        assert await world.terminate(job_id, place=place) == [None]
    assert time.monotonic() - began < 1
    assert not any(task.done() for task in hanging)
    for task in hanging:
        task.cancel()


async def test_a_session_that_batch_takes_no_more_is_assumed_anew_for_its_place_alone(world: World) -> None:
    mine, other = world.seed(), world.seed("333333333333")
    await world.look(THEIR_PLACE, mine)
    await world.look(OTHER_PLACE, other)
    world.sts.expire(ROLE)
    assert isinstance(await world.look(THEIR_PLACE, mine), Sight)
    assert isinstance(await world.look(OTHER_PLACE, other), Sight)
    assert [call["role"] for call in world.assumed()] == [ROLE, OTHER_ROLE, ROLE]
    world.sts.expire(ROLE)
    assert (await world.look(THEIR_PLACE, mine)).fate is Fate.CREDENTIALS, "not twice within ten seconds"
    assert len(world.assumed()) == 3


async def test_own_credentials_that_sts_does_not_know_are_told_as_such(world: World) -> None:
    world.simulator.settings(unlisted_keys=False, accounts={}, secrets={"sandbox": "another"})
    look = await world.look(THEIR_PLACE, world.seed())
    assert (look.fate, look.code) == (Fate.CREDENTIALS, "SignatureDoesNotMatch")
    assert len(world.assumed()) == 2, "tried once more with a new session"
    world.simulator.settings(secrets={})
    world.ahead = 2
    assert isinstance(await world.look(THEIR_PLACE, world.seed()), Sight)


def lapses(job_id: str, after: int) -> Callable[[MayEnd], bool]:
    """The leave for this job holds so many times that it is asked."""
    asked = iter(range(after))
    return lambda leave: leave.job_id != job_id or next(asked, None) is not None


@pytest.mark.parametrize("after", [0, 1, 2], ids=["with its turn", "before it is sent", "with the last byte"])
async def test_a_termination_whose_leave_lapses_is_not_sent(world: World, after: int) -> None:
    job_id = world.seed()
    await world.terminate(world.seed())
    world.simulator.clear_calls()
    world.holds = lapses(job_id, after)
    assert fates(await world.terminate(job_id)) == [Fate.LAPSED]
    assert world.simulator.calls() == []
    assert world.telemetry.requests == [("TerminateJob", "OK")], "it was no call to AWS"


async def test_a_leave_is_asked_three_times(world: World) -> None:
    job_id = world.seed()
    world.holds = lapses(job_id, 3)
    assert await world.terminate(job_id) == [None]


@pytest.mark.parametrize("after", [0, 1, 2], ids=["with its turn", "before it is sent", "with the last byte"])
async def test_of_those_that_share_a_call_only_the_lapsed_is_not_sent(world: World, after: int) -> None:
    ids = [world.seed() for _ in range(3)]
    world.holds = lapses(ids[1], after)
    assert fates(await world.terminate(*ids)) == [None, Fate.LAPSED, None]
    assert sorted(request["job_id"] for request in world.simulator.terminate_requests()) == sorted([ids[0], ids[2]])


async def test_without_the_bulk_call_each_goes_by_its_own_leave(world: World) -> None:
    world.simulator.settings(bulk_available=False)
    ids = [world.seed() for _ in range(3)]
    # Asked for the bulk call with its turn, before and with the last byte; then before the single one.
    world.holds = lapses(ids[1], 3)
    assert fates(await world.terminate(*ids)) == [None, Fate.LAPSED, None]
    assert [call["job_ids"] for call in world.simulator.calls("TerminateJob")] == [[ids[0]], [ids[2]]]


async def test_own_account_is_asked_for_once_and_only_when_a_job_is_missing(world: World) -> None:
    await world.batch.prepare(HERE)
    assert world.batch.account(OUR_PLACE) is None
    assert world.sts.calls() == []
    for _ in range(3):
        assert await world.look(OUR_PLACE, "unknown") is ABSENT
    assert [call["action"] for call in world.sts.calls()] == ["GetCallerIdentity"]
    assert world.batch.account(OUR_PLACE) == OURS
    assert list(world.telemetry.looked_at) == [Whose(OURS, HERE, "")]


async def test_own_account_is_known_by_what_an_answer_shows(world: World) -> None:
    await world.look(OUR_PLACE, world.seed(OURS))
    assert world.batch.account(OUR_PLACE) == OURS
    assert await world.look(OUR_PLACE, "unknown") is ABSENT
    assert world.sts.calls() == []


async def test_own_account_may_be_known_to_the_chain(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCOUNT_ID", "444444444444")
    await world.batch.prepare(HERE)
    assert world.batch.account(OUR_PLACE) == "444444444444"
    assert world.sts.calls() == []


async def test_an_account_that_cannot_be_asked_for_stays_unknown_and_the_look_counts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    assert await world.look(OUR_PLACE, "unknown") is ABSENT
    assert world.batch.account(OUR_PLACE) is None
    assert list(world.telemetry.looked_at) == [Whose("", HERE, "")]


async def test_the_account_of_a_role_is_known_without_asking(world: World) -> None:
    assert world.batch.account(THEIR_PLACE) == THEIRS
    await world.look(THEIR_PLACE, "unknown")
    assert world.sts.calls("GetCallerIdentity") == []
    assert set(world.telemetry.whose) == {Whose(THEIRS, HERE, "batch-team-a")}
