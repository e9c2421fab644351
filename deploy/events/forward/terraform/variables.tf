variable "hub_bus_arn" {
  description = "The output bus_arn of the module that has the queue (../../terraform)."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:events:[a-z0-9-]+:[0-9]{12}:event-bus/[0-9A-Za-z_-]{1,50}$", var.hub_bus_arn))
    error_message = "Give the ARN of an event bus."
  }
}

variable "role_name" {
  description = "Name of the role by which the operator polls the jobs of this account, without its path. The module adds an inline policy to it. Empty: add the statements of ../policy.json yourself."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^[0-9A-Za-z+=,.@_-]{0,64}$", var.role_name))
    error_message = "Give the name of a role in this account, without its path."
  }
}

variable "name" {
  description = "Name of the rule and the inline policy."
  type        = string
  default     = "awsbatch-operator-events"
  nullable    = false

  validation {
    condition     = can(regex("^[0-9A-Za-z_-]{1,50}$", var.name))
    error_message = "Give 1 to 50 letters, digits, - or _."
  }
}

variable "tags" {
  description = "Tags of the rule and its role."
  type        = map(string)
  default     = {}
  nullable    = false
}
