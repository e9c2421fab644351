"""The options of the chaos suite."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=7, help="of the chaos suite's plan: the same seed gives the same plan")
    parser.addoption(
        "--minutes", type=float, default=0.0, help="how long the chaos suite lasts; 0: its short form, under a minute"
    )
