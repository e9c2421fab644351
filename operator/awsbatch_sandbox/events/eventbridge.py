"""PutEvents of EventBridge: events of one's own on the default bus, by the rules of those of AWS Batch."""

import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

from awsbatch_sandbox.events.bus import Event, EventBus
from awsbatch_sandbox.events.errors import ServiceError

JSON = dict[str, Any]
MAX_ENTRIES: Final = 10
IDS: Final = ("jobId", "jobQueue", "status")


def put_events(bus: EventBus, account: str, region: str, body: Mapping[str, Any], at: int) -> JSON:
    """Each entry is accepted or refused for itself. `at`: epoch milliseconds."""
    entries: list[JSON] = body.get("Entries") or []
    if not 1 <= len(entries) <= MAX_ENTRIES:
        demand = "length less than or equal to 10" if entries else "length greater than or equal to 1"
        where = "1 validation error detected: Value at 'entries' failed to satisfy constraint"
        raise ServiceError("ValidationException", f"{where}: Member must have {demand}")
    answers = [_put(bus, account, region, entry, at) for entry in entries]
    return {"FailedEntryCount": sum("ErrorCode" in answer for answer in answers), "Entries": answers}


def _put(bus: EventBus, account: str, region: str, entry: JSON, at: int) -> JSON:
    if refused := _refusal(entry):
        return {"ErrorCode": refused[0], "ErrorMessage": refused[1]}
    # An event for a bus that does not exist is accepted and lost, as on AWS.
    if entry.get("EventBusName", "default") in ("default", f"arn:aws:events:{region}:{account}:event-bus/default"):
        detail = json.loads(entry["Detail"])
        ids = {name: detail.get(name, "") for name in IDS}
        resources = entry.get("Resources") or ()
        event = Event(entry["Source"], entry["DetailType"], account, region, at, resources, ids, lambda: detail)
        bus.publish(event)
    return {"EventId": str(uuid.uuid4())}


def _refusal(entry: JSON) -> tuple[str, str] | None:
    for name in ("Source", "DetailType", "Detail"):
        if not entry.get(name):
            reason = f"Reason: {name} is a required argument."
            return "InvalidArgument", f"Parameter {name} is not valid. {reason}"
    if entry["Source"].startswith("aws."):
        return "NotAuthorizedForSourceException", "Not authorized for the source."
    try:
        detail = json.loads(entry["Detail"])
    except ValueError:
        detail = None
    return None if isinstance(detail, dict) else ("MalformedDetail", "Detail is malformed.")
