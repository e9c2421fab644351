from dataclasses import replace

from bench.measures import Latency, Mass, Single, Sync, latency
from bench.policy_edits import Edit, Edits
from bench.process import Memory
from bench.report import Row, rows_of, table
from bench.rounds import Share, Steady
from bench.scenarios import Findings, Result
from bench.tenants import Where
from bench.with_policies import UnderPolicies

POLLS = Steady(seconds=30.0, cpu_percent=0.5, calls=30, polls=3000, writes=0, objects=1000)
OURS = Findings(
    syncs=[Sync(1.0, 6.0), Sync(1.0, 5.0), Sync(1.0, 7.0)],
    short_rounds=POLLS,
    memory=Memory(100.0, 90.0, 110.0),
    brisk=Single(200, Latency(300.0, 1500.0, 1600.0), Latency(6.0, 20.0, 30.0)),
    calm=Single(200, Latency(12.0, 40.0, 60.0), Latency(6.0, 20.0, 30.0)),
    same_reason=Mass(500, patches=2.0, arrival=2.5, calls=14),
    recoveries=[2.0, 3.0, 4.0],
    default_rounds=POLLS,
    different_reasons=Mass(500, patches=2.0, arrival=49.0, calls=500),
    half_different=Mass(500, patches=2.5, arrival=3.0, calls=500),
)
NAIVE = replace(OURS, default_rounds=None, different_reasons=None, half_different=None, syncs=[Sync(1.0, 20.0)])
RESULT = Result(1000, "v1.36.2", 0.1, 240.0, 5.0, [Sync(0.1, 4.1)], OURS, NAIVE)


SHARES = [Share(Where("1" * 12, "a-role"), jobs=150, calls=6, polls=450), Share(Where("2" * 12), 850, 27, 2550)]
UNDER = replace(POLLS, cpu_percent=0.8, calls=33, shares=SHARES)
EDIT = Edit(50, first=0.1, last=0.4)
WITH_POLICIES = UnderPolicies(
    policies=20,
    namespaces=200,
    load=0.1,
    took=200.0,
    bare=[Sync(0.1, 5.1)],
    ours=replace(OURS, default_rounds=UNDER, short_rounds=UNDER, same_reason=Mass(500, 2.0, 2.8, 15)),
    spread=Mass(500, patches=2.0, arrival=5.0, calls=140),
    assumed=90,
    edits=Edits(EDIT, EDIT, replace(EDIT, objects=5, last=2.1)),
)


def row(figure: str, result: Result = RESULT, with_policies: UnderPolicies | None = None) -> Row:
    return next(one for one in rows_of(result, with_policies) if one.figure == figure)


SYNC_RATIO = "first sync : bare client, from the first status on"


def test_the_first_sync_is_a_multiple_of_the_bare_client() -> None:
    assert row(SYNC_RATIO).cells()[1:] == ("4.75x", "1.25x", "-", "<= 1.3x", "yes")


def test_the_first_sync_under_policies_is_a_multiple_of_the_bare_client_there() -> None:
    assert row(SYNC_RATIO, with_policies=WITH_POLICIES).cells()[1:4] == ("4.75x", "1.25x", "1.00x")


def test_a_call_that_is_not_full_misses_the_target_of_a_round() -> None:
    assert row("AWS calls a round, default polls").cells()[2:] == ("10.0", "-", "<= 10", "yes")
    wasteful = replace(RESULT, ours=replace(OURS, default_rounds=replace(POLLS, calls=31)))
    assert row("AWS calls a round, default polls", wasteful).cells()[2:] == ("10.3", "-", "<= 10", "NO")


def test_a_round_under_policies_needs_only_full_calls_of_each_role() -> None:
    found = row("AWS calls a round, default polls", with_policies=WITH_POLICIES)
    assert found.cells()[2:] == ("10.0", "11.0", "<= 10, <= 11", "yes")
    one_more = replace(UNDER, shares=[replace(SHARES[0], calls=7), SHARES[1]])
    wasteful = replace(WITH_POLICIES, ours=replace(WITH_POLICIES.ours, default_rounds=one_more))
    assert row("AWS calls a round, default polls", with_policies=wasteful).cells()[3:] == (
        "11.3",
        "<= 10, <= 11",
        "yes, NO",
    )


