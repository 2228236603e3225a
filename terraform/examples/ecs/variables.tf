variable "region" {
  description = "Region of everything."
  type        = string
  default     = "us-east-1"
  nullable    = false
}

variable "name" {
  description = "Prefix of all names, and namespace of the locks."
  type        = string
  default     = "dynalock-example"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,39}$", var.name))
    error_message = "name is \"${var.name}\", allowed: 1 to 40 characters out of a-z, 0-9 and '-', with a letter first"
  }
}

variable "image" {
  description = "Image of the worker, built from examples/ecs."
  type        = string
  nullable    = false

  validation {
    condition     = length(var.image) > 0
    error_message = "image is empty, allowed: the name of an image"
  }
}

variable "ecr_repository_arn" {
  description = "ARN of the ECR repository that the image is in. Null: the image is public."
  type        = string
  default     = null

  validation {
    condition     = var.ecr_repository_arn == null ? true : can(regex("^arn:[^:]+:ecr:[^:]+:[0-9]{12}:repository/.+$", var.ecr_repository_arn))
    error_message = "ecr_repository_arn is ${jsonencode(var.ecr_repository_arn)}, allowed: null, or the ARN of a repository (arn:PARTITION:ecr:REGION:ACCOUNT:repository/NAME)"
  }
}

variable "architecture" {
  description = "Architecture for which the image is built."
  type        = string
  default     = "ARM64"
  nullable    = false

  validation {
    condition     = contains(["ARM64", "X86_64"], var.architecture)
    error_message = "architecture is \"${var.architecture}\", allowed: ARM64 or X86_64"
  }
}

variable "health_check" {
  description = "Command inside the container that tells whether the worker is well, in ECS's form."
  type        = list(string)
  default     = ["CMD", "/worker", "-health"]
  nullable    = false

  validation {
    condition     = length(var.health_check) >= 2 && contains(["CMD", "CMD-SHELL"], var.health_check[0])
    error_message = "health_check is ${jsonencode(var.health_check)}, allowed: CMD or CMD-SHELL, and a command"
  }
}

variable "workers" {
  description = "Number of workers, one of which leads."
  type        = number
  default     = 3
  nullable    = false

  validation {
    condition     = var.workers >= 1 && var.workers <= 100 && floor(var.workers) == var.workers
    error_message = "workers is ${var.workers}, allowed: 1 to 100"
  }
}

variable "vpc_id" {
  description = "VPC of the workers."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^vpc-[0-9a-f]+$", var.vpc_id))
    error_message = "vpc_id is \"${var.vpc_id}\", allowed: the id of a VPC (vpc-...)"
  }
}

variable "subnet_ids" {
  description = "Subnets of the workers, in more than one Availability Zone, with a way to DynamoDB, the registry and CloudWatch Logs."
  type        = set(string)
  nullable    = false

  validation {
    condition     = length(var.subnet_ids) >= 1 && alltrue([for id in var.subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "subnet_ids is ${jsonencode(var.subnet_ids)}, allowed: 1 or more ids of subnets (subnet-...)"
  }
}

variable "assign_public_ip" {
  description = "Whether the workers get public addresses, which they need in a subnet without a NAT gateway or endpoints."
  type        = bool
  default     = false
  nullable    = false
}
