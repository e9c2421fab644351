variable "hub_role_arn" {
  description = "The operator's own role, which must exist."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[0-9A-Za-z_+=,.@/-]{1,512}$", var.hub_role_arn))
    error_message = "Give the ARN of a role, without wildcards."
  }
}

variable "cluster_name" {
  description = "The operator's --cluster-name, the chart's value clusterName."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9A-Za-z_.-]{1,63}$", var.cluster_name))
    error_message = "Give the operator's --cluster-name."
  }
}

variable "policy_name" {
  description = "metadata.name of the BatchAccessPolicy that names this role. Empty: account- and the id of this account, so that one configuration serves all accounts."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$", var.policy_name))
    error_message = "Give the name of a BatchAccessPolicy."
  }
}

variable "role_name" {
  description = "Name of the role. Choose it first, because the operator's own role must name it too."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9A-Za-z+=,.@_-]{1,64}$", var.role_name))
    error_message = "Give 1 to 64 letters, digits or any of +=,.@_- as the name."
  }
}

variable "role_path" {
  description = "Path of the role, such as /awsbatch/my-cluster/, if the operator's own role names its spokes by a path."
  type        = string
  default     = "/"
  nullable    = false

  validation {
    condition     = can(regex("^/([0-9A-Za-z_+=,.@-]+/)*$", var.role_path))
    error_message = "Give a path that begins and ends with a slash."
  }
}

variable "regions" {
  description = "Regions whose jobs can be seen and terminated."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.regions) > 0 && alltrue([for region in var.regions : can(regex("^[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}$", region))])
    error_message = "Give at least one name of a region, such as eu-west-1."
  }
}

variable "permissions_boundary" {
  description = "ARN of the permissions boundary, if your account requires one."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of the role itself. kubernetes-namespace is not allowed: IAM would use it for sessions without that tag."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = !contains([for key in keys(var.tags) : lower(key)], "kubernetes-namespace")
    error_message = "The role can't carry a tag kubernetes-namespace: IAM would take it for the session's where that has none."
  }
}
