terraform {
  required_version = ">= 1.2.0" # the first with preconditions

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.29.0" # the first with aws_eks_pod_identity_association
    }
  }
}
