"""Places and sessions over fake clients, under virtual time: what is kept, what is shared, what is closed."""

import asyncio
import datetime as dt
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError

from awsbatch_operator.aws.batch import AwsBatch
from awsbatch_operator.aws.credentials import AssumedRole
from awsbatch_operator.aws.errors import NotAssumedError, fault_of_assuming
from awsbatch_operator.aws.identity import AGAIN_AFTER, Identity
from awsbatch_operator.aws.keyring import PickKey
from awsbatch_operator.aws.places import IDLE_AFTER
from awsbatch_operator.domain.admission import MayEnd
from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.job import ABSENT, Place
from awsbatch_operator.domain.ports import Whose
from builders import leave_to_end
from fakes.telemetry import FakeTelemetry
from unit.aws.fake_client import FakeClient, refusal

pytestmark = pytest.mark.looptime(start=0)

HERE = "eu-west-1"
ACCOUNT = "222222222222"
TEAM_A = Place(HERE, f"arn:aws:iam::{ACCOUNT}:role/teams/a", "team-a")
TEAM_B = Place(HERE, f"arn:aws:iam::{ACCOUNT}:role/b", "team-b")
ELSEWHERE = Place(HERE, "arn:aws:iam::333333333333:role/c", "team-c")
THROTTLE = refusal("TooManyRequestsException", 429, "Too Many Requests")


class Signing(FakeClient):
    """Asks whose key signs each call, as botocore does."""

    def __init__(self, key: PickKey | None) -> None:
        super().__init__()
        self._key = key
        self.signed: list[str] = []
        self.called = threading.Event()

    def _reply(self, *call: Any) -> Mapping[str, Any]:
        self.signed.append(self._key().session.name if self._key else "own")
        self.called.set()
        return super()._reply(*call)


@dataclass
class World:
    """`clients` in the order in which they were made."""

    telemetry: FakeTelemetry = field(default_factory=FakeTelemetry)
    clients: list[Signing] = field(default_factory=list)
    rate: float = 1000.0

    def __post_init__(self) -> None:
        self.batch = AwsBatch(
            telemetry=self.telemetry, describe_rate=self.rate, terminate_rate=self.rate, connect=self.connect
        )

    def connect(self, key: PickKey | None) -> Callable[[str], FakeClient]:
        def make(_region: str) -> FakeClient:
            self.clients.append(Signing(key))
            return self.clients[-1]

        return make

    def client(self, signed: str) -> Signing:
        """The one of which a call was signed so."""
        (found,) = (client for client in self.clients if signed in client.signed)
        return found

    async def terminate(self, job_id: str, place: Place = TEAM_A, namespace: str = "blue") -> Fault | None:
        return await self.batch.terminate(leave_to_end(job_id, place, namespace), "why")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.batch.close(within=1)


def ending(namespace: str) -> str:
    return f"ns,{namespace}@kubernetes"


async def test_one_client_ends_the_jobs_of_all_namespaces_each_by_its_own_session(world: World) -> None:
    for name in ("blue", "green", "blue"):
        await world.terminate("x", namespace=name)
    await world.terminate("x", place=TEAM_B)
    assert [client.signed for client in world.clients] == [
        [ending("blue"), ending("green"), ending("blue")],
        [ending("blue")],
    ]


async def test_a_termination_that_rests_on_no_leave_is_neither_signed_nor_the_end_of_others(world: World) -> None:
    lane = world.batch._places.at(TEAM_A).terminations
    fault = await lane.call("TerminateJob", ["x"], lambda client: client.terminate_job(jobId="x", reason="why"))
    assert isinstance(fault, Fault)
    assert (fault.fate, fault.code) == (Fate.UNAVAILABLE, "UnsignedError")
    assert world.clients == []
    assert await world.terminate("x") is None


async def test_a_place_with_a_call_under_way_is_not_closed(world: World) -> None:
    await world.terminate("x")
    client = world.client(ending("blue"))
    gate = client.gates["TerminateJob"] = threading.Event()
    client.called.clear()
    slow = asyncio.create_task(world.terminate("slow", namespace="green"))
    assert await asyncio.to_thread(client.called.wait, 5)
    # The loop's time stands still while a thread works for it.
    places = world.batch._places
    places.at(TEAM_A).used_at = places._swept_at = -IDLE_AFTER
    await world.batch.describe(TEAM_B, ["x"])
    assert places._swept_at >= 0
    assert not any(client.closed for client in world.clients)
    gate.set()
    assert await slow is None


