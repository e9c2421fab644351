"""The command `why`: one paragraph on what is known of an object, what holds it up, and what to do."""

from __future__ import annotations

from kubectl_awsbatch import output, states
from kubectl_awsbatch.errors import OK, STALLED, CommandError
from kubectl_awsbatch.kubectl import JOBS, TERMINATIONS, KubectlError
from kubectl_awsbatch.output import clean, quoted
from kubectl_awsbatch.states import condition, holds, observed, status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

    from kubectl_awsbatch.kubectl import Kubectl

    Object = dict[str, Any]

_LAST_EVENTS = 3
_ASK_PLATFORM = "Ask the platform team, which writes the BatchAccessPolicies"
_REMEDIES = {
    "JobNotFound": "Check the id (it is neither the name of a job nor the id of a service job) and the region. "
    "Both are immutable: delete the object and adopt the right id.",
    "JobVanished": "AWS Batch deletes finished jobs after some days; search the job's logs for the result.",
    "JobNotAllowed": f"{_ASK_PLATFORM}, to admit the job, or use the namespace that it belongs to.",
    "NoAccessPolicy": f"{_ASK_PLATFORM}: exactly one must select this namespace.",
    "AmbiguousPolicy": f"{_ASK_PLATFORM}: only one may select this namespace.",
    "PolicyUnreadable": f"{_ASK_PLATFORM}: the policy contains something that this operator does not know; upgrade the "
    "operator.",
    "TerminationNotAllowed": f"{_ASK_PLATFORM}, to allow what the message names.",
    "ListNotAllowed": f"{_ASK_PLATFORM}, to allow what the message names.",
    "AccessDenied": "Grant the role of the policy, or the operator's own, what the message names; the operator tries "
    "again every 5 minutes.",
    "CredentialsUnavailable": "Give the operator AWS credentials; the message says what is missing.",
    "InvalidRegion": "Create another object with the right region, or ask the platform team for --allow-region.",
    "AccountChanged": "Create another BatchJob: this one belongs to a job of another account.",
    "TerminationRejected": "Read AWS's message; the request is sent again every 5 minutes.",
    "TerminationStuck": "Check the container and its host: AWS Batch accepted the termination; it is still active.",
    "DeadlineNotApplicable": "Set a limit that such a job can reach, or remove spec.deadline.",
    "OnDeleteDisabled": "Remove spec.onDelete, or let the platform team start the operator with --on-delete=enabled.",
    "QueueNotFound": "Check the names of the queues and the region.",
    "TooManyJobs": "Repeat stop --queue with a narrower --name or --tag, or with a larger --max.",
    "CutoffInFuture": "createdBefore must not be later than the creation of the object; create another one.",
    "TerminationHeld": "Wait, or ask the platform team: the message says what suspends or limits terminations.",
    "Throttled": "Nothing: the operator retries.",
    "AWSUnavailable": "Nothing: the operator retries.",
    "TerminationPending": "Nothing: the request is about to be sent.",
    "WaitingOnDependencies": "Wait, or terminate the jobs that it depends on: AWS Batch terminates it after them.",
    "TerminationInProgress": "Nothing: AWS Batch can take some minutes to terminate a job.",
    "AwaitingFirstObservation": "Nothing: the operator waits for the first response of AWS Batch.",
    "Counting": "Nothing: the operator counts the jobs.",
}


def remedy_for(reason: str) -> str:
    """Remedies by reason of Stalled or Reconciling; empty for an unknown reason."""
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
        parts = explain_job(body, now) if body["kind"] == "BatchJob" else explain_termination(body)
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
    todo = parts["todo"] or "Nothing to do."
    events = " ".join(f"[{line}]" for line in parts["events"])
    sentences = [parts["known"], parts["held"], todo, f"Last Events: {events}" if events else "", note]
    return " ".join(one for one in sentences if one)


def explain_job(body: Object, now: datetime) -> Object:
    """Sentences `known`, `held` and `todo` on a BatchJob; the last two are empty if nothing holds it up."""
    sentences = [_identity(body), _state(body, now), _termination(body), _deadline(body)]
    held, todo = _held(body)
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
    text += f", {quoted(shown['statusReason'])}" if shown.get("statusReason") else ""
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
    stated = states.stated_reason(body)
    if stated is None:
        return ""
    outcome_reason = clean(outcome.get("reason") or "not processed yet")
    return f"Its termination is requested with the reason {quoted(stated)}: {outcome_reason}."


def _deadline(body: Object) -> str:
    due = status(body).get("deadline") or {}
    return f"Its limit {clean(due.get('limit'))} falls due at {clean(due['time'])}." if due.get("time") else ""


_UNANSWERED = (
    "The operator has not processed the last change of the object yet.",
    "If it does not, check that it runs: kubectl get leases -A --field-selector metadata.name=awsbatch-operator.",
)


def _held(body: Object) -> tuple[str, str]:
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
        return _UNANSWERED
    blocked = str(condition(body, "Ready").get("message", ""))
    if any(word in blocked for word in ("MISCONFIGURATION", "CAPACITY")):
        return (
            f"It cannot start: {clean(blocked)}.",
            "Correct the compute environment or the job's requirements in AWS.",
        )
    return "", ""


def explain_termination(body: Object) -> Object:
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
    held, todo = _held(body)
    if not held and shown.get("phase") == "AwaitingApproval" and not spec.get("approved"):
        held = "It waits for approval."
        patch = '{"spec":{"approved":true}}'
        namespace, name = states.key(body)
        todo = f"To approve it: kubectl patch bt {name} -n {namespace} --type=merge -p '{patch}'."
    return {"known": known, "held": held, "todo": todo}
