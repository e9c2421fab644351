"""Names in Kubernetes. They are part of the contract: manifests, RBAC rules and dashboards contain them too."""

from typing import Final

GROUP: Final = "awsbatch.dev"
VERSION: Final = "v1alpha1"
PLURAL: Final = "batchjobs"
KIND: Final = "BatchJob"
POLICY_PLURAL: Final = "batchaccesspolicies"
POLICY_KIND: Final = "BatchAccessPolicy"
TERMINATION_PLURAL: Final = "batchterminations"
TERMINATION_KIND: Final = "BatchTermination"
API_VERSION: Final = f"{GROUP}/{VERSION}"


def crd_name(plural: str) -> str:
    return f"{plural}.{GROUP}"


def crd_file(plural: str) -> str:
    return f"crds/{crd_name(plural)}.yaml"


CRD_NAME: Final = crd_name(PLURAL)
CRD_FILE: Final = crd_file(PLURAL)

FIELD_MANAGER: Final = "awsbatch-operator"
"""Manager of `.status` in managedFields, and first word of the User-Agent."""

FINALIZER: Final = f"{GROUP}/terminate-on-delete"
"""Holds an object that states spec.onDelete until its job is terminated."""

SUSPEND_ANNOTATION: Final = f"{GROUP}/suspend-terminations"
"""Annotation of the operator's Lease that holds all terminations, whatever its value."""

REPORTING_CONTROLLER: Final = f"{GROUP}/awsbatch-operator"
"""The column FROM of Events in `kubectl describe`; must be a qualified name."""
