"""Encodes a Status as `.status`, decodes `.status`, and computes the merge patch between two statuses."""

import re
from collections.abc import Mapping
from sys import intern
from typing import Any, Final, TypeGuard, cast

from awsbatch_operator.api import timestamps
from awsbatch_operator.api.batchjob import AdmittedBy, Condition, Phase, Status, Termination, condition
from awsbatch_operator.api.job import Array, Job, Node

Raw = dict[str, Any]

_JOB_TEXTS: Final = (
    ("statusReason", "status_reason"),
    ("jobName", "name"),
    ("jobArn", "arn"),
    ("jobQueue", "queue"),
    ("jobDefinition", "definition"),
    ("containerReason", "container_reason"),
    ("logStreamName", "log_stream_name"),
)
_JOB_TIMES: Final = (("createdAt", "created_at"), ("startedAt", "started_at"), ("stoppedAt", "stopped_at"))
_JOB_COUNTS: Final = (("exitCode", "exit_code"), ("attempts", "attempts"))
_TERMINATION_TIMES: Final = (
    ("requestedAt", "requested_at"),
    ("acceptedAt", "accepted_at"),
    ("completedAt", "completed_at"),
)
_CONDITION_STATUSES: Final = frozenset({"True", "False", "Unknown"})
_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_LONGEST_WORD: Final = 316
_PHASES: Final = {phase.value: phase for phase in Phase}

FIELDS: Final = (
    *("observedGeneration", "phase", "region", "accountId", "access", "jobStatus", "isTerminated", "isCancelled"),
    *(field for field, _ in (*_JOB_TEXTS, *_JOB_TIMES, *_JOB_COUNTS)),
    *("array", "node", "termination", "conditions"),
)
"""The top-level fields of `.status` that this version writes. Others belong to a newer version."""


def render(status: Status) -> Raw:
    """Encode a Status as `.status`; a field without a value is absent.

    `lastTransitionTime` is a metav1.Time: it has only the whole seconds of a condition's `since`.
    """
    raw: Raw = {}
    if status.observed_generation is not None:
        raw["observedGeneration"] = status.observed_generation
    if status.phase is not None:
        raw["phase"] = status.phase.value
    if status.region is not None:
        raw["region"] = status.region
    if status.account_id is not None:
        raw["accountId"] = status.account_id
    if status.access is not None:
        raw["access"] = status.access._asdict()
    if status.job is not None:
        _render_job(status.job, raw)
    if status.termination is not None:
        raw["termination"] = _render_termination(status.termination)
    if status.conditions:
        raw["conditions"] = [render_condition(condition) for condition in status.conditions]
    return raw


def _render_job(job: Job, raw: Raw) -> None:
    raw["jobStatus"] = job.status
    raw["isTerminated"] = job.is_terminated
    raw["isCancelled"] = job.is_cancelled
    _copy(job, (*_JOB_TEXTS, *_JOB_COUNTS), raw)
    _render_times(job, _JOB_TIMES, raw)
    if job.array is not None:
        raw["array"] = _copy(job.array, (("size", "size"), ("index", "index")), {})
        if job.array.status_summary:
            raw["array"]["statusSummary"] = dict(job.array.status_summary)
    if job.node is not None:
        raw["node"] = _copy(job.node, (("numNodes", "num_nodes"), ("index", "index"), ("main", "main")), {})


def _render_termination(termination: Termination) -> Raw:
    raw = {"reason": termination.reason, "requests": termination.requests}
    return _render_times(termination, _TERMINATION_TIMES, raw)


def render_condition(condition: Condition) -> Raw:
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": timestamps.meta_time(condition.since),
        "observedGeneration": condition.generation,
    }


def _copy(source: object, names: tuple[tuple[str, str], ...], raw: Raw) -> Raw:
    for field, attribute in names:
        value = getattr(source, attribute)
        if value is not None:
            raw[field] = value
    return raw


def _render_times(source: object, names: tuple[tuple[str, str], ...], raw: Raw) -> Raw:
    for field, attribute in names:
        value = getattr(source, attribute)
        if value is not None:
            raw[field] = timestamps.date_time(value)
    return raw


def parse(raw: object) -> Status:
    """Decode any value of `.status` into the nearest valid Status: an invalid field counts as absent."""
    raw = _mapping(raw)
    phase = _text(raw.get("phase"))
    return Status(
        observed_generation=count_of(raw.get("observedGeneration")),
        phase=None if phase is None else _PHASES.get(phase),
        region=_text(raw.get("region")),
        job=_parse_job(raw),
        termination=_parse_termination(_mapping(raw.get("termination"))),
        conditions=parse_conditions(raw.get("conditions")),
        account_id=_parse_account(raw.get("accountId")),
        access=_parse_admitted_by(_mapping(raw.get("access"))),
    )


