mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name = "locks"
}

run "keys_may_have_other_names" {
  variables {
    partition_key = "lock"
    sort_key      = "scope"
  }

  assert {
    condition     = aws_dynamodb_table.this.hash_key == "lock" && aws_dynamodb_table.this.range_key == "scope"
    error_message = "the keys do not have the names given"
  }

  assert {
    condition     = toset([for a in aws_dynamodb_table.this.attribute : "${a.name} ${a.type}"]) == toset(["lock S", "scope S"])
    error_message = "the keys are not strings"
  }

  assert {
    condition     = output.partition_key == "lock" && output.sort_key == "scope"
    error_message = "the outputs do not name the keys"
  }
}

run "time_to_live_is_on_the_librarys_attribute" {
  variables {
    time_to_live = true
  }

  assert {
    condition     = aws_dynamodb_table.this.ttl[0].enabled && aws_dynamodb_table.this.ttl[0].attribute_name == "ttl"
    error_message = "TTL is not on the attribute ttl"
  }
}

run "protection_can_be_left_out" {
  variables {
    point_in_time_recovery = false
    deletion_protection    = false
  }

  assert {
    condition     = !aws_dynamodb_table.this.point_in_time_recovery[0].enabled && !aws_dynamodb_table.this.deletion_protection_enabled
    error_message = "the table is protected although that was declined"
  }
}

run "encryption_with_the_accounts_key" {
  variables {
    server_side_encryption = {}
  }

  assert {
    condition     = aws_dynamodb_table.this.server_side_encryption[0].enabled
    error_message = "the account's own key is not used"
  }

  assert {
    condition     = length(jsondecode(output.holder_policy).Statement) == 1
    error_message = "the policy documents speak of a key although there is none to name"
  }
}

