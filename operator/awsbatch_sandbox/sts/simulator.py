"""STS with the verbs by which tests control it: it assumes roles, issues credentials, and records each call."""

from collections.abc import Callable
from typing import Any

from awsbatch_sandbox.batch.credentials import TEMPORARY, Caller, Credential, Credentials
from awsbatch_sandbox.batch.identity import CODES, SKEW_MINUTES, status_of
from awsbatch_sandbox.batch.signature import SignatureError, SignedRequest, Verifier
from awsbatch_sandbox.sts import query
from awsbatch_sandbox.sts.query import Form, RefusedError, Reply
from awsbatch_sandbox.sts.trust import HOUR, Trust, Trusts, account_of


class StsSimulator:
    """`credentials` are those of the simulated Batch, which accepts what is issued here; `clock` its epoch seconds.

    `issuing_clock`: by which credentials expire, where a test lets the clocks of its client run ahead.
    """

    def __init__(
        self,
        credentials: Credentials,
        clock: Callable[[], float],
        issuing_clock: Callable[[], float] | None = None,
    ) -> None:
        self._credentials, self._clock, self._issuing_clock = credentials, clock, issuing_clock or clock
        self._issued = 0
        self._verifier = Verifier("sts", credentials, clock=clock, minutes=SKEW_MINUTES, serves=bool)
        self._trusts = Trusts()
        self._calls: list[dict[str, Any]] = []
        self._n = 0

    def trust(self, role: str, **terms: Any) -> None:
        """The terms on which the role of that ARN, or each other one by `*`, may be assumed: the fields of Trust."""
        self._trusts.set(role, Trust(**terms))

    def clear_trust(self) -> None:
        self._trusts.clear()

    def roles(self) -> list[str]:
        """ARNs of the roles that have a trust or were assumed."""
        return sorted(self._credentials.roles().union(self._trusts.roles()))

    def calls(self, action: str | None = None, since: int = 0) -> list[dict[str, Any]]:
        """The calls of that action, or of all, that came after the one with `n` = `since`."""
        return [call for call in self._calls if call["n"] > since and action in (None, call["action"])]

    def clear_calls(self) -> None:
        self._calls.clear()

    def expire(self, role: str | None = None) -> int:
        """End the sessions of that role, or all, before their stated expiry; return their number."""
        return self._credentials.expire(role, self._clock())

    def latency(self, request: SignedRequest) -> float:
        """Seconds that pass before the answer."""
        return self._trusts.of(query.form_of(request.body).get("RoleArn", "")).latency

    def answer(self, request: SignedRequest) -> Reply:
        form = query.form_of(request.body)
        call = self._arrived(form)
        try:
            credential, region = self._verifier.verify(request)
            caller = Caller.of(credential, region)
            call |= {"account": caller.account, "region": region, "access_key": caller.access_key, "caller": caller.arn}
            reply = self._act(form, credential, caller, call)
        except SignatureError as wrong:
            reply = RefusedError(status_of(wrong.problem), CODES[wrong.problem], wrong.message).reply
        except RefusedError as refused:
            reply = refused.reply
        call |= {"http_status": reply.status, "error": reply.error}
        return reply

    def _arrived(self, form: Form) -> dict[str, Any]:
        """The record of a call: the caller that the signature proved, the action, and the result.

        `issued` is the access key that was issued, `expires_at` epoch seconds.
        """
        self._n += 1
        call: dict[str, Any] = {
            "n": self._n,
            "at": self._clock(),
            "action": form.get("Action"),
            **dict.fromkeys(("account", "region", "access_key", "caller")),
            "role": form.get("RoleArn"),
            "role_session": form.get("RoleSessionName"),
            "external_id": form.get("ExternalId"),
            "tags": query.tags_of(form),
            "transitive_tag_keys": query.transitive_of(form),
            "duration": int(form["DurationSeconds"]) if form.get("DurationSeconds", "").isdecimal() else None,
            **dict.fromkeys(("http_status", "error", "issued", "expires_at")),
        }
        self._calls.append(call)
        return call

    def _act(self, form: Form, credential: Credential, caller: Caller, call: dict[str, Any]) -> Reply:
        action = form.get("Action")
        if action == "GetCallerIdentity":
            return query.identity(caller.account, caller.arn)
        if action != query.ASSUME_ROLE:
            message = f"Could not find operation {action} for version {form.get('Version')}"
            raise RefusedError(400, "InvalidAction", message)
        query.check(form)
        account, trust = account_of(form["RoleArn"]), self._trusts.of(form["RoleArn"])
        trust.check(caller.arn, form["RoleArn"], form.get("ExternalId"), query.tags_of(form))
        tags, transitive = _session_tags(form, credential)
        lifetime = trust.lifetime or _duration(form, trust, credential)
        self._issued += 1
        issued = Credential(
            access_key=f"{TEMPORARY}{self._issued}",
            secret=f"secret-{self._issued}",
            token=f"token-{self._issued}",
            account=account,
            role=form["RoleArn"],
            role_session=form["RoleSessionName"],
            # STS states whole seconds.
            expires_at=float(int(self._issuing_clock() + lifetime)),
            tags=tags,
            transitive=transitive,
        )
        self._credentials.issue(issued)
        call |= {"issued": issued.access_key, "expires_at": issued.expires_at}
        return query.assumed(issued)


def _session_tags(form: Form, credential: Credential) -> tuple[dict[str, str], frozenset[str]]:
    """The session's tags, and which of them are transitive: those of the call, and the caller's transitive ones."""
    tags, transitive = query.tags_of(form), query.transitive_of(form)
    inherited = {key: credential.tags[key] for key in credential.transitive}
    keys, theirs = [key.lower() for key in tags], {key.lower() for key in inherited}
    if len(set(keys)) < len(keys):
        raise _bad_tags("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    if not set(transitive) <= set(tags):
        raise _bad_tags("The specified transitive tag key must be included in the requested tags.")
    if theirs.intersection(keys):
        clash = "can't be set because it conflicts with a transitive tag key from the calling session."
        raise _bad_tags(f"One of the specified transitive tag keys {clash}")
    return tags | inherited, frozenset({*transitive, *inherited})


def _bad_tags(message: str) -> RefusedError:
    return RefusedError(400, "InvalidParameterValue", message)


def _duration(form: Form, trust: Trust, credential: Credential) -> int:
    seconds = int(form.get("DurationSeconds", HOUR))
    beyond = "The requested DurationSeconds exceeds the"
    if credential.role is not None and seconds > HOUR:
        message = f"{beyond} 1 hour session limit for roles assumed by role chaining."
        raise RefusedError(400, "ValidationError", message)
    if seconds > trust.max_duration:
        raise RefusedError(400, "ValidationError", f"{beyond} MaxSessionDuration set for this role.")
    return seconds
