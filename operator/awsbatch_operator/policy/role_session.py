"""Parameters of AssumeRole for a policy's role: ExternalId, name of the session, session tags.

They are derived from the cluster, the policy and the namespace. No field of a BatchJob influences them.
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
"""Marks a cleaned or shortened text: AWS accepts it, and the patterns above allow it in no other text."""
_DIGEST: Final = 16


@dataclass(frozen=True, slots=True)
class Session:
    """Parameters of AssumeRole. `tags` in the order in which they are sent."""

    role: str
    external_id: str
    name: str
    tags: tuple[tuple[str, str], ...]


def for_describe(role: str, cluster: str, policy: str) -> Session:
    """Return the session for DescribeJobs: one for all jobs of a policy, since IAM supports no conditions for it."""
    return Session(role, external_id(cluster, policy), _name(f"policy,{policy}@{cluster}"), (_cluster(cluster),))


def for_terminate(role: str, cluster: str, policy: str, namespace: str) -> Session:
    """Return the session for TerminateJob: IAM can compare its session tag, the namespace, with the job's tags."""
    tags = (("kubernetes-namespace", _fitted(namespace, _ODD_IN_TAG, LONGEST_TAG)), _cluster(cluster))
    return Session(role, external_id(cluster, policy), _name(f"ns,{namespace}@{cluster}"), tags)


def external_id(cluster: str, policy: str) -> str:
    """Return `awsbatch-operator/<cluster>/<policy>`, which the role's trust policy must require."""
    parts = (_fitted(part, _ODD_IN_EXTERNAL_ID, (LONGEST_EXTERNAL_ID - 19) // 2) for part in (cluster, policy))
    return "/".join(("awsbatch-operator", *parts))


def _name(text: str) -> str:
    return _fitted(text, _ODD_IN_SESSION_NAME, LONGEST_SESSION_NAME)


def _cluster(cluster: str) -> tuple[str, str]:
    return "kubernetes-cluster", _fitted(cluster, _ODD_IN_TAG, LONGEST_TAG)


def _fitted(text: str, odd: re.Pattern[str], longest: int) -> str:
    """Return the text unchanged if AWS accepts it; else cleaned and shortened, with a digest of the whole at its end.

    Different texts stay different: a changed text contains the mark, an unchanged one does not.
    """
    clean = odd.sub("-", text)
    if clean == text and 0 < len(text) <= longest:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    return f"{clean[: longest - _DIGEST - 1]}{_MARK}{digest}"
