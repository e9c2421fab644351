"""One stream of log lines: the operator's own (structlog) and those of Kopf and other libraries (stdlib)."""

import json
import logging
import os
import sys
import time
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

import structlog
from structlog.typing import Processor

from awsbatch_operator.api import names, timestamps
from awsbatch_operator.api.batchjob import ObjectRef

_FIRST_KEYS: Final = ("timestamp", "level", "logger", "message", "object")

# The lower levels of these loggers contain request headers and bodies with credentials, or one line for each object:
# the operator's level does not apply to them.
_QUIET: Final = {
    "aiohttp": logging.WARNING,
    "asyncio": logging.WARNING,
    "boto3": logging.WARNING,
    "botocore": logging.WARNING,
    "kopf": logging.INFO,
    # These two log each error that ends Kopf, with its traceback: the operator logs it. They also warn that Kopf
    # handles no signals: the operator does.
    "kopf._core.reactor.orchestration": logging.CRITICAL,
    "kopf._core.reactor.running": logging.CRITICAL,
    "kopf.activities.authentication": logging.CRITICAL,  # logs each failed login: the operator logs what changes
    "kopf.objects": logging.WARNING,
    "kubernetes": logging.WARNING,
    "urllib3": logging.WARNING,
}

_Line = MutableMapping[str, Any]

# JSON leaves these as they are, but readers may end a line there and terminals execute them; users write reasons.
_ODD: Final = (*range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_ESCAPED: Final = {code: f"\\u{code:04x}" for code in _ODD}


def setup(log_format: str = "json", level: str = "info", stream: TextIO | None = None) -> None:
    """Write all log lines to `stream` (default stderr), as `json` or, for reading in a terminal, as `console`.

    A line names an object by `object=ref`, an ObjectRef; it is rendered as {apiVersion, kind, name, namespace, uid}.
    """
    stream = stream or sys.stderr
    least = logging.getLevelNamesMapping()[level.upper()]
    common: list[Processor] = [structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name, _timestamp]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, _kopf_object, _credentials_error],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(_json() if log_format == "json" else _console(stream)),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(least)
    for name, floor in _QUIET.items():
        logging.getLogger(name).setLevel(max(floor, least))
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[*common, _own_object, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def _json() -> tuple[Processor, ...]:
    # The plain traceback: a structured one could show local variables, and with them secrets.
    return (
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        _ordered,
        structlog.processors.JSONRenderer(_one_line),
    )


def _one_line(line: _Line, **settings: Any) -> str:
    return json.dumps(line, ensure_ascii=False, **settings).translate(_ESCAPED)


def _console(stream: TextIO) -> tuple[Processor, ...]:
    colors = stream.isatty() and not os.environ.get("NO_COLOR")
    renderer = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
    return (_short_object, renderer)


def _timestamp(_logger: Any, _method: str, line: _Line) -> _Line:
    record: logging.LogRecord | None = line.get("_record")
    line["timestamp"] = timestamps.date_time(int((record.created if record else time.time()) * 1000))
    return line


def _kopf_object(_logger: Any, _method: str, line: _Line) -> _Line:
    # Only this attribute: Kopf's records also carry its settings, which are neither short nor serialisable.
    reference = getattr(line["_record"], "k8s_ref", None)
    if reference:
        line["object"] = reference
    return line


def _credentials_error(_logger: Any, _method: str, line: _Line) -> _Line:
    # botocore warns at each failed attempt with a hundred lines of traceback: the error is enough.
    if line["logger"] == "botocore.credentials" and (caught := line.pop("exc_info", None)):
        line["error"] = str(caught[1])
    return line


def _own_object(_logger: Any, _method: str, line: _Line) -> _Line:
    match line.get("object"):
        case ObjectRef() as ref:
            kind = {"apiVersion": names.API_VERSION, "kind": ref.kind}
            line["object"] = kind | {"name": ref.name, "namespace": ref.namespace, "uid": ref.uid}
    return line


def _short_object(_logger: Any, _method: str, line: _Line) -> _Line:
    match line.get("object"):
        case {"namespace": namespace, "name": name}:
            line["object"] = f"{namespace}/{name}"
    return line


def _ordered(_logger: Any, _method: str, line: _Line) -> _Line:
    return {key: line.pop(key) for key in _FIRST_KEYS if key in line} | dict(line)
