"""AWS Batch behind the port `domain.ports.Batch`. The only room that imports boto3."""

from awsbatch_operator.aws.batch import AwsBatch
from awsbatch_operator.aws.clients import SettingsError, default_region

__all__ = ["AwsBatch", "SettingsError", "default_region"]
