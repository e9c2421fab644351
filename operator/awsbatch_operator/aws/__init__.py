"""AWS Batch behind `api.interfaces.BatchProvider`. The only package that imports boto3."""
