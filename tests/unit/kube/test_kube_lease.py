"""At most one replica leads, under faults of processes, clocks and network."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from awsbatch_operator.kube.client import ApiError
from awsbatch_operator.kube.lease import LeaderElector, LeaseError
from unit.kube.replicas import ANSWER_LOST, GOOD, HANGS, LATENCY, Replica, Trip, World
from unit.kube.scripted_client import Reply, Script, ScriptedClient

A_MOMENT = 4 * LATENCY


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def led(world: World) -> tuple[Replica, Replica]:
    """Two replicas, of which the first leads."""
    first = Replica(world, "first")
    world.run_until_led_by(first, A_MOMENT)
    return first, Replica(world, "second")


def test_the_first_replica_creates_the_lease_and_leads(world: World) -> None:
    replica = Replica(world, "pod-1_abcd", day=1)
    world.run_until_led_by(replica, A_MOMENT)
    assert world.record == {
        "holderIdentity": "pod-1_abcd",
        "leaseDurationSeconds": 15,
        "acquireTime": "1970-01-02T00:00:00.020000Z",
        "renewTime": "1970-01-02T00:00:00.020000Z",
        "leaseTransitions": 0,
    }
    assert replica.callbacks == [(world.now, "started")]


def test_the_leader_renews_without_further_callbacks(world: World) -> None:
    leader, _ = led(world)
    before = dict(world.record)
    world.run(60)
    assert world.record == {**before, "renewTime": world.record["renewTime"]}
    assert world.record["renewTime"] >= "1970-01-01T00:00:58"
    assert leader.callback_names == ["started"]
    assert 30 <= len(leader.client.calls) <= 33, "one call each two seconds"


def test_another_replica_waits_as_long_as_the_lease_is_renewed_whatever_the_calendars_say(world: World) -> None:
    leader = Replica(world, "first", day=-400)
    world.run_until_led_by(leader, A_MOMENT)
    waiting = Replica(world, "second", day=400, skew=9_999)
    world.run(300)
    assert (leader.is_leader, waiting.callbacks) == (True, [])


@pytest.mark.parametrize("after", [0.0, 0.5, 1.0, 1.5, 1.97])
@pytest.mark.parametrize("phase", [0.0, 0.7, 1.4])
def test_after_a_crash_another_leads_within_17_seconds(world: World, after: float, phase: float) -> None:
    leader = Replica(world, "first")
    world.run_until_led_by(leader, A_MOMENT)
    world.run(phase)
    other = Replica(world, "second")
    world.run(20 + after)
    leader.freeze()
    took = world.run_until_led_by(other, 20)
    assert 13 < took <= 17 + A_MOMENT
    assert (world.record["holderIdentity"], world.record["leaseTransitions"]) == ("second", 1)


def test_after_a_graceful_end_another_leads_within_3_seconds(world: World) -> None:
    leader, other = led(world)
    world.run(20)
    leader.stop()
    world.run(A_MOMENT)
    assert (world.record["holderIdentity"], world.record["leaseDurationSeconds"]) == ("", 1)
    assert leader.callback_names == ["started", "stopped"]
    assert world.run_until_led_by(other, 3) <= 2 + A_MOMENT
    assert (world.record["leaseTransitions"], world.record["leaseDurationSeconds"]) == (1, 15)


@pytest.mark.parametrize("hang", [HANGS, ANSWER_LOST])
def test_a_hung_api_server_does_not_prolong_leadership(world: World, hang: Trip) -> None:
    leader = Replica(world, "first")
    leader.client.fares([GOOD, Trip(there=1, back=3)])
    world.run_until_led_by(leader, 5)
    started = leader.client.calls[-1][0]
    world.trip = lambda: hang
    world.run(30)
    assert leader.callback_names == ["started", "stopped"]
    assert leader.callbacks[1][0] == pytest.approx(started + 10, abs=1e-5)


def test_a_hang_shorter_than_the_deadline_costs_nothing(world: World) -> None:
    leader, _ = led(world)
    leader.client.fares([HANGS])
    world.run(60)
    assert leader.callback_names == ["started"]


def test_an_answer_that_got_lost_costs_nothing(world: World) -> None:
    leader, other = led(world)
    leader.client.fares([ANSWER_LOST])
    world.run(60)
    assert leader.callback_names == ["started"]
    assert other.callbacks == []


def test_requests_that_succeed_again_are_reported_before_leading_starts(world: World) -> None:
    leader, _ = led(world)
    world.run(20)
    world.trip = lambda: HANGS
    world.run(30)
    assert leader.reconnected == []
    world.trip = lambda: GOOD
    world.run_until_led_by(leader, 20)
    assert leader.callback_names == ["started", "stopped", "started"]
    assert leader.reconnected == [leader.callbacks[-1][0]]
    world.run(60)
    assert len(leader.reconnected) == 1


def test_a_leader_that_reads_another_holder_stops_leading_at_once(world: World) -> None:
    leader, _ = led(world)
    world.run(20)
    world.edit(holderIdentity="somebody")
    world.run(2 + A_MOMENT)
    assert leader.callback_names == ["started", "stopped"]
    assert world.record["holderIdentity"] == "somebody"


def test_foreign_fields_of_the_lease_are_kept(world: World) -> None:
    leader, _ = led(world)
    world.run(20)
    world.edit(annotations={"team": "a"}, preferredHolder="pod-9")
    world.run(20)
    assert leader.callback_names == ["started"]
    assert world.lease is not None
    assert world.lease["metadata"]["annotations"] == {"team": "a"}
    assert world.record["preferredHolder"] == "pod-9"


def test_a_frozen_leader_notices_its_loss_before_it_acts(world: World) -> None:
    leader, other = led(world)
    world.run(20)
    leader.freeze(30)
    calls = len(leader.client.calls)
    world.run(29.9)
    assert leader.acts, "no callback was called yet"
    assert not leader.is_leader, "the clock says so"
    assert other.is_leader
    world.run(0.1 + A_MOMENT)
    assert leader.callback_names == ["started", "stopped"]
    assert [verb for _, verb in leader.client.calls[calls:]] == ["put", "get"], "it read the Lease and did not take it"


def test_an_expired_leadership_starts_again_even_without_another_holder(world: World) -> None:
    leader = Replica(world, "first")
    world.run_until_led_by(leader, A_MOMENT)
    leader.freeze(12)
    world.run(13)
    assert leader.callback_names == ["started", "stopped", "started"]
    assert world.record["leaseTransitions"] == 0


def test_a_leadership_that_expires_between_two_loop_iterations_starts_again(world: World) -> None:
    leader = Replica(world, "first")
    world.run_until_led_by(leader, A_MOMENT)
    leader.client.fares([Trip(status=500)] * 3)
    world.run(7)
    leader.client.freezes_for = 3
    world.run(2)
    assert leader.callback_names == ["started", "stopped", "started"]


def test_one_of_several_simultaneous_candidates_wins(world: World) -> None:
    replicas = [Replica(world, name) for name in "abc"]
    world.run(A_MOMENT)
    assert world.leaders == ["a"]
    world.run(10)
    assert [len(replica.callbacks) for replica in replicas] == [1, 0, 0]
    replicas[0].freeze()
    world.run(18)
    assert sum(len(replica.callbacks) for replica in replicas[1:]) == 1


@pytest.mark.parametrize("when", [20.0, 20.4, 20.8, 21.2, 21.6])
def test_a_deleted_lease_is_created_again_by_its_holder(world: World, when: float) -> None:
    leader = Replica(world, "first")
    other = Replica(world, "second", jitter=0.0)
    world.run(when)
    world.lease = None
    world.run(2 + A_MOMENT)
    assert leader.callback_names == ["started", "stopped", "started"]
    assert world.record["holderIdentity"] == "first"
    assert other.callbacks == []


def test_a_lease_without_a_holder_is_acquired(world: World) -> None:
    leader, other = led(world)
    world.run(20)
    leader.freeze()
    world.run(11)
    world.edit(holderIdentity=None)
    world.run_until_led_by(other, 2 + A_MOMENT)


def test_another_duration_in_the_record_counts(world: World) -> None:
    leader, other = led(world)
    world.run(20)
    leader.freeze()
    world.edit(leaseDurationSeconds=60)
    assert 58 < world.run_until_led_by(other, 70) <= 62


def test_a_beginning_lead_is_cut_short_when_it_is_lost(world: World) -> None:
    leader = Replica(world, "first")
    leader.start_takes = 8
    world.run_until_led_by(leader, A_MOMENT)
    world.run(5)
    world.edit(holderIdentity="somebody")
    world.run(10)
    assert leader.callback_names == ["started", "stopped"]


def test_renewals_go_on_while_leading_starts(world: World) -> None:
    leader = Replica(world, "first")
    leader.start_takes = 30
    world.run(40)
    assert leader.callback_names == ["started", "started"], "at its begin and at its end"


def test_an_error_of_the_lead_ends_the_election_and_the_lead_lapses(world: World) -> None:
    leader = Replica(world, "first")
    leader.start_fails = True
    world.run(9)
    assert isinstance(leader.run.exception(), ExceptionGroup)
    assert leader.is_leader
    world.run(2)
    assert leader.callback_names == ["started", "stopped"]


def test_a_follower_releases_nothing(world: World) -> None:
    leader, other = led(world)
    world.run(20)
    other.stop()
    world.run(1)
    assert [verb for _, verb in other.client.calls[-2:]] == ["get", "get"]
    assert leader.callback_names == ["started"]


def test_a_release_that_meets_an_edit_is_tried_again(world: World) -> None:
    leader = Replica(world, "first")
    world.run(21)
    calls = len(leader.client.calls)
    leader.stop()
    world.later(2 * LATENCY, lambda: world.edit(annotations={"team": "a"}))
    world.run(1)
    assert [verb for _, verb in leader.client.calls[calls:]] == ["get", "put", "get", "put"]
    assert world.record["holderIdentity"] == ""


def test_an_unavailable_api_server_does_not_delay_the_end(world: World) -> None:
    leader, _ = led(world)
    world.trip = lambda: HANGS
    leader.stop()
    with capture_logs() as logs:
        world.run(1.1)
    assert [line["event"] for line in logs] == ["lost leadership", "failed to release lease; it expires by itself"]


def test_failed_renewals_are_logged_when_they_begin_and_end(world: World) -> None:
    leader, _ = led(world)
    leader.client.fares([Trip(status=500)] * 3)
    with capture_logs() as logs:
        world.run(20)
    assert [line["event"] for line in logs] == ["failed to renew lease", "lease requests succeed again"]
    assert leader.is_leader


WHY = {"awsbatch.dev/suspend-terminations": "why"}


def test_each_replica_receives_an_annotation_within_two_seconds_and_the_lease_keeps_it(world: World) -> None:
    leader, other = led(world)
    for edited in (WHY, {"another": ""}, WHY):
        world.edit(annotations=edited)
        at = world.now
        world.run(2.2)
        for replica in (leader, other):
            assert next(received for received, which in replica.annotations if received > at and which == edited)
    world.run(60)
    assert world.lease is not None
    assert world.lease["metadata"]["annotations"] == WHY
    assert leader.callback_names == ["started"]


@pytest.mark.parametrize("end", ["crash", "release", "edited meanwhile"])
def test_the_next_leader_knows_the_annotations_before_it_leads_and_keeps_them(world: World, end: str) -> None:
    leader, other = led(world)
    world.edit(annotations=WHY if end != "edited meanwhile" else {})
    world.run(10)
    if end == "crash":
        leader.freeze()
    else:
        leader.stop()
    if end == "edited meanwhile":
        # Both have a copy from before: neither its release nor the takeover may bring it back.
        world.edit(annotations=WHY)
    world.run_until_led_by(other, 20)
    assert world.lease is not None
    assert world.lease["metadata"]["annotations"] == WHY
    (led_at, _), *_ = other.callbacks
    assert [which for received, which in other.annotations if received <= led_at][-1] == WHY


def test_the_annotations_end_with_the_lease(world: World) -> None:
    leader, _ = led(world)
    world.edit(annotations=WHY)
    world.run(4)
    world.lease = None
    world.run(4)
    assert leader.annotations[-1][1] == {}


async def test_a_forbidden_lease_is_reported_with_its_remedy() -> None:
    elector = LeaderElector(ScriptedClient(lambda *_: ApiError(403, "no")), "ns", "lock", "me")
    with pytest.raises(LeaseError, match=r"grant get, create and update on leases .* in namespace ns"):
        await elector.check()
    assert not elector.is_leader


def lease_server(*denied: str, exists: bool) -> Script:
    """An API server with a Lease or without, whose reviews deny these verbs."""

    def script(verb: str, path: str, sent: Mapping[str, Any]) -> Reply:
        if verb == "get":
            return {"spec": {}} if exists else ApiError(404, "no such Lease")
        requested = sent["spec"]["resourceAttributes"]
        assert (requested["group"], requested["resource"], requested["namespace"]) == (
            "coordination.k8s.io",
            "leases",
            "ns",
        )
        # A rule for the one name grants update, and create by no rule with a name.
        assert requested["name"] == ("" if requested["verb"] == "create" else "lock")
        return {"status": {"allowed": requested["verb"] not in denied}}

    return script


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (lease_server("update", exists=True), r"the Lease ns/lock \(update leases\): grant"),
        (lease_server("create", exists=False), r"the Lease ns/lock \(create leases\): grant"),
        (lease_server("create", "update", exists=False), r"\(create leases and update leases\)"),
    ],
)
async def test_missing_lease_permissions_are_reported_at_the_start(script: Script, message: str) -> None:
    with pytest.raises(LeaseError, match=message):
        await LeaderElector(ScriptedClient(script), "ns", "lock", "me").check()


async def test_an_existing_lease_needs_no_create_permission() -> None:
    await LeaderElector(ScriptedClient(lease_server("create", exists=True)), "ns", "lock", "me").check()


@pytest.mark.parametrize("status", [0, 404, 500])
async def test_other_errors_at_the_start_are_ignored(status: int) -> None:
    await LeaderElector(ScriptedClient(lambda *_: ApiError(status, "no")), "ns", "lock", "me").check()


TRIPS = st.one_of(
    st.just(GOOD),
    st.builds(Trip, there=st.sampled_from([0, 0.5, 4, 9, 14, 25]), back=st.sampled_from([0, 0.5, 4, 9, 14])),
    st.sampled_from([HANGS, ANSWER_LOST, Trip(status=500), Trip(status=429)]),
)
PAUSES = st.lists(st.tuples(st.floats(0, 20), st.sampled_from([0.5, 3, 9, 11, 14, 16, 40])), max_size=3)
RATES = st.floats(0.9, 1.1)


@given(
    st.lists(
        st.tuples(st.lists(TRIPS, max_size=20), PAUSES, RATES, st.floats(0, 1e6), st.floats(0, 1)),
        min_size=2,
        max_size=3,
    )
)
def test_at_most_one_replica_leads_and_finally_one_does(
    fortunes: list[tuple[list[Trip], list[tuple[float, float]], float, float, float]],
) -> None:
    with World() as world:
        for number, (trips, pauses, rate, skew, jitter) in enumerate(fortunes):
            replica = Replica(world, f"replica-{number}", rate=rate, skew=skew, jitter=jitter)
            replica.client.fares(trips)
            at = 0.0
            for wait, length in pauses:
                world.later(at + wait, lambda replica=replica, length=length: replica.freeze(length))  # type: ignore[misc]
                at += wait + length
        world.run(340)
        assert len(world.leaders) == 1
