mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name = "locks"
}

run "a_name_is_all_it_needs" {
  assert {
    condition     = aws_dynamodb_table.this.name == "locks" && aws_dynamodb_table.this.billing_mode == "PAY_PER_REQUEST"
    error_message = "the table is not an on-demand table with the name given"
  }

  assert {
    condition     = aws_dynamodb_table.this.hash_key == "key" && aws_dynamodb_table.this.range_key == null && [for a in aws_dynamodb_table.this.attribute : "${a.name} ${a.type}"] == ["key S"]
    error_message = "the key is not the library's default: a string named key, and no sort key"
  }

  assert {
    condition     = aws_dynamodb_table.this.ttl[0].enabled == false
    error_message = "TTL is on although nobody asked for retention"
  }

  assert {
    condition     = aws_dynamodb_table.this.point_in_time_recovery[0].enabled && aws_dynamodb_table.this.deletion_protection_enabled
    error_message = "the table is not protected"
  }

  assert {
    condition     = length(aws_dynamodb_table.this.server_side_encryption) == 0 && length(aws_dynamodb_table.this.replica) == 0 && length(aws_dynamodb_table.this.global_table_witness) == 0
    error_message = "encryption and Regions are not left to DynamoDB's defaults"
  }

  assert {
    condition     = length(aws_appautoscaling_target.capacity) + length(aws_appautoscaling_policy.capacity) + length(aws_cloudwatch_metric_alarm.requests) + length(aws_cloudwatch_metric_alarm.conditional_check_failures) + length(aws_vpc_endpoint.dynamodb) == 0
    error_message = "something exists that was not asked for"
  }

  assert {
    condition     = output.table_name == "locks" && output.table_arn == "arn:aws:dynamodb:us-east-1:123456789012:table/locks" && output.table_arns == [output.table_arn]
    error_message = "the outputs do not name the table"
  }

  assert {
    condition     = output.partition_key == "key" && output.sort_key == null && output.namespace_policies == {} && output.alarm_arns == {} && output.vpc_endpoint_id == null && output.vpc_endpoint_prefix_list_id == null
    error_message = "the outputs show something that was not asked for"
  }
}
