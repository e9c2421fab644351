"""The SQS queue that gets the events of AWS Batch, named by its URL."""

import re
from typing import Final, NamedTuple

from awsbatch_operator.api.job import Target

_REGION: Final = r"(?P<region>[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2})"
# All forms of the host: of a region, with FIPS or IPv6, of a VPC endpoint, and the oldest one.
_URL: Final = re.compile(
    rf"https?://([a-z0-9-]+\.)?((sqs(-fips)?\.{_REGION}|{_REGION.replace('region', 'oldest')}\.queue)\.[a-z0-9.-]+)"
    r"(:[0-9]{1,5})?/[0-9]{12}/[A-Za-z0-9_-]{1,80}"
)
REMEDY: Final = (
    "give the URL of a standard SQS queue, such as https://sqs.eu-west-1.amazonaws.com/123456789012/awsbatch-events"
)


class EventsQueue(NamedTuple):
    """`reader`: the region of the queue and the credentials that it is read with."""

    url: str
    reader: Target


def queue_region(url: str) -> str | None:
    """Return the region of the queue; None: this is not the URL of a standard queue."""
    found = _URL.fullmatch(url)
    return (found["region"] or found["oldest"]) if found else None
