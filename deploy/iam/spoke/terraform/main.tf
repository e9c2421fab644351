data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  policy_name = var.policy_name != "" ? var.policy_name : "account-${data.aws_caller_identity.current.account_id}"
  external_id = "awsbatch-operator/${var.cluster_name}/${local.policy_name}"

  trust = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "OnePolicyOfOneCluster"
        Effect    = "Allow"
        Principal = { AWS = var.hub_role_arn }
        Action    = "sts:AssumeRole"
        Condition = {
          StringEquals = {
            "sts:ExternalId"                    = local.external_id
            "aws:RequestTag/kubernetes-cluster" = var.cluster_name
          }
        }
      },
      {
        Sid       = "NoOtherTags"
        Effect    = "Allow"
        Principal = { AWS = var.hub_role_arn }
        Action    = "sts:TagSession"
        Condition = {
          "ForAllValues:StringEquals" = { "aws:TagKeys" = ["kubernetes-cluster", "kubernetes-namespace"] }
        }
      },
    ]
  }

  policy = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "DescribeJobs"
        Effect   = "Allow"
        Action   = "batch:DescribeJobs"
        Resource = "*" # IAM supports no other
        Condition = {
          StringEquals = { "aws:RequestedRegion" = var.regions }
        }
      },
      {
        Sid      = "ListJobs"
        Effect   = "Allow"
        Action   = "batch:ListJobs"
        Resource = "*" # IAM supports no other
        Condition = {
          StringEquals = { "aws:RequestedRegion" = var.regions }
        }
      },
      {
        Sid      = "TerminateJobs"
        Effect   = "Allow"
        Action   = "batch:TerminateJob" # TerminateJobs requires the same action
        Resource = "arn:${data.aws_partition.current.partition}:batch:*:${data.aws_caller_identity.current.account_id}:job/*"
        Condition = {
          StringEquals = {
            "aws:RequestedRegion"           = var.regions
            "aws:ResourceTag/k8s-namespace" = "$${aws:PrincipalTag/kubernetes-namespace}" # IAM's variable
          }
        }
      },
    ]
  }
}

resource "aws_iam_role" "spoke" {
  name                 = var.role_name
  path                 = var.role_path
  description          = "awsbatch-operator sees the jobs of AWS Batch and terminates those of one namespace at a time."
  assume_role_policy   = jsonencode(local.trust)
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags
}

resource "aws_iam_role_policy" "spoke" {
  name   = "awsbatch-operator"
  role   = aws_iam_role.spoke.id
  policy = jsonencode(local.policy)
}
