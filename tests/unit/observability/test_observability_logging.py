import io
import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import kopf
import pytest
import structlog

from awsbatch_operator.api.batchjob import ObjectRef
from awsbatch_operator.observability.logging import setup

REF = ObjectRef("team-a", "train-42", "u-1")
SHOWN = {
    "apiVersion": "awsbatch.dev/v1alpha1",
    "kind": "BatchJob",
    "name": "train-42",
    "namespace": "team-a",
    "uid": "u-1",
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("NO_COLOR", raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    setup(stream=stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_our_line_has_time_level_logger_message_object_and_what_was_given(stream: io.StringIO) -> None:
    structlog.get_logger("awsbatch_operator.controller").info("seen", object=REF, jobId="j", region="eu-west-1")
    (line,) = lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("timestamp"))
    assert line == {
        "level": "info",
        "logger": "awsbatch_operator.controller",
        "message": "seen",
        "object": SHOWN,
        "jobId": "j",
        "region": "eu-west-1",
    }


def test_the_message_stands_in_front(stream: io.StringIO) -> None:
    structlog.get_logger("x").info("seen", a=1, object=REF)
    assert list(lines(stream)[0]) == ["timestamp", "level", "logger", "message", "object", "a"]


def test_a_record_of_kopf_shows_its_object_and_nothing_else_of_its_extras(stream: io.StringIO) -> None:
    logging.getLogger("kopf.objects").warning(
        "fell %s", "over", extra={"k8s_ref": SHOWN, "settings": kopf.OperatorSettings(), "k8s_skip": True}
    )
    (line,) = lines(stream)
    assert set(line) == {"timestamp", "level", "logger", "message", "object"}
    assert (line["message"], line["object"], line["logger"]) == ("fell over", SHOWN, "kopf.objects")


def test_the_time_of_a_foreign_record_is_its_own(stream: io.StringIO) -> None:
    record = logging.makeLogRecord({"name": "x", "levelno": 40, "levelname": "ERROR", "msg": "late", "created": 1.5})
    logging.getLogger("x").handle(record)
    assert lines(stream)[0]["timestamp"] == "1970-01-01T00:00:01.500Z"


def test_an_exception_is_one_field_and_shows_no_local_variables(stream: io.StringIO) -> None:
    password = "hunter2"
    try:
        int(password + "x")
    except ValueError:
        structlog.get_logger("ours").exception("broke")
        logging.getLogger("theirs").exception("broke too")
    ours, theirs = lines(stream)
    for line in (ours, theirs):
        assert line["exception"].startswith("Traceback")
        assert "ValueError" in line["exception"]
        assert "password =" not in line["exception"]


def test_missing_credentials_are_logged_without_a_traceback(stream: io.StringIO) -> None:
    error = OSError("no agent at 169.254.170.23")
    logging.getLogger("botocore.credentials").warning("Refreshing failed", exc_info=error)
    (line,) = lines(stream)
    assert (line["message"], line["error"]) == ("Refreshing failed", "no agent at 169.254.170.23")
    assert "exception" not in line


@pytest.mark.parametrize(
    ("name", "quietest"),
    [
        ("botocore.auth", 30),
        ("urllib3.connectionpool", 30),
        ("aiohttp.access", 30),
        ("kopf.objects", 30),
        ("kopf.activities", 20),
        ("kubernetes.client.rest", 30),
        ("awsbatch_operator", 10),
    ],
)
def test_libraries_keep_quiet_at_every_level_since_their_debug_lines_hold_credentials(name: str, quietest: int) -> None:
    stream = io.StringIO()
    setup(level="debug", stream=stream)
    for level in (10, 20, 30):
        logging.getLogger(name).log(level, "%d", level)
    assert [int(line["message"]) for line in lines(stream)] == [level for level in (10, 20, 30) if level >= quietest]


def test_the_level_holds_for_both_kinds_of_logger() -> None:
    stream = io.StringIO()
    setup(level="warning", stream=stream)
    for logger in (structlog.get_logger("ours"), logging.getLogger("theirs"), logging.getLogger("kopf")):
        logger.info("no")
        logger.warning("yes")
    assert [line["message"] for line in lines(stream)] == ["yes"] * 3


def test_a_value_that_is_not_json_is_logged_by_its_repr(stream: io.StringIO) -> None:
    structlog.get_logger("x").info(
        "odd",
        value={
            1,
        },
        text="é",
    )
    assert lines(stream)[0]["value"] == "{1}"
    assert "é" in stream.getvalue()


def test_a_text_ends_no_line_and_steers_no_terminal(stream: io.StringIO) -> None:
    text = "a\n\r\x1b[2J\x7f\x85\x9b2J\u2028\u2029\u202e\u2066é"
    structlog.get_logger("x").info("odd", text=text)
    written = stream.getvalue()
    assert (written.splitlines(), lines(stream)[0]["text"]) == ([written[:-1]], text)
    assert all(one.isprintable() for one in written[:-1])


def test_warnings_of_python_are_lines_too(stream: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
    assert "old thing" in lines(stream)[0]["message"]


def test_setting_up_twice_writes_once(stream: io.StringIO) -> None:
    setup(stream=stream)
    logging.getLogger("x").warning("once")
    assert len(lines(stream)) == 1


def test_people_get_one_short_line_with_the_object_by_name() -> None:
    stream = io.StringIO()
    setup("console", stream=stream)
    structlog.get_logger("ours").info("seen", object=REF, jobId="j")
    logging.getLogger("kopf.objects").warning("fell over", extra={"k8s_ref": SHOWN})
    ours, theirs = stream.getvalue().splitlines()
    assert "seen" in ours
    assert "object=team-a/train-42" in ours
    assert "object=team-a/train-42" in theirs
    assert "\x1b" not in stream.getvalue()


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    coloured, plain = Terminal(), Terminal()
    setup("console", stream=coloured)
    structlog.get_logger("x").info("seen")
    monkeypatch.setenv("NO_COLOR", "1")
    setup("console", stream=plain)
    structlog.get_logger("x").info("seen")
    assert "\x1b" in coloured.getvalue()
    assert "\x1b" not in plain.getvalue()


def test_the_stream_is_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    setup(stream=sys.stderr)
    logging.getLogger("x").warning("here")
    out, err = capsys.readouterr()
    assert (out, "here" in err) == ("", True)
