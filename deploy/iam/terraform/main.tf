data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition

  trust_irsa = {
    Version = "2012-10-17"
    Statement = [{
      Sid    = "OneServiceAccount"
      Effect = "Allow"
      Principal = {
        Federated = "arn:${local.partition}:iam::${local.account}:oidc-provider/${var.oidc_provider}"
      }
      Action = "sts:AssumeRoleWithWebIdentity"
      Condition = {
        StringEquals = {
          "${var.oidc_provider}:aud" = "sts.amazonaws.com"
          "${var.oidc_provider}:sub" = "system:serviceaccount:${var.namespace}:${var.service_account}"
        }
      }
    }]
  }

  trust_pod_identity = {
    Version = "2012-10-17"
    Statement = [{
      Sid       = "OneServiceAccount"
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
      Condition = {
        StringEquals = {
          "aws:RequestTag/eks-cluster-arn"            = var.cluster_arn
          "aws:RequestTag/kubernetes-namespace"       = var.namespace
          "aws:RequestTag/kubernetes-service-account" = var.service_account
        }
      }
    }]
  }

  takes_roles = length(var.spoke_role_arns) > 0 || var.spoke_role_pattern != ""

  # Without session tags there is nothing to compare.
  trust_pod_identity_hub = {
    Version = "2012-10-17"
    Statement = [{
      Sid       = "OneServiceAccount"
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
    }]
  }

  trust = {
    IRSA        = jsonencode(local.trust_irsa)
    PodIdentity = local.takes_roles ? jsonencode(local.trust_pod_identity_hub) : jsonencode(local.trust_pod_identity)
  }

  tag_condition = var.job_tag == null ? {} : { "aws:ResourceTag/${var.job_tag.key}" = var.job_tag.value }

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
        Resource = "arn:${local.partition}:batch:*:${local.account}:job/*"
        Condition = {
          StringEquals = merge({ "aws:RequestedRegion" = var.regions }, local.tag_condition)
        }
      },
    ]
  }

  by_arn = {
    Sid      = "AssumeSpokeRoles"
    Effect   = "Allow"
    Action   = ["sts:AssumeRole", "sts:TagSession"]
    Resource = var.spoke_role_arns
  }

  by_name = {
    Sid      = "AssumeSpokeRolesByName"
    Effect   = "Allow"
    Action   = ["sts:AssumeRole", "sts:TagSession"]
    Resource = ["arn:${local.partition}:iam::*:role/${var.spoke_role_pattern}"]
  }

  policy_hub = {
    Version = "2012-10-17"
    Statement = concat(
      length(var.spoke_role_arns) > 0 ? [local.by_arn] : [],
      var.spoke_role_pattern != "" ? [local.by_name] : [],
    )
  }
}

resource "aws_iam_role" "operator" {
  name                 = var.role_name
  description          = "awsbatch-operator sees the jobs of AWS Batch and terminates those whose BatchJob requests it."
  assume_role_policy   = local.trust[var.trust]
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags

  lifecycle {
    precondition {
      condition     = var.trust != "IRSA" || var.oidc_provider != ""
      error_message = "trust = IRSA needs oidc_provider."
    }
    precondition {
      condition     = var.trust != "PodIdentity" || var.cluster_arn != ""
      error_message = "trust = PodIdentity needs cluster_arn."
    }
    precondition {
      condition     = !var.own_jobs || length(var.regions) > 0
      error_message = "own_jobs = true needs regions."
    }
    precondition {
      condition     = var.own_jobs || local.takes_roles
      error_message = "own_jobs = false needs spoke_role_arns or spoke_role_pattern."
    }
  }
}

resource "aws_iam_role_policy" "operator" {
  count = var.own_jobs ? 1 : 0

  name   = "awsbatch-operator"
  role   = aws_iam_role.operator.id
  policy = jsonencode(local.policy)
}

resource "aws_iam_role_policy" "spokes" {
  count = local.takes_roles ? 1 : 0

  name   = "awsbatch-operator-spokes"
  role   = aws_iam_role.operator.id
  policy = jsonencode(local.policy_hub)
}

resource "aws_eks_pod_identity_association" "operator" {
  count = var.trust == "PodIdentity" && var.create_association ? 1 : 0

  cluster_name    = split("/", var.cluster_arn)[1]
  namespace       = var.namespace
  service_account = var.service_account
  role_arn        = aws_iam_role.operator.arn

  # EKS would make them transitive, and kubernetes-namespace could not be set for a spoke.
  disable_session_tags = local.takes_roles
}
