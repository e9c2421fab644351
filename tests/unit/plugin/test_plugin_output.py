import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_awsbatch import output


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("INC-4711: runaway cost", "INC-4711: runaway cost"),
        ("Überlauf 日本", "Überlauf 日本"),
        ("two\nlines\tand\r\nmore", "two lines and  more"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("c1 \x9b31m", "c1 \\x9b31m"),
        ("right \u202eto left", "right \\u202eto left"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("tag \U000e0041", "tag \\U000e0041"),
        ("half \ud800", "half \\ud800"),
        (7, "7"),
    ],
)
def test_foreign_text_is_cleaned(text: object, shown: str) -> None:
    assert output.clean(text) == shown


@given(st.text(alphabet=st.characters(codec=None)))
def test_no_unprintable_character_remains(text: str) -> None:
    assert output.clean(text).isprintable()
    assert output.clean_line(text).replace("\t", "").isprintable()


def test_a_table_aligns_wide_characters_shortens_cells_and_marks_empty_ones() -> None:
    shown = output.table(("NAME", "JOB", "AGE"), [("a", "日本", "5s"), ("b", "", "1m"), ("c", "x" * 60, "")])
    assert shown.splitlines() == [
        "NAME   JOB" + " " * 48 + "AGE",
        "a      日本" + " " * 47 + "5s",
        "b      -" + " " * 50 + "1m",
        f"c      {'x' * 45}...   -",
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        *((-3, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (303, "5m3s"), (10_799, "179m"), (10_800, "3h")),
        *((28_740, "7h59m"), (172_799, "47h"), (187_200, "2d4h"), (864_000, "10d")),
    ],
)
def test_durations_are_written_as_by_kubectl(seconds: float, shown: str) -> None:
    assert output.duration(seconds) == shown


def test_progress_is_for_terminals_only(capsys: pytest.CaptureFixture[str]) -> None:
    output.progress("waiting")
    output.note("done")
    assert capsys.readouterr() == ("", "done\n")


def test_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    output.write_json({"reason": "\u202e\x1b日"})
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert "\\u202e\\u001b\\u65e5" in printed


def test_ages_need_a_time_with_a_zone() -> None:
    from kubectl_awsbatch import states

    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert states.seconds_between("2025-12-31T23:59:00Z", None, now) == 60
    assert states.seconds_between("2025-12-31T23:59:00Z", "2025-12-31T23:59:01.5Z", now) == 1.5
    assert [states.seconds_between(text, None, now) for text in (None, "soon", "2026-01-01T00:00:00")] == [None] * 3
