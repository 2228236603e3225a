mock_provider "aws" {
  source = "./tests/mocks"
}

# One after the other on one table, as everywhere: what is ignored after the first apply keeps its value.
variables {
  name = "locks"
}

run "provisioned_capacity_is_scaled" {
  variables {
    provisioned_capacity = {
      read               = { min = 5, max = 50 }
      write              = { min = 10, max = 400 }
      target_utilization = 60
    }
  }

  assert {
    condition     = aws_dynamodb_table.this.billing_mode == "PROVISIONED" && aws_dynamodb_table.this.read_capacity == 5 && aws_dynamodb_table.this.write_capacity == 10
    error_message = "the table does not begin with the smallest capacity"
  }

  assert {
    condition     = aws_appautoscaling_target.capacity["Read"].min_capacity == 5 && aws_appautoscaling_target.capacity["Read"].max_capacity == 50 && aws_appautoscaling_target.capacity["Write"].min_capacity == 10 && aws_appautoscaling_target.capacity["Write"].max_capacity == 400
    error_message = "auto scaling does not have the ranges given"
  }

  assert {
    condition     = alltrue([for kind, target in aws_appautoscaling_target.capacity : target.resource_id == "table/locks" && target.scalable_dimension == "dynamodb:table:${kind}CapacityUnits" && target.service_namespace == "dynamodb"])
    error_message = "auto scaling is not about this table"
  }

  assert {
    condition     = alltrue([for kind, policy in aws_appautoscaling_policy.capacity : policy.policy_type == "TargetTrackingScaling" && policy.target_tracking_scaling_policy_configuration[0].target_value == 60 && policy.target_tracking_scaling_policy_configuration[0].predefined_metric_specification[0].predefined_metric_type == "DynamoDB${kind}CapacityUtilization"])
    error_message = "auto scaling does not aim at the utilization given"
  }
}

run "auto_scaling_has_the_capacity_afterwards" {
  variables {
    provisioned_capacity = {
      read  = { min = 20, max = 50 }
      write = { min = 40, max = 400 }
    }
  }

  assert {
    condition     = aws_appautoscaling_target.capacity["Read"].min_capacity == 20 && aws_appautoscaling_target.capacity["Write"].min_capacity == 40 && aws_appautoscaling_policy.capacity["Read"].target_tracking_scaling_policy_configuration[0].target_value == 70
    error_message = "auto scaling does not get the new ranges"
  }

  assert {
    condition     = aws_dynamodb_table.this.read_capacity == 5 && aws_dynamodb_table.this.write_capacity == 10
    error_message = "Terraform sets the capacity that auto scaling has chosen"
  }
}

run "on_demand_again" {
  assert {
    condition     = aws_dynamodb_table.this.billing_mode == "PAY_PER_REQUEST" && length(aws_appautoscaling_target.capacity) + length(aws_appautoscaling_policy.capacity) == 0
    error_message = "something of provisioned capacity is left"
  }
}
