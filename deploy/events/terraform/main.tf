data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  events  = "arn:${data.aws_partition.current.partition}:events:${data.aws_region.current.id}:${data.aws_caller_identity.current.account_id}"
  has_bus = length(var.forwarding_accounts) > 0 || var.organization_id != ""

  # awsbatch.dev is the operator's own canary event, which proves that rule and queue work. It must pass each filter.
  pattern = {
    source        = ["aws.batch", "awsbatch.dev"]
    "detail-type" = ["Batch Job State Change", "Batch Job Queue Blocked", "awsbatch-operator canary"]
  }

  # An event holds the job's environment and command in clear. The transformer leaves all but ids out, so that who reads the
  # queue sees no secret.
  input_paths = {
    jobId    = "$.detail.jobId"
    jobQueue = "$.detail.jobQueue"
    status   = "$.detail.status"
    time     = "$.time"
    region   = "$.region"
    account  = "$.account"
  }
  input_template = "{\"jobId\": <jobId>, \"jobQueue\": <jobQueue>, \"status\": <status>, \"time\": <time>, \"region\": <region>, \"account\": <account>}"

  queue_policy = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "SendFromRules"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.events.arn
        Condition = {
          ArnEquals = {
            "aws:SourceArn" = concat(
              ["${local.events}:rule/${var.name}"],
              local.has_bus ? ["${local.events}:rule/${var.name}/${var.name}"] : [],
            )
          }
        }
      },
      {
        Sid       = "DenyWithoutTLS"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = aws_sqs_queue.events.arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  }

  dead_letter_policy = {
    Version = "2012-10-17"
    Statement = [{
      Sid       = "DenyWithoutTLS"
      Effect    = "Deny"
      Principal = "*"
      Action    = "sqs:*"
      Resource  = aws_sqs_queue.dead_letters.arn
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  }

  from_accounts = {
    Sid       = "ForwardFromAccounts"
    Effect    = "Allow"
    Principal = { AWS = var.forwarding_accounts }
    Action    = "events:PutEvents"
    Resource  = "${local.events}:event-bus/${var.name}"
  }

  from_organization = {
    Sid       = "ForwardFromOrganization"
    Effect    = "Allow"
    Principal = "*"
    Action    = "events:PutEvents"
    Resource  = "${local.events}:event-bus/${var.name}"
    Condition = { StringEquals = { "aws:PrincipalOrgID" = var.organization_id } }
  }

  bus_policy = {
    Version = "2012-10-17"
    Statement = concat(
      length(var.forwarding_accounts) > 0 ? [local.from_accounts] : [],
      var.organization_id != "" ? [local.from_organization] : [],
    )
  }

  policy = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "ReadEvents"
        Effect   = "Allow"
        Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage"]
        Resource = aws_sqs_queue.events.arn
      },
      {
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
      },
    ]
  }

  alarm_actions = var.alarm_topic_arn == "" ? [] : [var.alarm_topic_arn]
}

resource "aws_sqs_queue" "dead_letters" {
  name                      = "${var.name}-dead-letter"
  sqs_managed_sse_enabled   = true
  message_retention_seconds = 345600 # 4 days: what is wrong with a message can be examined after a weekend
  tags                      = var.tags
}

resource "aws_sqs_queue" "events" {
  name                    = var.name
  sqs_managed_sse_enabled = true
  # A message is only a hint to poll a job. After an hour without a reader all jobs were polled many times.
  message_retention_seconds  = 3600
  visibility_timeout_seconds = 20
  receive_wait_time_seconds  = 20
  redrive_policy             = jsonencode({ deadLetterTargetArn = aws_sqs_queue.dead_letters.arn, maxReceiveCount = 3 })
  tags                       = var.tags
}

resource "aws_sqs_queue_policy" "events" {
  queue_url = aws_sqs_queue.events.id
  policy    = jsonencode(local.queue_policy)
}

resource "aws_sqs_queue_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.id
  policy    = jsonencode(local.dead_letter_policy)
}

resource "aws_cloudwatch_event_rule" "events" {
  name          = var.name
  description   = "Ids of AWS Batch jobs that changed their state, for awsbatch-operator."
  event_pattern = jsonencode(local.pattern)
  tags          = var.tags
}

resource "aws_cloudwatch_event_target" "events" {
  rule      = aws_cloudwatch_event_rule.events.name
  target_id = "queue"
  arn       = aws_sqs_queue.events.arn

  retry_policy {
    maximum_event_age_in_seconds = 3600
    maximum_retry_attempts       = 185
  }

  input_transformer {
    input_paths    = local.input_paths
    input_template = local.input_template
  }
}

# EventBridge can't transform what it forwards to another account: these events hold environment and command. Who may create
# rules on this bus can read them.
resource "aws_cloudwatch_event_bus" "hub" {
  count = local.has_bus ? 1 : 0

  name = var.name
  tags = var.tags
}

resource "aws_cloudwatch_event_bus_policy" "hub" {
  count = local.has_bus ? 1 : 0

  event_bus_name = aws_cloudwatch_event_bus.hub[0].name
  policy         = jsonencode(local.bus_policy)
}

resource "aws_cloudwatch_event_rule" "hub" {
  count = local.has_bus ? 1 : 0

  name           = var.name
  description    = "Ids of AWS Batch jobs of other accounts and regions that changed their state, for awsbatch-operator."
  event_bus_name = aws_cloudwatch_event_bus.hub[0].name
  event_pattern  = jsonencode(local.pattern)
  tags           = var.tags
}

resource "aws_cloudwatch_event_target" "hub" {
  count = local.has_bus ? 1 : 0

  rule           = aws_cloudwatch_event_rule.hub[0].name
  event_bus_name = aws_cloudwatch_event_bus.hub[0].name
  target_id      = "queue"
  arn            = aws_sqs_queue.events.arn

  retry_policy {
    maximum_event_age_in_seconds = 3600
    maximum_retry_attempts       = 185
  }

  input_transformer {
    input_paths    = local.input_paths
    input_template = local.input_template
  }
}

resource "aws_iam_role_policy" "reader" {
  count = var.role_name != "" ? 1 : 0

  # One for each region: roles are global, queues are not.
  name   = "${var.name}-${data.aws_region.current.id}"
  role   = var.role_name
  policy = jsonencode(local.policy)
}

resource "aws_cloudwatch_metric_alarm" "not_read" {
  alarm_name          = "${var.name}-not-read"
  alarm_description   = "For 5 minutes the oldest message was older than 5 minutes. No operator reads the queue, or it can't keep up; jobs are polled at the normal interval meanwhile."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateAgeOfOldestMessage"
  dimensions          = { QueueName = aws_sqs_queue.events.name }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 5
  comparison_operator = "GreaterThanThreshold"
  threshold           = 300
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "dead_letters" {
  alarm_name          = "${var.name}-dead-letters"
  alarm_description   = "The dead-letter queue holds messages that name no job. Something other than the rule sends to the queue, or the rule was changed. No job is affected."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.dead_letters.name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
  tags                = var.tags
}
