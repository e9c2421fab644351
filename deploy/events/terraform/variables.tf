variable "role_name" {
  description = "Name of the role that reads the queue, without its path: the operator's own, or that of a BatchAccessPolicy. The module adds an inline policy to it. Empty: add the statements of ../policy.json yourself."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^[0-9A-Za-z+=,.@_-]{0,64}$", var.role_name))
    error_message = "Give the name of a role in this account, without its path."
  }
}

variable "name" {
  description = "Name of the queue, the rules, the event bus and the inline policy. Each operator needs a queue of its own."
  type        = string
  default     = "awsbatch-operator-events"
  nullable    = false

  validation {
    condition     = can(regex("^[0-9A-Za-z_-]{1,50}$", var.name))
    error_message = "Give 1 to 50 letters, digits, - or _."
  }
}

variable "forwarding_accounts" {
  description = "Accounts that may forward their events here (../forward/terraform); this account too, for its other regions."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for account in var.forwarding_accounts : can(regex("^[0-9]{12}$", account))])
    error_message = "Give ids of accounts, such as 222233334444."
  }
}

variable "organization_id" {
  description = "All accounts of this organization may forward their events here. Empty: only forwarding_accounts."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^(o-[a-z0-9]{10,32})?$", var.organization_id))
    error_message = "Give the id of an organization, such as o-a1b2c3d4e5."
  }
}

variable "alarm_topic_arn" {
  description = "SNS topic that the two alarms notify. Empty: they notify nobody."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^(arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[0-9A-Za-z_-]{1,256})?$", var.alarm_topic_arn))
    error_message = "Give the ARN of a standard SNS topic."
  }
}

variable "tags" {
  description = "Tags of queues, rules, event bus and alarms."
  type        = map(string)
  default     = {}
  nullable    = false
}
