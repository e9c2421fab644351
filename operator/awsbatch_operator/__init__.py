"""A Kubernetes operator for jobs that run in AWS Batch."""

__version__ = "0.1.0"
