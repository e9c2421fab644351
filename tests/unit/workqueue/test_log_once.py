from awsbatch_operator.workqueue.log_once import Change, LogOnce


def test_only_a_report_that_differs_from_the_last_one_is_a_change() -> None:
    log = LogOnce()
    reports = ["", "403", "403", "timeout", "timeout", "", "", "timeout"]
    assert [log.report(problem) for problem in reports] == [
        None,
        Change.BEGAN,
        None,
        Change.CHANGED,
        None,
        Change.ENDED,
        None,
        Change.BEGAN,
    ]
