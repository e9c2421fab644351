"""Checks before the start: the messages that explain why the operator can't work on this cluster."""

import json
from collections.abc import Sequence

from awsbatch_operator.api import names
from awsbatch_operator.kube.access_review import ResourceAttributes
from awsbatch_operator.kube.responses import ApiError


class PreflightError(Exception):
    """Why the operator can't work on this cluster; the message is one line and names the remedy."""


def explain_missing(missing: Sequence[ResourceAttributes]) -> str:
    """Explain permissions that are missing in one namespace (the first one's), or in the whole cluster."""
    namespace = missing[0].namespace
    where, role = (f"namespace {namespace}", "Role") if namespace else ("the whole cluster", "ClusterRole")
    groups = ", ".join(dict.fromkeys(permission.group or json.dumps("") for permission in missing))
    return (
        f"Kubernetes forbids {', '.join(map(str, missing))} in {where}: grant it by a {role} to the operator's "
        f"service account (apiGroups: [{groups}])"
    )


def explain_error(error: ApiError, kind: str = names.KIND, plural: str = names.PLURAL) -> str:
    """Explain an error of a list of `plural`, with its remedy where there is one."""
    match error.status:
        case 0:
            return error.message
        case 401:
            return f"the Kubernetes API rejects the credentials ({error.message}): renew those of KUBECONFIG or the pod"
        case 404:
            crd = names.crd_name(plural)
            return (
                f"the cluster does not serve {kind}: install the custom resource definition {crd} first "
                f"(kubectl apply -f {names.crd_file(plural)})"
            )
        case status:
            return f"the Kubernetes API answers HTTP {status}: {error.message}"