def _parse_account(raw: object) -> str | None:
    return intern(raw) if isinstance(raw, str) and _ACCOUNT.fullmatch(raw) else None


def _parse_admitted_by(raw: Mapping[str, Any]) -> AdmittedBy | None:
    policy, rules = _text(raw.get("policy")), _text(raw.get("rules"))
    return None if policy is None or rules is None else AdmittedBy(intern(policy), rules)


def _parse_job(raw: Mapping[str, Any]) -> Job | None:
    status = _text(raw.get("jobStatus"))
    if status is None:
        return None
    array, node = raw.get("array"), raw.get("node")
    values: Raw = {attribute: _text(raw.get(field)) for field, attribute in _JOB_TEXTS}
    values |= {attribute: timestamps.parse(raw.get(field)) for field, attribute in _JOB_TIMES}
    values |= {"exit_code": _int(raw.get("exitCode")), "attempts": count_of(raw.get("attempts"))}
    return Job(
        status=status,
        is_terminated=raw.get("isTerminated") is True,
        is_cancelled=raw.get("isCancelled") is True,
        array=_parse_array(array) if isinstance(array, Mapping) else None,
        node=_parse_node(node) if isinstance(node, Mapping) else None,
        **values,
    )


def _parse_array(raw: Mapping[str, Any]) -> Array:
    summary = _mapping(raw.get("statusSummary"))
    # The API server sorts the keys of a map, AWS does not: sort them so that equal counts are equal values.
    counts = tuple((key, count) for key in sorted(summary) if (count := _int(summary[key])) is not None)
    return Array(_int(raw.get("size")), _int(raw.get("index")), counts)


def _parse_node(raw: Mapping[str, Any]) -> Node:
    main = raw.get("main")
    return Node(_int(raw.get("numNodes")), _int(raw.get("index")), main if isinstance(main, bool) else None)


def _parse_termination(raw: Mapping[str, Any]) -> Termination | None:
    reason = _text(raw.get("reason"))
    values = {attribute: timestamps.parse(raw.get(field)) for field, attribute in _TERMINATION_TIMES}
    requests = count_of(raw.get("requests")) or 0
    if reason is None and not requests and not any(values.values()):
        return None
    # A lost reason does not undo the request: its times prevent that it is sent again at once.
    return Termination(reason or "", requests=requests, **values)


def parse_conditions(raw: object) -> tuple[Condition, ...]:
    if not isinstance(raw, list):
        return ()
    return tuple(found for item in raw if (found := _parse_condition(_mapping(item))) is not None)


def _parse_condition(raw: Mapping[str, Any]) -> Condition | None:
    type_, status, reason = (_text(raw.get(field)) for field in ("type", "status", "reason"))
    since = timestamps.parse(raw.get("lastTransitionTime"))
    if not _is_word(type_) or status not in _CONDITION_STATUSES or not _is_word(reason) or since is None:
        return None
    message, generation = _text(raw.get("message")), count_of(raw.get("observedGeneration"))
    return condition(type_, status, reason, message or "", since, generation or 0)


def _is_word(text: str | None) -> TypeGuard[str]:
    """Return whether the text can be a type or reason of the operator; the API server accepts a little more."""
    return (
        text is not None
        and len(text) <= _LONGEST_WORD
        and text.isascii()
        and text.isidentifier()
        and not text.startswith("_")
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _int(value: object) -> int | None:
    """Return an int64, which is all that the schema accepts; else None."""
    number = isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    return cast("int", value) if number else None


def count_of(value: object) -> int | None:
    """Return an int64 that is not negative; else None."""
    number = _int(value)
    return number if number is not None and number >= 0 else None


def diff(wanted: Status, shown: Status | Mapping[str, object]) -> Raw:
    """Return the JSON merge patch from the shown `.status` to the wanted one; {} if there is nothing to write.

    The patch leaves top-level fields outside FIELDS alone, and replaces everything within the others.
    """
    if isinstance(shown, Status):
        if shown == wanted:
            return {}
        shown = render(shown)
    rendered = render(wanted)
    patch: Raw = {}
    for field in FIELDS:
        value, before = rendered.get(field), shown.get(field)
        if value != before:
            patch[field] = _merge(value, before)
    return patch


def _merge(wanted: object, shown: object) -> object:
    if not isinstance(wanted, dict) or not isinstance(shown, dict):
        return wanted
    patch = {field: None for field in shown if field not in wanted}
    return patch | {
        field: _merge(value, shown.get(field)) for field, value in wanted.items() if value != shown.get(field)
    }