run "encryption_with_a_customer_managed_key" {
  variables {
    server_side_encryption = { kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555" }
    namespaces             = ["billing/"]
  }

  assert {
    condition     = aws_dynamodb_table.this.server_side_encryption[0].enabled && aws_dynamodb_table.this.server_side_encryption[0].kms_key_arn == "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
    error_message = "the key given is not used"
  }

  assert {
    condition = alltrue([
      for document in concat([output.holder_policy, output.observer_policy, output.operator_policy], values(output.namespace_policies["billing/"])) :
      contains(jsondecode(document).Statement, {
        Sid       = "Key"
        Effect    = "Allow"
        Action    = ["kms:Decrypt"]
        Resource  = ["arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"]
        Condition = { StringEquals = { "kms:ViaService" = ["dynamodb.us-east-1.amazonaws.com"] } }
      })
    ])
    error_message = "a policy document does not allow the key, or not only by way of DynamoDB"
  }
}

run "tags_are_on_everything" {
  variables {
    tags                 = { team = "platform" }
    alarms               = {}
    provisioned_capacity = { read = { min = 1, max = 2 }, write = { min = 1, max = 2 } }
    vpc_endpoint         = { vpc_id = "vpc-0a1b", route_table_ids = ["rtb-0a1b"] }
  }

  assert {
    condition = alltrue([
      for tags in concat(
        [aws_dynamodb_table.this.tags],
        values(aws_appautoscaling_target.capacity)[*].tags,
        values(aws_cloudwatch_metric_alarm.requests)[*].tags,
        aws_cloudwatch_metric_alarm.conditional_check_failures[*].tags,
        aws_vpc_endpoint.dynamodb[*].tags,
      ) : tags.team == "platform"
    ])
    error_message = "something does not bear the tags"
  }
}

run "three_regions" {
  variables {
    global_table = { replicas = [{ region = "us-east-2" }, { region = "us-west-2" }] }
  }

  assert {
    condition     = toset([for r in aws_dynamodb_table.this.replica : r.region_name]) == toset(["us-east-2", "us-west-2"]) && length(aws_dynamodb_table.this.global_table_witness) == 0
    error_message = "the table is not in the Regions given"
  }

  assert {
    condition     = alltrue([for r in aws_dynamodb_table.this.replica : r.consistency_mode == "STRONG" && r.point_in_time_recovery && r.propagate_tags])
    error_message = "a replica is not strongly consistent, protected and tagged"
  }

  assert {
    condition = output.table_arns == [
      "arn:aws:dynamodb:us-east-1:123456789012:table/locks",
      "arn:aws:dynamodb:us-east-2:123456789012:table/locks",
      "arn:aws:dynamodb:us-west-2:123456789012:table/locks",
    ] && jsondecode(output.holder_policy).Statement[0].Resource == output.table_arns
    error_message = "the policy documents do not cover the table in all Regions"
  }
}

run "two_regions_and_a_witness_with_keys" {
  variables {
    server_side_encryption = { kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/home" }
    global_table = {
      replicas       = [{ region = "us-east-2", kms_key_arn = "arn:aws:kms:us-east-2:123456789012:key/away" }]
      witness_region = "us-west-2"
    }
  }

  assert {
    condition     = [for r in aws_dynamodb_table.this.replica : "${r.region_name} ${r.kms_key_arn}"] == ["us-east-2 arn:aws:kms:us-east-2:123456789012:key/away"] && aws_dynamodb_table.this.global_table_witness[0].region_name == "us-west-2"
    error_message = "the table does not have the replica and the witness given"
  }

  assert {
    condition     = length(output.table_arns) == 2
    error_message = "the policy documents cover the witness, which takes no requests"
  }

  assert {
    condition = [for s in jsondecode(output.holder_policy).Statement : [s.Resource, s.Condition] if s.Sid == "Key"] == [[
      ["arn:aws:kms:us-east-1:123456789012:key/home", "arn:aws:kms:us-east-2:123456789012:key/away"],
      { StringEquals = { "kms:ViaService" = ["dynamodb.us-east-1.amazonaws.com", "dynamodb.us-east-2.amazonaws.com"] } },
    ]]
    error_message = "the policy documents do not allow the keys of both Regions"
  }
}

run "alarms" {
  variables {
    alarms = {
      actions                    = ["arn:aws:sns:us-east-1:123456789012:oncall"]
      throttled_requests         = 7
      conditional_check_failures = 3
    }
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.requests["throttled-requests"].threshold == 7 && aws_cloudwatch_metric_alarm.requests["system-errors"].threshold == 5
    error_message = "the thresholds are not those given, or their defaults"
  }

  assert {
    condition     = toset([for q in aws_cloudwatch_metric_alarm.requests["throttled-requests"].metric_query : one(q.metric).dimensions.Operation if length(q.metric) > 0]) == toset(["GetItem", "Scan", "TransactWriteItems", "UpdateItem"])
    error_message = "the alarm does not watch the operations of the library"
  }

  assert {
    condition     = alltrue([for a in aws_cloudwatch_metric_alarm.requests : alltrue([for q in a.metric_query : one(q.metric).dimensions.TableName == "locks" if length(q.metric) > 0])])
    error_message = "an alarm watches another table"
  }

  assert {
    condition     = contains([for q in aws_cloudwatch_metric_alarm.conditional_check_failures[0].metric_query : q.expression], "ANOMALY_DETECTION_BAND(refused, 3)") && aws_cloudwatch_metric_alarm.conditional_check_failures[0].threshold_metric_id == "usual"
    error_message = "conditional check failures are not compared with what is usual"
  }

  assert {
    condition     = alltrue([for a in concat(values(aws_cloudwatch_metric_alarm.requests), aws_cloudwatch_metric_alarm.conditional_check_failures) : toset(a.alarm_actions) == toset(["arn:aws:sns:us-east-1:123456789012:oncall"]) && toset(a.ok_actions) == toset(["arn:aws:sns:us-east-1:123456789012:oncall"]) && a.treat_missing_data == "notBreaching"])
    error_message = "an alarm does not tell those who are to be told, or goes off for want of data"
  }

  assert {
    condition     = toset(keys(output.alarm_arns)) == toset(["throttled-requests", "system-errors", "conditional-check-failures"])
    error_message = "the output does not name the alarms"
  }
}

run "gateway_endpoint" {
  variables {
    vpc_endpoint = { vpc_id = "vpc-0a1b", route_table_ids = ["rtb-1", "rtb-2"] }
  }

  assert {
    condition     = aws_vpc_endpoint.dynamodb[0].vpc_endpoint_type == "Gateway" && aws_vpc_endpoint.dynamodb[0].service_name == "com.amazonaws.us-east-1.dynamodb" && aws_vpc_endpoint.dynamodb[0].vpc_id == "vpc-0a1b" && aws_vpc_endpoint.dynamodb[0].route_table_ids == toset(["rtb-1", "rtb-2"])
    error_message = "it is no gateway to DynamoDB for the route tables given"
  }

  assert {
    condition     = output.vpc_endpoint_id == "vpce-0123" && output.vpc_endpoint_prefix_list_id == "pl-0123"
    error_message = "the outputs do not name the endpoint"
  }
}
