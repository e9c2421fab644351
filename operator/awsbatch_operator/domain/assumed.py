"""What the operator tells STS when it assumes a policy's role: ExternalId, name of the session, session tags.

All of it is derived from the cluster, the policy and the namespace. Nothing of a BatchJob has a say in it.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

LONGEST_EXTERNAL_ID, LONGEST_SESSION_NAME, LONGEST_TAG = 1224, 64, 256

_ODD_IN_EXTERNAL_ID: Final = re.compile(r"[^A-Za-z0-9_+,.@:-]")
_ODD_IN_SESSION_NAME: Final = re.compile(r"[^A-Za-z0-9_+,.@-]")
_ODD_IN_TAG: Final = re.compile(r"[^A-Za-z0-9_.:/+@ -]")
_MARK: Final = "="
"""Stands in a cleaned or shortened text and in no other: AWS takes it, and none of the patterns above lets it pass."""
_DIGEST: Final = 16


@dataclass(frozen=True, slots=True)
class Session:
    """Parameters of AssumeRole. `tags` in the order in which they are sent."""

    role: str
    external_id: str
    name: str
    tags: tuple[tuple[str, str], ...]


def looking(role: str, cluster: str, policy: str) -> Session:
    """For DescribeJobs, on which IAM puts no conditions: one session, and so one lane, for all of a policy's jobs."""
    return Session(role, external_id(cluster, policy), _name(f"policy,{policy}@{cluster}"), (_cluster(cluster),))


def ending(role: str, cluster: str, policy: str, namespace: str) -> Session:
    """For TerminateJob: with the namespace as a session tag, for IAM to hold against the tags of the job."""
    tags = (("kubernetes-namespace", _fitted(namespace, _ODD_IN_TAG, LONGEST_TAG)), _cluster(cluster))
    return Session(role, external_id(cluster, policy), _name(f"ns,{namespace}@{cluster}"), tags)


def external_id(cluster: str, policy: str) -> str:
    """`awsbatch-operator/<cluster>/<policy>`: what the role's trust policy must ask for."""
    parts = (_fitted(part, _ODD_IN_EXTERNAL_ID, (LONGEST_EXTERNAL_ID - 19) // 2) for part in (cluster, policy))
    return "/".join(("awsbatch-operator", *parts))


def _name(text: str) -> str:
    return _fitted(text, _ODD_IN_SESSION_NAME, LONGEST_SESSION_NAME)


def _cluster(cluster: str) -> tuple[str, str]:
    return "kubernetes-cluster", _fitted(cluster, _ODD_IN_TAG, LONGEST_TAG)


def _fitted(text: str, odd: re.Pattern[str], longest: int) -> str:
    """The text as it is, if AWS takes it; else cleaned and shortened, with a digest of the whole at its end.

    Different texts stay different: what is fitted holds the mark, and what is left alone does not.
    """
    clean = odd.sub("-", text)
    if clean == text and 0 < len(text) <= longest:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    return f"{clean[: longest - _DIGEST - 1]}{_MARK}{digest}"
