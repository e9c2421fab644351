"""The command `why`: one paragraph on what is known of an object, what holds it up, and what to do."""

from __future__ import annotations

from kubectl_awsbatch import output, states
from kubectl_awsbatch.errors import OK, STALLED, CommandError
from kubectl_awsbatch.kubectl import CHECK_OPERATOR, JOBS, TERMINATIONS, UNANSWERED_AFTER, KubectlError
from kubectl_awsbatch.output import clean, quoted
from kubectl_awsbatch.states import condition, holds, observed, status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

    from kubectl_awsbatch.kubectl import Kubectl

    Object = dict[str, Any]

_LAST_EVENTS = 3
_NO_ACTION = "Nothing to do."
_REMEDIES = {
    "JobNotFound": "spec.jobId and spec.region are immutable: to correct one, delete this BatchJob, then run "
    "`kubectl awsbatch adopt ID --region REGION`.",
    "JobVanished": "`kubectl awsbatch logs` prints them if the job had started.",
    "DeadlineNotApplicable": "To have no limit, remove spec.deadline from this BatchJob.",
    "TooManyJobs": "`kubectl awsbatch stop --queue` does that with a narrower --name or --tag, or with a larger --max.",
    "Throttled": _NO_ACTION,
    "AWSUnavailable": _NO_ACTION,
    "TerminationPending": _NO_ACTION,
    "WaitingOnDependencies": "Wait, or terminate those jobs too.",
    "TerminationInProgress": "Nothing to do: AWS Batch can take some minutes to terminate a job.",
    "AwaitingFirstObservation": _NO_ACTION,
    "Counting": "Nothing to do before the jobs are counted.",
}
"""What the operator's message does not say: its messages name the remedy of each reason for which a person must act."""


def remedy_for(reason: str) -> str:
    """Return what to add to the message of that reason of Stalled or Reconciling; empty if the message says all."""
    return _REMEDIES.get(reason, "")


def why(kubectl: Kubectl, name: str, kind: str | None, *, as_json: bool) -> int:
    """Explain the BatchJob of that name, and the BatchTermination of that name."""
    kubectl.cluster_context()
    found = _find(kubectl, name, kind)
    if not found:
        from kubectl_awsbatch.jobs import where_else

        kinds = [kind] if kind else [JOBS, TERMINATIONS]
        hints = [hint for one in kinds if (hint := where_else(kubectl, name, one))]
        place = f"namespace {clean(kubectl.cluster_context().namespace)}"
        sought = {JOBS: "BatchJob", TERMINATIONS: "BatchTermination"}.get(kind or "", "BatchJob or BatchTermination")
        raise CommandError(f"there is no {sought} {name} in {place}", " ".join(hints), STALLED)
    explained = []
    for body in found:
        events, note = _events(kubectl, body)
        now = states.now()
        parts = (explain_job if body["kind"] == "BatchJob" else explain_termination)(body, now)
        explained.append(
            {
                "kind": body["kind"],
                "name": name,
                **parts,
                "events": [event_line(one, now, parts["held"]) for one in events],
            }
        )
        if not as_json:
            output.write(paragraph(explained[-1], note) + "\n")
    if as_json:
        output.write_json(explained[0] if len(explained) == 1 else explained)
    return OK


def _find(kubectl: Kubectl, name: str, kind: str | None) -> list[Object]:
    if kind:
        return kubectl.get(kind, [name])
    found = kubectl.get(JOBS, [name])
    try:
        return found + kubectl.get(TERMINATIONS, [name])
    except KubectlError as error:
        if error.kind not in ("not installed", "forbidden"):
            raise
        return found


def _events(kubectl: Kubectl, body: Object) -> tuple[list[Object], str]:
    """The last Events about the object, the newest last, and a note if they cannot be read."""
    uid = body["metadata"]["uid"]
    try:
        found = kubectl.get("events", fields=f"involvedObject.uid={uid}", namespace=states.key(body)[0])
    except KubectlError as error:
        return [], f"Events cannot be read: {error.message}."
    return sorted(found, key=_event_time)[-_LAST_EVENTS:], ""


def _event_time(event: Object) -> str:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return str(next((one for one in times if one), event["metadata"].get("creationTimestamp")))


def event_line(event: Object, now: datetime, shown: str = "") -> str:
    """One Event with its age; without its message if that is part of what is shown already."""
    age = states.seconds_between(_event_time(event), None, now)
    ago = "" if age is None else f"{output.duration(age)} ago: "
    message = clean(event.get("message") or event.get("note") or "")
    return f"{ago}{clean(event.get('reason', ''))}" + (f": {message}" if message and message not in shown else "")


