output "queue_url" {
  description = "For --events-queue (the chart's value eventsQueues), or for spec.role.eventsQueue of a BatchAccessPolicy."
  value       = aws_sqs_queue.events.id
}

output "queue_arn" {
  description = "For the policy of the role that reads it, if the module has no role_name."
  value       = aws_sqs_queue.events.arn
}

output "bus_arn" {
  description = "hub_bus_arn of ../forward/terraform in the other accounts and regions. null without an event bus."
  value       = local.has_bus ? aws_cloudwatch_event_bus.hub[0].arn : null
}
