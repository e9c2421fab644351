from dataclasses import replace

from bench.broken_role import Line, Side, compared

HEALTHY = Side(
    arrivals=[[0.010, 0.011, 0.012]] * 3,
    answers=[[0.005, 0.006, 0.007]] * 3,
    rounds=[9.9, 10.1, 10.0],
    calls_a_round=[12.0, 12.0, 12.5],
    cpu_percent=[0.9, 1.0, 1.1],
)


def line(figure: str, beside: Side) -> Line:
    return next(one for one in compared(HEALTHY, beside) if one.figure == figure)


def test_equal_times_with_broken_roles_meet_every_target() -> None:
    assert all(one.met for one in compared(HEALTHY, HEALTHY))
    assert line("patch to TerminateJob, p50", HEALTHY).cells() == (
        "patch to TerminateJob, p50",
        "11.0 ms",
        "11.0 ms",
        "1.00x",
        "<= 1.1x",
        "yes",
    )


def test_terminations_may_be_at_most_a_tenth_slower() -> None:
    assert line("patch to TerminateJob, p50", replace(HEALTHY, arrivals=[[0.0121]] * 3)).met
    slower = replace(HEALTHY, arrivals=[[0.0123]] * 3)
    assert line("patch to TerminateJob, p50", slower).cells()[3:] == ("1.12x", "<= 1.1x", "NO")


def test_one_disturbed_span_does_not_change_the_result() -> None:
    assert all(one.met for one in compared(HEALTHY, replace(HEALTHY, arrivals=[[0.3], [0.011], [0.011]])))


def test_rounds_may_be_at_most_a_tenth_slower() -> None:
    assert not line("length of a round of polls", replace(HEALTHY, rounds=[11.2, 11.2, 10.0])).met
    assert line("length of a round of polls", replace(HEALTHY, rounds=[14.0, 10.1, 10.0])).met, (
        "one slow round decides nothing"
    )


def test_the_time_of_the_api_server_is_shown_without_a_target() -> None:
    slower = replace(HEALTHY, answers=[[0.012]] * 3)
    assert line("... the API server's answer alone, p50", slower).cells()[3:] == ("2.00x", "", "")
    assert all(one.met for one in compared(HEALTHY, slower))
