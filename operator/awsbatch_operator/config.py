"""Settings of `run`: flags, else AWSBATCH_OPERATOR_* variables, else defaults. All faults are reported at once."""

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from awsbatch_operator.api.events_queue import REMEDY, queue_region
from awsbatch_operator.api.timestamps import MINUTE, SECOND, Millis
from awsbatch_operator.aws.sdk_session import default_region
from awsbatch_operator.kube.credentials import Login, NoClusterError, inside_cluster
from awsbatch_operator.policy.resolution import Mode
from awsbatch_operator.reconcile.poll_intervals import PollIntervals

PREFIX: Final = "AWSBATCH_OPERATOR_"

_UNITS: Final = {"ms": 1, "s": SECOND, "m": MINUTE, "h": 60 * MINUTE}
_HIGHEST_PORT: Final = 65_535
_SHORTEST: Final = 100
_LONGEST: Final = 24 * 60 * MINUTE

# Variables that Kubernetes sets in every pod for a Service whose name starts with awsbatch-operator: not settings.
_SERVICE_LINK: Final = re.compile(
    r"(^|_)(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$"
)
_PROXIES: Final = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
"""Used by calls to https and http endpoints, of AWS and of the Kubernetes API. Nothing here uses ALL_PROXY."""
# As botocore reads it: without a scheme it is http.
_PROXY: Final = re.compile(r"((https?:)?//)?([^/\s]*@)?([\w.-]+|\[[0-9a-fA-F:.]+\])(:(?P<port>[0-9]{1,5}))?/?")


class SettingsError(Exception):
    """All faults of flags, variables and the kubeconfig, one on each line of the message."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(("invalid settings:", *(f"  {fault}" for fault in faults))))


class Address(NamedTuple):
    """Address to listen on; an empty host is every interface."""

    host: str
    port: int


def _duration(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"([0-9]{1,9})(ms|s|m|h)", value.strip())
    millis = int(match[1]) * _UNITS[match[2]] if match else 0
    if not _SHORTEST <= millis <= _LONGEST:
        raise ValueError("use a duration from 100ms to 24h, such as 500ms, 30s, 2m or 1h")
    return millis


def _address(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\s]*):([0-9]{1,5})", value.strip())
    if match is None or int(match[2]) > _HIGHEST_PORT:
        raise ValueError("use HOST:PORT, such as 0.0.0.0:8080, [::1]:8080 or :8080")
    return Address(match[1].strip("[]"), int(match[2]))


def _list_of(valid: Callable[[str], object], remedy: str) -> BeforeValidator:
    """Accepts a repeated flag and a comma-separated variable; drops duplicates, keeps the order."""

    def check(value: Any) -> Any:
        parts: Iterable[str] = [value] if isinstance(value, str) else value
        names = tuple(dict.fromkeys(name.strip() for part in parts for name in part.split(",") if name.strip()))
        invalid = [name for name in names if not valid(name)]
        if invalid:
            raise ValueError(f"{', '.join(map(repr, invalid))}: {remedy}")
        return names

    return BeforeValidator(check)


def _matching(pattern: str, remedy: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if isinstance(value, str) and not re.fullmatch(pattern, value):
            raise ValueError(remedy)
        return value

    return BeforeValidator(check)


def _region(value: Any) -> Any:
    """Without the setting: the region of the AWS variables and profile, which is checked in the same way."""
    region, named_by = (value, "") if value is not None else default_region()
    if not region:
        raise ValueError(
            "no AWS region for objects without spec.region: set this flag, AWS_REGION, or the region of a profile"
        )
    if isinstance(region, str) and not re.fullmatch(_REGION, region):
        raise ValueError(f"{named_by} = {region!r}: {_REGION_REMEDY}" if named_by else _REGION_REMEDY)
    return region


_Duration = Annotated[Millis, BeforeValidator(_duration)]
_Rate = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
_REGION: Final = r"[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}"
_NAMESPACE: Final = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_REGION_REMEDY: Final = "use the name of an AWS region, such as eu-west-1"
_Regions = Annotated[
    tuple[str, ...], NoDecode, _list_of(re.compile(_REGION).fullmatch, "not the name of an AWS region")
]
_Namespace = Annotated[str, _matching(_NAMESPACE, "use the name of a namespace")]
_Namespaces = Annotated[
    tuple[str, ...], NoDecode, _list_of(re.compile(_NAMESPACE).fullmatch, "not the name of a namespace")
]
_QueueUrls = Annotated[tuple[str, ...], NoDecode, _list_of(queue_region, REMEDY)]
_ObjectName = Annotated[
    str, _matching(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", "use lower-case letters, digits, '-' and '.'")
]
_ClusterName = Annotated[
    str, _matching(r"[A-Za-z0-9_.-]{1,63}", "use 1 to 63 letters, digits, '-', '_' and '.': it is part of ExternalIds")
]
_REMEDIES: Final = {
    "bool_parsing": "use true or false",
    "literal_error": "use {expected}",
    "int_parsing": "use a whole number",
    "float_parsing": "use a number, such as 2.5",
    "finite_number": "use a number, such as 2.5",
    "greater_than": "use a number above {gt:g}",
    "greater_than_equal": "use {ge:g} or more",
    "less_than_equal": "use {le:g} or less",
}
"""By pydantic's type of a fault."""
_DEFAULTS: Final = PollIntervals()


