"""Plans of the chaos suite: the same from the same seed, in an order that makes sense, and with every kind of fault."""

from chaos.plan import SHORT, Plan, Step, long_shape, make_plan
from chaos.report import timeline
from unit.chaos.histories import JOB, REASON, call, evidence, poll, stating

MINOR_FAULTS = {
    *("cut", "watches_cut", "gone_in_stream", "gone_on_watch", "gone_on_page", "hang", "refuse", "restart"),
    *("fault", "limit", "jump", "freeze", "kill", "term"),
}
ACTIONS = {"create", "state", "withdraw", "reword", "delete", "foreign_status", "race", "twin"} | {
    *("deadline", "move_deadline", "drop_deadline", "tie", "untie", "create_namespace", "delete_namespace")
}


def steps(plan: Plan) -> list[Step]:
    return [step for storm in plan.storms for step in storm]


def test_the_same_seed_gives_the_same_plan_and_another_another() -> None:
    assert make_plan(7, SHORT) == make_plan(7, SHORT)
    assert make_plan(7, SHORT).storms != make_plan(8, SHORT).storms


def test_a_short_plan_holds_every_kind_of_fault_and_fits_its_time() -> None:
    for seed in range(20):
        plan = make_plan(seed, SHORT)
        assert {step.kind for step in steps(plan)} >= MINOR_FAULTS
        assert all(0 <= step.at <= SHORT.storm for step in steps(plan))
        assert [step.at for step in plan.storms[0]] == sorted(step.at for step in plan.storms[0])


def test_a_long_plan_holds_every_deed_and_keeps_its_population() -> None:
    plan = make_plan(7, long_shape(minutes=6))
    assert len(plan.storms) == 4
    assert {step.kind for step in steps(plan)} >= ACTIONS | {"rival", "hide", "end", "crash_in_call"}
    born = sum(step.kind in ("create", "twin") for step in (*plan.opening, *steps(plan)))
    gone = sum(step.kind == "delete" for step in steps(plan))
    assert 400 < born - gone < 800


def test_nothing_is_done_to_an_object_before_it_exists_or_after_its_deletion() -> None:
    plan = make_plan(7, long_shape(minutes=6))
    there = {step.target for step in plan.opening}
    for step in steps(plan):
        if step.kind in ("create", "twin"):
            there.add(step.target)
        elif step.target.startswith("job-"):
            assert step.target in there, step
        if step.kind == "delete":
            there.remove(step.target)


def test_a_timeline_shows_statements_polls_and_calls() -> None:
    from chaos.invariants import Violation

    reported = evidence(stating((None, 100.0), (REASON, 110.0)), poll(1, 101), call(2, 110.02))
    lines = list(timeline(reported, Violation("(x)", "a text", JOB)))
    assert [line.split(" ", 4)[4] for line in lines[1:]] == [
        "a states None (0.010 s)",
        "poll 1 by first-1",
        f"a states {REASON!r} (0.010 s)",
        "call 2 TerminateJob by first-1: 200, took effect",
    ]
    assert list(timeline(reported, Violation("(x)", "of no job"))) == []
