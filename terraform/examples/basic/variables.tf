variable "region" {
  description = "Region of the table."
  type        = string
  default     = "us-east-1"
  nullable    = false
}
