from dataclasses import replace

from bench.bulk import Idle, Line, Side, compared

IDLE = Idle(resident=80.0, cpu_a_second=0.01, singles=[0.010, 0.020])
SIDE = Side(
    counted=20.0,
    count_calls={"ListJobs": 14, "DescribeJobs": 100},
    cpu=1.0,
    terminated=40.0,
    calls={"ListJobs": 22, "DescribeJobs": 140, "TerminateJobs": 80},
    resident=90.0,
    singles=[0.030, 1.5],
)


def line(what: str, tags: Side) -> Line:
    lines = compared(IDLE, {"queues": replace(SIDE, count_calls={"ListJobs": 14}), "tags": tags}, 10_000, 4_000)
    return next(one for one in lines if one.what == what)


def test_calls_stand_beside_the_least_possible() -> None:
    shown = line("... DescribeJobs, of the least", SIDE).cells()
    assert shown == ("... DescribeJobs, of the least", "0 of 0", "100 of 100", "", "", "")
    assert line("... TerminateJobs, of the least", SIDE).figures[1] == "80 of 80"
    assert line("... ListJobs, of the least", SIDE).figures[1] == "14 of 14"


def test_the_slower_of_both_is_judged() -> None:
    assert line("jobs counted", SIDE).cells() == ("jobs counted", "20.0 s", "20.0 s", "", "<= 30 s", "yes")
    assert line("jobs counted", replace(SIDE, counted=30.1)).cells()[-1] == "NO"
    assert not line("approval to the last TerminateJobs", replace(SIDE, terminated=61.0)).met


def test_single_patches_and_memory_are_judged_beside_the_idle_operator() -> None:
    assert line("single patch to TerminateJob, p99", SIDE).figures == ["1500 ms", "1500 ms", "20 ms"]
    assert not line("single patch to TerminateJob, most", replace(SIDE, singles=[0.1, 2.1])).met
    assert line("memory, resident", SIDE).figures == ["+10 MiB", "+10 MiB", "80 MiB"]
    assert not line("memory, resident", replace(SIDE, resident=111.0)).met
