terraform {
  # 1.9 is the first version in which a validation may look at other variables.
  required_version = ">= 1.9.0"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # 6.22 is the first version that knows the witness of a strongly consistent global table.
      version = ">= 6.22.0, < 7.0.0"
    }
  }
}
