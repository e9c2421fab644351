terraform {
  required_version = ">= 1.2.0" # the first with preconditions

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.2.0" # the first with disable_session_tags of aws_eks_pod_identity_association
    }
  }
}
