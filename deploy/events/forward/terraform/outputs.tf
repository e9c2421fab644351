output "rule_arn" {
  description = "The rule that forwards the events."
  value       = aws_cloudwatch_event_rule.forward.arn
}
