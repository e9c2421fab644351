"""Amazon EventBridge and SQS in memory, as far as the events of AWS Batch use them."""