def test_a_role_without_polls_meets_no_target() -> None:
    blind = replace(UNDER, shares=[replace(SHARES[0], calls=0, polls=0), SHARES[1]])
    found = row(
        "AWS calls a round, default polls",
        with_policies=replace(WITH_POLICIES, ours=replace(WITH_POLICIES.ours, default_rounds=blind)),
    )
    assert found.cells()[3:] == ("nan", "<= 10, <= 11", "yes, NO")


def test_a_target_missed_under_policies_only_is_shown() -> None:
    slow = replace(WITH_POLICIES, ours=replace(WITH_POLICIES.ours, default_rounds=replace(UNDER, cpu_percent=1.2)))
    assert row("CPU, steady, default polls, of a core", with_policies=WITH_POLICIES).cells()[5] == "yes"
    assert row("CPU, steady, default polls, of a core", with_policies=slow).cells()[2:] == (
        "0.50 %",
        "1.20 %",
        "<= 1 %",
        "yes, NO",
    )


def test_terminations_over_many_namespaces_have_no_target() -> None:
    figures = [one for one in rows_of(RESULT, WITH_POLICIES) if one.ours is None and one.with_policies is not None]
    spread = {one.figure: one.cells()[3:] for one in figures}
    assert spread["... calls"] == ("140", "", "")
    assert spread["... times that a role is assumed for it"] == ("90", "", "")
    assert spread["terminate 500, one reason, over 200 namespaces: until the last call"] == ("5.00 s", "", "")


def test_an_edit_must_be_shown_within_two_seconds() -> None:
    assert row("... the last of 50", with_policies=WITH_POLICIES).cells()[3:] == ("0.40 s", "<= 2 s", "yes")
    assert row("... the last of 5", with_policies=WITH_POLICIES).cells()[3:] == ("2.10 s", "<= 2 s", "NO")


def test_a_window_without_polls_meets_no_target() -> None:
    blind = replace(RESULT, ours=replace(OURS, default_rounds=replace(POLLS, calls=0, polls=0)))
    assert row("AWS calls a round, default polls", blind).cells()[2:] == ("nan", "-", "<= 10", "NO")


def test_a_figure_without_the_naive_operator_is_a_dash() -> None:
    assert row("CPU, steady, default polls, of a core").cells()[1] == "-"


def test_ten_thousand_jobs_have_other_targets_than_a_thousand() -> None:
    large = replace(RESULT, objects=10_000)
    assert row("CPU, steady, default polls, of a core", large).limit == 1.7
    assert row("8 patches/s to TerminateJob, p99", large).limit == 25.0
    assert row("8 patches/s to TerminateJob, p99", replace(RESULT, objects=100_000)).limit == 50.0


def test_calls_of_a_round_are_shown_by_the_minute_too() -> None:
    assert row("AWS calls a minute, default polls").cells()[2:] == ("60.0", "-", "", "")


def test_half_of_the_jobs_has_rows_of_its_own_where_it_is_more_than_five_hundred() -> None:
    figures = [one.figure for one in rows_of(RESULT)]
    assert figures.count("terminate 500, one reason: until the last call") == 1
    half = Mass(5000, patches=40.0, arrival=44.0, calls=210)
    large = replace(RESULT, objects=10_000, ours=replace(OURS, half_same=half))
    assert row("terminate 5,000, one reason: until the last call", large).cells()[1:] == ("-", "44.00 s", "-", "", "")


def test_only_five_hundred_terminations_have_a_target() -> None:
    large = replace(RESULT, objects=10_000, ours=replace(OURS, half_same=replace(OURS.same_reason, count=5000)))
    limits = [one.limit for one in rows_of(large) if one.figure == "... last call : patches"]
    assert limits == [1.1, None, None, None]


def test_the_table_is_markdown_with_columns_of_one_width() -> None:
    lines = table([(RESULT, None)]).partition("\n\n")[2].splitlines()
    head = lines[0]
    assert len(lines) == len(rows_of(RESULT)) + 2
    assert [cell.strip() for cell in head.strip("|").split("|")] == [
        "figure",
        "naive",
        "ours",
        "under policies",
        "target",
        "met?",
    ]
    assert len({len(line) for line in lines}) == 1


def test_percentiles_are_values_that_were_measured() -> None:
    assert latency([number / 1000 for number in range(200, 0, -1)]) == Latency(100.0, 198.0, 200.0)