class Settings(BaseSettings):
    """One field a flag: `poll_running` is --poll-running and AWSBATCH_OPERATOR_POLL_RUNNING.

    Durations are in milliseconds, rates in calls per second for each account and region. Without `namespace`: the
    whole cluster. Without `region`: the region of the AWS variables and profile. Without `kubeconfig`: KUBECONFIG, the
    pod's service account, or ~/.kube/config. `allow_region`: regions that are accepted although botocore does not list
    them. `access_policy` disabled: policies are not even read. Without `lease_namespace`: the namespace of the pod.
    `events_queue`: URLs of the queues that get the events of the operator's own account.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    namespace: _Namespaces = ()
    region: Annotated[str, BeforeValidator(_region), Field(default=None, validate_default=True)]
    kubeconfig: str | None = None
    context: str | None = None
    allow_region: _Regions = ()
    access_policy: Literal["disabled", "optional", "required"] = "optional"
    cluster_name: _ClusterName = "kubernetes"
    http_address: Annotated[Address, NoDecode, BeforeValidator(_address)] = Address("0.0.0.0", 8080)  # noqa: S104 (probes and scrapes come from other hosts)
    leader_elect: bool = Field(default_factory=inside_cluster)
    lease_name: _ObjectName = "awsbatch-operator"
    lease_namespace: _Namespace | None = None
    poll_running: _Duration = _DEFAULTS.running
    poll_pending: _Duration = _DEFAULTS.pending
    missing_grace: _Duration = _DEFAULTS.missing_grace
    resend_after: _Duration = _DEFAULTS.resend_after
    describe_rate: _Rate = 5.0
    terminate_rate: _Rate = 40.0
    on_delete: Literal["disabled", "enabled"] = "disabled"
    on_delete_timeout: _Duration = 60 * MINUTE
    unattended_limit: Annotated[int, Field(ge=1, le=100_000)] = 500
    events_queue: _QueueUrls = ()
    poll_with_events: _Duration = _DEFAULTS.with_events
    list_polls: bool = True
    metrics_role_label: bool = True
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def policy_mode(self) -> Mode:
        """Return what applies where no policy selects a namespace; if policies are disabled, that is everywhere."""
        return Mode.REQUIRED if self.access_policy == "required" else Mode.OPTIONAL

    def leader_elect_given(self) -> bool:
        """Return whether a flag or a variable says if there is a leader election; else its default does."""
        return "leader_elect" in self.model_fields_set

    def poll_intervals(self) -> PollIntervals:
        on_delete_timeout = self.on_delete_timeout if self.on_delete == "enabled" else None
        return PollIntervals(
            self.poll_running,
            self.poll_pending,
            self.missing_grace,
            self.resend_after,
            on_delete_timeout,
            with_events=self.poll_with_events,
        )


def flag(field: str) -> str:
    """The flag of a field of Settings."""
    return "--" + field.replace("_", "-")


def load(flags: Mapping[str, Any], unknown_flags: Sequence[str] = ()) -> Settings:
    """Settings from the flags (None and (): not given) and the environment. Raises SettingsError with all faults.

    The kubeconfig is checked too, so that its faults are reported together with all others.
    """
    faults = [_unknown(name, [flag(field) for field in Settings.model_fields]) for name in unknown_flags]
    faults += _unknown_variables(os.environ) + _invalid_proxies(os.environ)
    # A proxy by which neither AWS nor Kubernetes can be reached is one fault.
    named = {fault.partition(":")[0] for fault in faults}
    faults += [fault for fault in _cluster_faults(flags) if fault.partition(":")[0] not in named]
    settings = None
    try:
        settings = Settings(**{name: value for name, value in flags.items() if value not in (None, ())})
    except ValidationError as error:
        for one in error.errors():
            remedy = _REMEDIES.get(one["type"])
            message = one["msg"] if remedy is None else remedy.format(**one.get("ctx", {}))
            faults.append(_fault(one["loc"], one["input"], message))
    if faults or settings is None:
        raise SettingsError(faults)
    return settings


def _cluster_faults(flags: Mapping[str, Any]) -> Sequence[str]:
    kubeconfig, context = (
        flags.get(name) or os.environ.get(PREFIX + name.upper()) for name in ("kubeconfig", "context")
    )
    try:
        Login(kubeconfig, context)
    except NoClusterError as error:
        return error.faults
    return ()


def _fault(loc: tuple[int | str, ...], value: object, message: str) -> str:
    field = str(loc[0])
    if isinstance(value, tuple):
        value = ",".join(value)
    given = "" if value is None else f" = {value!r}"
    return f"{flag(field)} / {PREFIX}{field.upper()}{given}: {message.removeprefix('Value error, ')}"


def _invalid_proxies(environ: Mapping[str, str]) -> list[str]:
    """Return a fault for each proxy that no call could reach. Its value may contain a password, so it is not shown."""
    names = [name for name in _PROXIES if environ.get(name)]
    return [
        f"{name}: not the URL of a proxy; use http://HOST:PORT"
        for name in names
        if (match := _PROXY.fullmatch(environ[name])) is None or not 0 < int(match["port"] or 80) <= _HIGHEST_PORT
    ]


def _unknown_variables(environ: Mapping[str, str]) -> list[str]:
    known = [PREFIX + field.upper() for field in Settings.model_fields]
    names = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    return [_unknown(name, known) for name in names if not _SERVICE_LINK.search(name.removeprefix(PREFIX))]


def _unknown(name: str, known: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    return f"{name}: unknown setting" + (f"; did you mean {nearest[0]}?" if nearest else "")
