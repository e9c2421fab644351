"""Two replicas in a storm of faults: nothing stated is lost, nothing is doubled, nothing comes without a statement."""

from pathlib import Path

import pytest

from chaos.event_invariants import stretched
from chaos.plan import SHORT, long_shape, make_plan
from chaos.report import failure, summary
from chaos.scenario import run


def test_no_termination_is_lost_or_sent_twice_under_faults(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    seed, minutes = request.config.getoption("--seed"), request.config.getoption("--minutes")
    plan = make_plan(seed, long_shape(minutes) if minutes else SHORT)
    print(f"seed {seed}")
    outcome = run(plan, request.config.getoption("--control-plane"))
    print(summary(outcome))
    if outcome.violations:
        for name, text in outcome.logs.items():
            (tmp_path / f"{name}.log").write_text(text, "utf-8")
        print(f"both logs are in {tmp_path}")
        pytest.fail(failure(outcome, seed), pytrace=False)
    assert not minutes or stretched(outcome.evidence), "events spared no poll"
