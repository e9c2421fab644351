output "role_arn" {
  description = "The role. With IRSA it goes into the ServiceAccount's annotation eks.amazonaws.com/role-arn."
  value       = aws_iam_role.operator.arn
}

output "role_name" {
  description = "Its name, as CloudTrail shows it."
  value       = aws_iam_role.operator.name
}
