"""Why the operator can't do its work on this cluster, in words that say what to do about it."""

import json
from collections.abc import Sequence

from awsbatch_operator.kube import names
from awsbatch_operator.kube.answers import ApiError
from awsbatch_operator.kube.rights import Right


class PreflightError(Exception):
    """Why the operator can't do its work on this cluster; the message is one line and says what to do."""


def forbidden(missing: Sequence[Right]) -> str:
    """For rights that all lack in the same namespace, or in none."""
    namespace = missing[0].namespace
    where, role = (f"namespace {namespace}", "Role") if namespace else ("the whole cluster", "ClusterRole")
    groups = ", ".join(dict.fromkeys(right.group or json.dumps("") for right in missing))
    return (
        f"Kubernetes forbids {', '.join(map(str, missing))} in {where}: grant it by a {role} to the operator's "
        f"service account (apiGroups: [{groups}])"
    )


def diagnosis(error: ApiError, kind: str = names.KIND, plural: str = names.PLURAL) -> str:
    match error.status:
        case 0:
            return error.message
        case 401:
            return f"the Kubernetes API refuses the credentials ({error.message}): renew those of KUBECONFIG or the pod"
        case 404:
            crd = names.crd_name(plural)
            return (
                f"the cluster knows no {kind}: install the custom resource definition {crd} first "
                f"(kubectl apply -f {names.crd_file(plural)})"
            )
        case status:
            return f"the Kubernetes API answers HTTP {status}: {error.message}"
