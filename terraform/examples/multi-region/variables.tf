variable "region" {
  description = "Region in which the table is made."
  type        = string
  default     = "us-east-1"
  nullable    = false
}

variable "replica_region" {
  description = "Region of the replica, which serves requests like the first."
  type        = string
  default     = "us-east-2"
  nullable    = false
}

variable "witness_region" {
  description = "Region that only votes."
  type        = string
  default     = "us-west-2"
  nullable    = false
}