def paragraph(parts: Object, note: str = "") -> str:
    """The explanation as people read it."""
    todo = parts["todo"] or ("" if parts["held"] else _NO_ACTION)
    events = " ".join(f"[{line}]" for line in parts["events"])
    sentences = [parts["known"], parts["held"], todo, f"Last Events: {events}" if events else "", note]
    return " ".join(one for one in sentences if one)


def explain_job(body: Object, now: datetime) -> Object:
    """Sentences `known`, `held` and `todo` on a BatchJob.

    `held` is empty if nothing holds it up; `todo` also if `held` says what to do.
    """
    sentences = [_identity(body), _state(body, now), _termination(body), _deadline(body), _deletion(body, now)]
    held, todo = _held(body, now)
    return {"known": " ".join(one for one in sentences if one), "held": held, "todo": todo}


def _identity(body: Object) -> str:
    shown, spec = status(body), body["spec"]
    parts = [f"job {clean(spec.get('jobId'))}"]
    parts += [f"named {clean(shown['jobName'])}"] if shown.get("jobName") else []
    parts += [f"queue {clean(states.queue(body))}"] if states.queue(body) else []
    region = shown.get("region") or spec.get("region")
    parts += [f"region {clean(region)}"] if region else []
    parts += [f"account {clean(shown['accountId'])}"] if shown.get("accountId") else []
    phase = clean(shown.get("phase") or "not observed yet")
    return f"BatchJob {states.key(body)[1]} ({', '.join(parts)}) is {phase}."


def _state(body: Object, now: datetime) -> str:
    shown = status(body)
    if not shown.get("jobStatus"):
        return ""
    ran = states.seconds_between(shown.get("startedAt"), shown.get("stoppedAt"), now)
    waits = states.seconds_between(shown.get("createdAt"), None, now)
    ended = states.seconds_between(shown.get("stoppedAt"), None, now)
    array = shown.get("array") or {}
    text = f"AWS Batch says {clean(shown['jobStatus'])}"
    if shown.get("statusReason") and str(shown["statusReason"]) not in _blocked(body):
        text += f", {quoted(shown['statusReason'])}"
    if ran is not None:
        text += f"; it {'ran for' if ended is not None else 'has run for'} {output.duration(ran)}"
    elif array.get("statusSummary"):  # AWS names no start of a parent, and calls it PENDING while its children run
        children = (f"{int(count)} {clean(state)}" for state, count in array["statusSummary"].items() if count)
        text += f"; of its {int(array.get('size') or 0)} children: {', '.join(children)}"
    elif waits is not None and ended is None:
        text += f"; it was submitted {output.duration(waits)} ago and has not started"
    text += f", ended {output.duration(ended)} ago" if ended is not None else ""
    text += f", exit code {int(shown['exitCode'])}" if shown.get("exitCode") is not None else ""
    text += f", {quoted(shown['containerReason'])}" if shown.get("containerReason") else ""
    return f"{text}."


def _termination(body: Object) -> str:
    outcome = condition(body, "Terminated")
    sent = status(body).get("termination") or {}
    if sent.get("acceptedAt"):
        text = (
            f"AWS accepted its termination at {clean(sent['acceptedAt'])} with the reason {quoted(sent.get('reason'))}"
        )
        cause = {"Deadline": "spec.deadline", "OnDelete": "spec.onDelete"}.get(str(sent.get("cause")), "spec.terminate")
        return f"{text} (requested by {cause}): {clean(outcome.get('reason') or 'sent')}."
    stated, field = states.stated_reason(body), "spec.terminate"
    if stated is None and states.is_being_deleted(body):
        stated, field = states.on_delete_reason(body), "spec.onDelete"
    if stated is None:
        return ""
    outcome_reason = clean(outcome.get("reason") or "not processed yet")
    return f"Its termination is requested by {field} with the reason {quoted(stated)}: {outcome_reason}."


def _deadline(body: Object) -> str:
    due = status(body).get("deadline") or {}
    return f"Its limit {clean(due.get('limit'))} falls due at {clean(due['time'])}." if due.get("time") else ""


def _deletion(body: Object, now: datetime) -> str:
    asked = states.seconds_between(body["metadata"].get("deletionTimestamp"), None, now)
    if asked is not None:
        end = "; the operator sends no further terminations" if body["kind"] == "BatchTermination" else ""
        return f"The deletion of the object was requested {output.duration(asked)} ago{end}."
    reason = states.on_delete_reason(body)
    if reason is None or holds(body, "Finished"):
        return ""
    return f"Deleting it terminates the job with the reason {quoted(reason)} (spec.onDelete)."


