"""The SQS queue that gets the events of AWS Batch, named by its URL."""

import re
from typing import Final, NamedTuple

from awsbatch_operator.api.job import Target

# The host names the region, also of a FIPS, dual-stack or VPC endpoint. Requests go to botocore's endpoint there.
_URL: Final = re.compile(
    r"https://([a-z0-9-]{1,63}[.])?sqs(-fips)?[.](?P<region>[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2})[.][a-z0-9.-]+"
    r"/[0-9]{12}/[A-Za-z0-9_-]{1,80}"
)
REMEDY: Final = (
    "use the URL of a standard SQS queue, such as https://sqs.eu-west-1.amazonaws.com/123456789012/awsbatch-events"
)


class EventsQueue(NamedTuple):
    """`reader`: the region of the queue and the credentials that it is read with."""

    url: str
    reader: Target


def queue_region(url: str) -> str | None:
    """Return the region of the queue; None: this is not the URL of a standard queue."""
    found = _URL.fullmatch(url)
    return found["region"] if found else None
