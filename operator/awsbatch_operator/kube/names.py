"""What things are called in Kubernetes. Part of the contract: manifests, RBAC rules and dashboards name them too."""

from typing import Final

GROUP: Final = "awsbatch.dev"
VERSION: Final = "v1alpha1"
PLURAL: Final = "batchjobs"
KIND: Final = "BatchJob"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CRD_NAME: Final = f"{PLURAL}.{GROUP}"
CRD_FILE: Final = f"crds/{CRD_NAME}.yaml"

FIELD_MANAGER: Final = "awsbatch-operator"
"""Owner of `.status` in managedFields, and first word of the User-Agent."""

REPORTING_CONTROLLER: Final = f"{GROUP}/awsbatch-operator"
"""FROM in `kubectl describe`; must be a qualified name."""
