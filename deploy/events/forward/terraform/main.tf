data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  events = "arn:${data.aws_partition.current.partition}:events:${data.aws_region.current.id}:${data.aws_caller_identity.current.account_id}"

  # The same as on the bus. EventBridge forwards whole events: there is no transformer between accounts.
  pattern = {
    source        = ["aws.batch", "awsbatch.dev"]
    "detail-type" = ["Batch Job State Change", "Batch Job Queue Blocked", "awsbatch-operator canary"]
  }

  trust = {
    Version = "2012-10-17"
    Statement = [{
      Sid       = "OneRule"
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { ArnEquals = { "aws:SourceArn" = "${local.events}:rule/${var.name}" } }
    }]
  }

  forward = {
    Version = "2012-10-17"
    Statement = [{
      Sid      = "ForwardEvents"
      Effect   = "Allow"
      Action   = "events:PutEvents"
      Resource = var.hub_bus_arn
    }]
  }

  policy = {
    Version = "2012-10-17"
    Statement = [{
      Sid      = "PutCanaryEvents"
      Effect   = "Allow"
      Action   = "events:PutEvents"
      Resource = "${local.events}:event-bus/default"
      Condition = {
        StringEquals = {
          "events:source"      = "awsbatch.dev"
          "events:detail-type" = "awsbatch-operator canary"
        }
      }
    }]
  }
}

# The rule's own role: an event bus takes events of an organization from roles only.
resource "aws_iam_role" "forwarder" {
  name_prefix        = "awsbatch-operator-forward-"
  description        = "EventBridge forwards the events of AWS Batch to the event bus of awsbatch-operator."
  assume_role_policy = jsonencode(local.trust)
  tags               = var.tags
}

resource "aws_iam_role_policy" "forwarder" {
  name   = "forward"
  role   = aws_iam_role.forwarder.id
  policy = jsonencode(local.forward)
}

resource "aws_cloudwatch_event_rule" "forward" {
  name          = var.name
  description   = "AWS Batch jobs that changed their state, to the event bus of awsbatch-operator."
  event_pattern = jsonencode(local.pattern)
  tags          = var.tags
}

resource "aws_cloudwatch_event_target" "forward" {
  rule      = aws_cloudwatch_event_rule.forward.name
  target_id = "bus"
  arn       = var.hub_bus_arn
  role_arn  = aws_iam_role.forwarder.arn

  retry_policy {
    maximum_event_age_in_seconds = 3600
    maximum_retry_attempts       = 185
  }
}

resource "aws_iam_role_policy" "canary" {
  count = var.role_name != "" ? 1 : 0

  # One for each region: roles are global, rules are not.
  name   = "${var.name}-${data.aws_region.current.id}"
  role   = var.role_name
  policy = jsonencode(local.policy)
}
