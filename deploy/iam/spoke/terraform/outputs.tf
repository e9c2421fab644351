output "role_arn" {
  description = "The role, for spec.role.arn of the BatchAccessPolicy and for the operator's own role."
  value       = aws_iam_role.spoke.arn
}

output "external_id" {
  description = "The ExternalId to assume it with."
  value       = local.external_id
}

output "role_name" {
  description = "Its name, for the modules of ../../../events."
  value       = aws_iam_role.spoke.name
}
