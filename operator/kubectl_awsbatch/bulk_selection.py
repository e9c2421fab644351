"""Turns the flags of `stop --queue` into the BatchTermination that it creates."""

from __future__ import annotations

import os
import re

from kubectl_awsbatch.arguments import check_region
from kubectl_awsbatch.errors import UsageError
from kubectl_awsbatch.kubectl import API_VERSION
from kubectl_awsbatch.output import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Object = dict[str, Any]

QUEUE = "[A-Za-z0-9][A-Za-z0-9_-]{0,127}"
JOB_NAMES = "([A-Za-z0-9][A-Za-z0-9_-]{0,127}|([A-Za-z0-9][A-Za-z0-9_-]{0,127})?[*])"
MOST_JOBS = 100000
"""The same patterns as in the custom resource definition."""


class BulkSelection:
    """The selection of `stop --queue`."""

    __slots__ = ("jobs_at_most", "names", "queues", "reason", "region", "region_source", "tags")

    def __init__(
        self,
        queues: Sequence[str],
        *,
        names: Sequence[str],
        tags: Sequence[str],
        region: str | None,
        reason: str,
        jobs_at_most: int,
    ) -> None:
        self.queues, self.names, self.reason, self.jobs_at_most = list(queues), list(names), reason, jobs_at_most
        self.tags = _tags(tags)
        for one in queues:
            _check_queue(one)
        for one in names:
            if not re.fullmatch(JOB_NAMES, one):
                remedy = "Use a name such as train-42, or a prefix followed by *, such as train-*."
                raise UsageError(f"--name {quoted(one)} is not a job name", remedy)
        if jobs_at_most > MOST_JOBS:
            raise UsageError(f"--max is at most {MOST_JOBS}", "Divide the jobs by --queue, --name or --tag.")
        self.region, self.region_source = (region, "") if region else _region_of_the_caller()
        if not names and not tags:
            raise UsageError("--queue needs --name or --tag", "To terminate every job of the queues, use --name '*'.")

    def body(self, created_before: str) -> Object:
        select: Object = {"queues": self.queues}
        select |= {"jobNames": self.names} if self.names else {}
        select |= {"tags": self.tags} if self.tags else {}
        spec = {
            "region": self.region,
            "select": select,
            "createdBefore": created_before,
            "reason": self.reason,
            "maxJobs": self.jobs_at_most,
        }
        metadata = {"generateName": "stop-"}
        return {"apiVersion": API_VERSION, "kind": "BatchTermination", "metadata": metadata, "spec": spec}


def _check_queue(queue: str) -> None:
    if re.fullmatch(QUEUE, queue):
        return
    arn = re.fullmatch(r"arn:[\w-]+:batch:([\w-]+):\d*:job-queue/([\w-]+)", queue)
    remedy = f"Use --queue {arn[2]} and --region {arn[1]}." if arn else "Use the full name, such as gpu."
    raise UsageError(f"--queue {quoted(queue)} is not the name of a job queue", remedy)


def _tags(texts: Sequence[str]) -> dict[str, str]:
    """The tags. Raises UsageError for two values of one key: no job has both, and the first must not be dropped."""
    found: dict[str, str] = {}
    for name, value in map(_tag, texts):
        if found.setdefault(name, value) != value:
            raise UsageError(f"--tag sets {quoted(name)} to two values; no job has both", "Run one command for each.")
    return found


def _tag(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark or not 1 <= len(name) <= 128:
        raise UsageError(f"--tag {quoted(text)} is not a tag", "Write it as key=value; a key has 1 to 128 characters.")
    return name, value


def _region_of_the_caller() -> tuple[str, str]:
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if region := os.environ.get(variable):
            return check_region(region, variable), f" (of {variable})"
    raise UsageError("stop --queue needs the region of the jobs", "Set --region or AWS_REGION.")