def _held(body: Object, now: datetime) -> tuple[str, str]:
    """Return what delays the object or its deletion, and what to do."""
    if not states.is_being_deleted(body):
        return _delayed(body, now)
    kept, stop = _kept(body)
    if body["kind"] == "BatchTermination":  # the operator ignores it from now on
        return kept, stop
    held, todo = _delayed(body, now)
    return f"{held} {kept}".strip(), f"{todo} {stop}".strip()


def _kept(body: Object) -> tuple[str, str]:
    """Return what keeps an object that is being deleted."""
    finalizers = body["metadata"].get("finalizers") or []
    held, todo = [], ""
    if states.on_delete_reason(body) is not None:
        held.append(
            f"The finalizer {states.FINALIZER} keeps the object until AWS Batch shows the termination or the end of "
            "the job, at most for --on-delete-timeout (default: 1 h, plus the time in which the termination is held)."
        )
        if states.accepted_reason(body) is None and not holds(body, "Finished"):
            namespace, name = states.key(body)
            patch = '{"spec":{"onDelete":null}}'
            todo = f"To let the job continue: kubectl patch bj {name} -n {namespace} --type=merge -p '{patch}'."
    elif states.FINALIZER in finalizers:
        held.append(f"The operator is about to remove its finalizer {states.FINALIZER}.")
    if foreign := [clean(one) for one in finalizers if one != states.FINALIZER]:
        held.append(f"The object exists until other controllers have removed their finalizers: {', '.join(foreign)}.")
    return " ".join(held), todo


def _delayed(body: Object, now: datetime) -> tuple[str, str]:
    """Return what delays the object, and what to do."""
    for type_ in ("Stalled", "Reconciling"):
        if holds(body, type_):
            found = condition(body, type_)
            if type_ == "Reconciling" and condition(body, "Terminated").get("reason") == "WaitingOnDependencies":
                found = condition(body, "Terminated")
            reason = str(found.get("reason", ""))
            word = "A person must act" if type_ == "Stalled" else "In progress"
            message = clean(found.get("message", "")).rstrip(".")
            return f"{word}: {clean(reason)}{f': {message}' if message else ''}.", remedy_for(reason)
    if not observed(body):
        return _unanswered(body, now)
    blocked = _blocked(body)
    return (f"{clean(blocked)}." if blocked else ""), ""


def _unanswered(body: Object, now: datetime) -> tuple[str, str]:
    if status(body).get("observedGeneration"):  # the API server sets it to 0
        held = "The operator has not processed the last change of the object yet."
        return held, f"If it lasts for a minute, {CHECK_OPERATOR}."
    age = states.seconds_between(body["metadata"].get("creationTimestamp"), None, now)
    if age is not None and age < UNANSWERED_AFTER:
        held = "There is no status yet. AWS Batch may not have answered the operator: this can take half a minute."
        return held, "Wait, and repeat this command in a minute."
    return (
        "The operator has not written a status since the object was created.",
        f"To find the cause, {CHECK_OPERATOR}.",
    )


def _blocked(body: Object) -> str:
    """Why AWS Batch cannot start the job, and the remedy; empty if it can."""
    message = str(condition(body, "Ready").get("message", ""))
    return message if any(word in message for word in ("MISCONFIGURATION", "CAPACITY")) else ""


def explain_termination(body: Object, now: datetime) -> Object:
    """The same of a BatchTermination."""
    shown, spec = status(body), body["spec"]
    phase = clean(shown.get("phase") or "not observed yet")
    queues = clean(" ".join(spec["select"]["queues"]))
    known = (
        f"BatchTermination {states.key(body)[1]} (queues {queues}, region {clean(spec['region'])}, "
        f"jobs submitted before {clean(spec['createdBefore'])}, reason {quoted(spec['reason'])}) is {phase}; it is "
        f"{'approved' if spec.get('approved') else 'not approved'}."
    )
    counts = [f"{name} {int(shown[name])}" for name in ("matched", "requested", "ending", "failed") if name in shown]
    if "matched" in shown:
        known += f" At the last sweep: {', '.join(counts)}, of at most {int(spec['maxJobs'])}."
    elif shown.get("requested"):  # a restarted operator has not counted yet
        known += f" Requested so far: {int(shown['requested'])}, of at most {int(spec['maxJobs'])}."
    known += f" {_deletion(body, now)}".rstrip()
    held, todo = _held(body, now)
    if not held and shown.get("phase") == "AwaitingApproval" and not spec.get("approved"):
        held = "It waits for approval."
        patch = '{"spec":{"approved":true}}'
        namespace, name = states.key(body)
        todo = f"To approve it: kubectl patch bt {name} -n {namespace} --type=merge -p '{patch}'."
    return {"known": known, "held": held, "todo": todo}
