variable "trust" {
  description = "How the pod authenticates: PodIdentity (EKS Pod Identity) or IRSA (the cluster's OIDC provider)."
  type        = string
  default     = "PodIdentity"
  nullable    = false

  validation {
    condition     = contains(["PodIdentity", "IRSA"], var.trust)
    error_message = "Give PodIdentity or IRSA."
  }
}

variable "cluster_arn" {
  description = "PodIdentity only. ARN of the EKS cluster that the operator runs in."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^(arn:aws[a-z-]*:eks:[a-z0-9-]+:[0-9]{12}:cluster/[0-9A-Za-z][0-9A-Za-z_-]{0,99})?$", var.cluster_arn))
    error_message = "Give the ARN of an EKS cluster, such as arn:aws:eks:eu-west-1:111122223333:cluster/my-cluster."
  }
}

variable "create_association" {
  description = "PodIdentity only. Whether the module associates the role with the ServiceAccount."
  type        = bool
  default     = true
  nullable    = false
}

variable "oidc_provider" {
  description = "IRSA only. The cluster's OIDC issuer without https://; IAM must know it as a provider."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^([0-9A-Za-z.-]+(/[0-9A-Za-z._-]+)*)?$", var.oidc_provider))
    error_message = "Give the issuer without https://, such as oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE."
  }
}

variable "namespace" {
  description = "The namespace of the operator."
  type        = string
  default     = "awsbatch-operator"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", var.namespace))
    error_message = "Give the name of a namespace, without wildcards."
  }
}

variable "service_account" {
  description = "The ServiceAccount of the operator."
  type        = string
  default     = "awsbatch-operator"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$", var.service_account))
    error_message = "Give the name of a ServiceAccount, without wildcards."
  }
}

variable "own_jobs" {
  description = "Whether the role itself can see and terminate the jobs of this account. false: it can only assume spoke_role_arns and spoke_role_pattern, because every BatchAccessPolicy names a role."
  type        = bool
  default     = true
  nullable    = false
}

variable "spoke_role_arns" {
  description = "Roles that BatchAccessPolicies name (../spoke/terraform). With Pod Identity the association then sends no session tags: see ../README.md."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.spoke_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[0-9A-Za-z_+=.@/-]{1,512}$", arn))])
    error_message = "Give ARNs of roles, without wildcards."
  }
}

variable "spoke_role_pattern" {
  description = "For more than 150 roles: the path or name with which all of them begin, in any account, such as awsbatch/my-cluster/*."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^([0-9A-Za-z_+=.@-][0-9A-Za-z_+=.@/-]{2,500}[*])?$", var.spoke_role_pattern))
    error_message = "Give the beginning of a path or name, at least 3 characters, and one * at its end."
  }
}

variable "regions" {
  description = "Regions whose jobs can be seen and terminated. Not needed with own_jobs = false."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for region in var.regions : can(regex("^[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}$", region))])
    error_message = "Give names of regions, such as eu-west-1."
  }
}

variable "job_tag" {
  description = "Only jobs that carry this tag can be terminated, such as {key = \"managed-by\", value = \"awsbatch-operator\"}. null: every job."
  type        = object({ key = string, value = string })
  default     = null

  validation {
    condition = var.job_tag == null ? true : (
      can(regex("^[0-9A-Za-z_.:/=+@-]{1,128}$", var.job_tag.key)) && can(regex("^[0-9A-Za-z_.:/=+@ -]{1,256}$", var.job_tag.value))
    )
    error_message = "Give the key of a tag, without spaces, and its value, without wildcards."
  }
}

variable "role_name" {
  description = "Name of the role, as CloudTrail shows it."
  type        = string
  default     = "awsbatch-operator"
  nullable    = false

  validation {
    condition     = can(regex("^[0-9A-Za-z+=,.@_-]{1,64}$", var.role_name))
    error_message = "Give 1 to 64 letters, digits or any of +=,.@_- as the name."
  }
}

variable "permissions_boundary" {
  description = "ARN of the permissions boundary, if your account requires one."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of the role itself."
  type        = map(string)
  default     = {}
  nullable    = false
}
