variable "region" {
  description = "Region of everything."
  type        = string
  default     = "us-east-1"
  nullable    = false
}

variable "name" {
  description = "Prefix of all names."
  type        = string
  default     = "dynalock-example"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,39}$", var.name))
    error_message = "name is \"${var.name}\", allowed: 1 to 40 characters out of a-z, 0-9 and '-', with a letter first"
  }
}

variable "job_package" {
  description = "Path of the zip file with the scheduled job, as examples/lambda builds it: dist/job-ARCHITECTURE.zip."
  type        = string
  nullable    = false

  validation {
    condition     = fileexists(var.job_package)
    error_message = "job_package is \"${var.job_package}\", allowed: the path of a file that exists; build it first"
  }
}

variable "consumer_package" {
  description = "Path of the zip file with the queue's consumer, as examples/lambda builds it: dist/consumer-ARCHITECTURE.zip."
  type        = string
  nullable    = false

  validation {
    condition     = fileexists(var.consumer_package)
    error_message = "consumer_package is \"${var.consumer_package}\", allowed: the path of a file that exists; build it first"
  }
}

variable "architecture" {
  description = "Architecture for which the packages are built."
  type        = string
  default     = "arm64"
  nullable    = false

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture is \"${var.architecture}\", allowed: arm64 or x86_64"
  }
}

variable "schedule" {
  description = "When the job is to run, as an expression of EventBridge Scheduler."
  type        = string
  default     = "rate(1 minute)"
  nullable    = false

  validation {
    condition     = can(regex("^(rate|cron)\\(.+\\)$", var.schedule))
    error_message = "schedule is \"${var.schedule}\", allowed: rate(...) or cron(...)"
  }
}