async def test_regions_that_anybody_wrote_into_a_spec_leave_nothing_behind(world: World) -> None:
    await world.batch.prepare(HERE)
    wild = [Place(f"xx-wild-{number}") for number in range(20)]
    for place in wild:
        await world.batch.look_budget(place)
        await world.batch.describe(place, ["x"])
    await asyncio.sleep(IDLE_AFTER + 61)
    await world.batch.describe(Place(HERE), ["x"])
    places = world.batch._places
    assert (set(places._reaches), set(places._budgets)) == ({Place(HERE)}, set())
    assert sum(client.closed for client in world.clients) == len(wild)
    assert set(world.telemetry.looked_at) == {Whose("", HERE, "")}
    assert world.telemetry.forgotten_of == [Whose("", place.region, "") for place in wild]
    assert await world.batch.describe(wild[0], ["x"]) == {"x": ABSENT}, "closed, not broken"


async def test_an_idle_place_is_closed_and_its_age_forgotten_and_the_operators_own_is_not(world: World) -> None:
    await world.batch.prepare(HERE)
    own = set(threading.enumerate())
    for place in (TEAM_A, TEAM_B, Place(HERE)):
        await world.batch.describe(place, ["x"])
    await world.terminate("x")
    (thread,) = (one for one in threading.enumerate() if one not in own and one.name.startswith("terminate"))
    await asyncio.sleep(IDLE_AFTER - 61)
    await world.batch.describe(TEAM_B, ["x"])
    await asyncio.sleep(61)
    await world.batch.describe(TEAM_B, ["x"])
    closed = [client.signed[0] for client in world.clients if client.closed]
    assert sorted(closed) == [ending("blue"), "policy,team-a@kubernetes"]
    assert set(world.telemetry.looked_at) == {Whose(ACCOUNT, HERE, "b"), Whose("", HERE, "")}
    await asyncio.to_thread(thread.join, 5)
    assert not thread.is_alive()
    await world.batch.describe(TEAM_A, ["x"])
    assert Whose(ACCOUNT, HERE, "a") in world.telemetry.looked_at


async def test_the_trouble_of_a_place_goes_with_it(world: World) -> None:
    await world.terminate("x")
    refused = Fault(Fate.DENIED, "no", "AccessDenied")
    world.client(ending("blue")).script["TerminateJob"] = [NotAssumedError(refused)]
    await world.terminate("x")
    assert world.batch.trouble(TEAM_A) == refused
    await asyncio.sleep(IDLE_AFTER + 1)
    await world.batch.describe(TEAM_B, ["x"])
    assert world.batch.trouble(TEAM_A) is None


async def test_roles_of_one_account_share_its_budget_and_other_accounts_have_theirs() -> None:
    world = World(rate=1.0)
    for place in (TEAM_A, TEAM_B) * 5:
        await world.batch.look_budget(place)
    await world.batch.look_budget(ELSEWHERE)
    await world.batch.look_budget(Place(HERE))
    await world.batch.look_budget(TEAM_A._replace(region="us-east-1"))
    assert asyncio.get_running_loop().time() == 0
    await world.batch.look_budget(TEAM_B)
    assert asyncio.get_running_loop().time() == pytest.approx(1.0, abs=0.1)
    await world.batch.close()


async def test_what_an_unnamed_account_was_found_to_grant_is_kept_when_it_is_named() -> None:
    world = World(rate=1.0)
    for _ in range(10):
        await world.batch.look_budget(Place(HERE))
    world.batch._identity.learn(HERE, ACCOUNT)
    await world.batch.look_budget(TEAM_A)
    await world.batch.look_budget(Place(HERE))
    assert asyncio.get_running_loop().time() == pytest.approx(2.0, abs=0.1)
    await world.batch.close()


async def test_a_throttled_place_slows_its_own_account_alone() -> None:
    world = World(rate=4.0)
    await world.batch.describe(TEAM_A, ["x"])
    world.client("policy,team-a@kubernetes").script["DescribeJobs"] = [THROTTLE]
    await world.batch.describe(TEAM_A, ["x"])
    await world.batch.look_budget(ELSEWHERE)
    assert asyncio.get_running_loop().time() == 0
    await world.batch.look_budget(TEAM_B)
    assert asyncio.get_running_loop().time() == pytest.approx(0.48, abs=0.06)
    await world.batch.close()


async def test_when_the_account_has_a_name_the_figures_without_one_end(world: World) -> None:
    await world.batch.describe(Place(HERE), ["x"])
    assert set(world.telemetry.looked_at) == {Whose("", HERE, "")}
    world.batch._identity.learn(HERE, ACCOUNT)
    await world.batch.describe(Place(HERE), ["x"])
    assert set(world.telemetry.looked_at) == {Whose(ACCOUNT, HERE, "")}


async def test_the_same_job_asked_for_by_two_namespaces_goes_out_once(world: World) -> None:
    faults = await asyncio.gather(
        *(world.terminate("x", place=Place(HERE), namespace=name) for name in ("blue", "green"))
    )
    assert faults == [None, None]
    assert world.client("own").calls == [("TerminateJob", ("x",), "why")]


async def test_others_that_share_a_call_with_a_lapsed_one_are_still_searched_by_halves() -> None:
    lapsed = {"j1"}

    def holds(leave: MayEnd) -> bool:
        return leave.job_id not in lapsed

    client = FakeClient()
    batch = AwsBatch(
        telemetry=FakeTelemetry(), terminate_rate=1000, holds=holds, connect=lambda _session: lambda _region: client
    )
    bad = refusal("ClientException", 400, "no")
    client.script["TerminateJobs"] = [bad]
    client.script["TerminateJob"] = [bad]
    faults = await asyncio.gather(*(batch.terminate(leave_to_end(f"j{n}"), "why") for n in range(4)))
    assert [None if one is None else one.fate for one in faults] == [Fate.REJECTED, Fate.LAPSED, None, None]
    await batch.close()


def answer(ends_in: float, **broken: Any) -> Mapping[str, Any]:
    ends = dt.datetime.fromtimestamp(ends_in, dt.UTC)
    given = {"AccessKeyId": "ASIA", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": ends}
    return {"Credentials": given | broken}


UNREADABLE: list[Mapping[str, Any]] = [
    {},
    {"Credentials": None},
    answer(7200, AccessKeyId=""),
    answer(7200, SessionToken=None),
    answer(7200, Expiration=None),
    answer(7200, Expiration="soon"),
    answer(0),
]


@pytest.mark.parametrize("given", UNREADABLE)
def test_an_answer_of_sts_that_cannot_be_used_passes_and_ends_nothing(given: Mapping[str, Any]) -> None:
    role = AssumedRole(lambda: given, lambda: dt.datetime.fromtimestamp(3600, dt.UTC), lambda: 0.0)
    with pytest.raises(NotAssumedError) as caught:
        role()
    assert caught.value.fault.fate is Fate.UNAVAILABLE


ASSUMING = [
    (refusal("AccessDenied", 403, "not authorized", "AssumeRole"), Fate.DENIED),
    (refusal("ValidationError", 400, "1 validation error", "AssumeRole"), Fate.DENIED),
    (refusal("MalformedPolicyDocument", 400, "", "AssumeRole"), Fate.DENIED),
    (refusal("RegionDisabledException", 403, "", "AssumeRole"), Fate.DENIED),
    (refusal("InvalidParameterValue", 400, "conflicts with a transitive tag key", "AssumeRole"), Fate.DENIED),
    (refusal("ExpiredToken", 403, "", "AssumeRole"), Fate.CREDENTIALS),
    (refusal("InvalidClientTokenId", 403, "", "AssumeRole"), Fate.CREDENTIALS),
    (refusal("Throttling", 400, "Rate exceeded", "AssumeRole"), Fate.THROTTLED),
    (refusal("ServiceUnavailable", 503, "", "AssumeRole"), Fate.UNAVAILABLE),
    (ConnectTimeoutError(endpoint_url="https://sts"), Fate.UNAVAILABLE),
]


@pytest.mark.parametrize(("error", "fate"), ASSUMING, ids=[str(error) for error, _ in ASSUMING])
def test_why_a_role_is_not_assumed(error: Exception, fate: Fate) -> None:
    assert fault_of_assuming(error).fate is fate


def test_an_account_that_could_not_be_asked_for_is_asked_for_again_minutes_later() -> None:
    clock, asked = [0.0], list[bool]()

    def identify(_region: str, _shown: str | None, ask: bool) -> str | None:
        asked.append(ask)
        if ask:
            raise ConnectTimeoutError(endpoint_url="https://sts")
        return None

    identity = Identity(identify, monotonic=lambda: clock[0])
    for clock[0] in (0.0, 1.0, AGAIN_AFTER - 1, AGAIN_AFTER):
        identity.learn(HERE, needed=True)
    identity.learn(HERE)
    assert asked == [True, False, False, True, False]
    assert identity.account is None


def test_an_account_is_unknown_again_when_nobody_vouches_for_it_and_keeps_its_name() -> None:
    answers = iter([ACCOUNT, None, None])
    identity = Identity(lambda _region, _shown, _ask: next(answers))
    identity.learn(HERE)
    identity.learn(HERE)
    assert identity.account == ACCOUNT, "nobody needed to know"
    identity.learn(HERE, needed=True)
    assert identity.account is None
    assert identity.named == ACCOUNT


async def test_sts_is_worth_a_call_only_when_a_job_is_missing() -> None:
    asked = list[bool]()

    def identify(_region: str, _shown: str | None, ask: bool) -> str | None:
        asked.append(ask)
        return None

    batch = AwsBatch(
        telemetry=FakeTelemetry(), connect=lambda _session: lambda _region: FakeClient("a"), identify=identify
    )
    await batch.describe(Place(HERE), ["a"])
    await batch.describe(Place(HERE), ["a", "missing"])
    await batch.describe(TEAM_A, ["missing"])
    assert asked == [False, True]
    await batch.close()
