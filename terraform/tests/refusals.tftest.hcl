# What the module refuses, one run each. scripts/terraform-test shows the message of each.
mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name = "locks"
}

run "a_name_that_is_too_short" {
  command = plan
  variables {
    name = "lo"
  }
  expect_failures = [var.name]
}

run "a_name_with_a_blank" {
  command = plan
  variables {
    name = "my locks"
  }
  expect_failures = [var.name]
}

run "an_empty_partition_key" {
  command = plan
  variables {
    partition_key = ""
  }
  expect_failures = [var.partition_key]
}

run "a_partition_key_that_lock_items_have" {
  command = plan
  variables {
    partition_key = "ownerName"
  }
  expect_failures = [var.partition_key]
}

run "an_empty_sort_key" {
  command = plan
  variables {
    sort_key = ""
  }
  expect_failures = [var.sort_key]
}

run "a_sort_key_that_lock_items_have" {
  command = plan
  variables {
    sort_key = "fencingToken"
  }
  expect_failures = [var.sort_key]
}

run "a_sort_key_like_the_partition_key" {
  command = plan
  variables {
    sort_key = "key"
  }
  expect_failures = [var.sort_key]
}

run "capacity_of_zero" {
  command = plan
  variables {
    provisioned_capacity = { read = { min = 0, max = 10 }, write = { min = 1, max = 10 } }
  }
  expect_failures = [var.provisioned_capacity]
}

run "capacity_with_its_range_upside_down" {
  command = plan
  variables {
    provisioned_capacity = { read = { min = 1, max = 10 }, write = { min = 20, max = 10 } }
  }
  expect_failures = [var.provisioned_capacity]
}

run "capacity_that_is_no_whole_number" {
  command = plan
  variables {
    provisioned_capacity = { read = { min = 1, max = 10 }, write = { min = 1.5, max = 10 } }
  }
  expect_failures = [var.provisioned_capacity]
}

run "a_target_utilization_without_headroom" {
  command = plan
  variables {
    provisioned_capacity = { read = { min = 1, max = 10 }, write = { min = 1, max = 10 }, target_utilization = 95 }
  }
  expect_failures = [var.provisioned_capacity]
}

run "the_alias_of_a_key" {
  command = plan
  variables {
    server_side_encryption = { kms_key_arn = "arn:aws:kms:us-east-1:123456789012:alias/locks" }
  }
  expect_failures = [var.server_side_encryption]
}

run "a_tag_of_aws" {
  command = plan
  variables {
    tags = { "aws:team" = "platform" }
  }
  expect_failures = [var.tags]
}

run "too_many_tags" {
  command = plan
  variables {
    tags = { for n in range(51) : "tag${n}" => "" }
  }
  expect_failures = [var.tags]
}

run "the_eventually_consistent_mode" {
  command = plan
  variables {
    global_table = { replicas = [{ region = "us-east-2" }, { region = "us-west-2" }], consistency_mode = "EVENTUAL" }
  }
  expect_failures = [var.global_table]
}

run "two_regions_without_a_witness" {
  command = plan
  variables {
    global_table = { replicas = [{ region = "us-east-2" }] }
  }
  expect_failures = [var.global_table]
}

run "three_regions_and_a_witness" {
  command = plan
  variables {
    global_table = { replicas = [{ region = "us-east-2" }, { region = "us-west-2" }], witness_region = "us-west-1" }
  }
  expect_failures = [var.global_table]
}

run "four_regions" {
  command = plan
  variables {
    global_table = { replicas = [{ region = "us-east-2" }, { region = "us-west-2" }, { region = "us-west-1" }] }
  }
  expect_failures = [var.global_table]
}

run "a_witness_alone" {
  command = plan
  variables {
    global_table = { replicas = [], witness_region = "us-west-2" }
  }
  expect_failures = [var.global_table]
}

run "a_replica_in_no_region" {
  command = plan
  variables {
    global_table = { replicas = [{ region = "Ohio" }, { region = "us-west-2" }] }
  }
  expect_failures = [var.global_table]
}

run "a_region_twice" {
  command = plan
  variables {
    global_table = { replicas = [{ region = "us-east-2" }, { region = "us-east-2" }] }
  }
  expect_failures = [var.global_table]
}

run "a_witness_where_a_replica_is" {
  command = plan
  variables {
    global_table = { replicas = [{ region = "us-east-2" }], witness_region = "us-east-2" }
  }
  expect_failures = [var.global_table]
}

run "a_witness_in_no_region" {
  command = plan
  variables {
    global_table = { replicas = [{ region = "us-east-2" }], witness_region = "west" }
  }
  expect_failures = [var.global_table]
}

run "a_replica_in_the_tables_own_region" {
  command = plan
  variables {
    global_table = { replicas = [{ region = "us-east-1" }, { region = "us-west-2" }] }
  }
  expect_failures = [aws_dynamodb_table.this]
}

run "a_key_for_the_table_and_none_for_its_replicas" {
  command = plan
  variables {
    server_side_encryption = { kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/home" }
    global_table           = { replicas = [{ region = "us-east-2" }, { region = "us-west-2" }] }
  }
  expect_failures = [var.global_table]
}

run "a_replica_with_a_key_of_another_region" {
  command = plan
  variables {
    server_side_encryption = { kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/home" }
    global_table           = { replicas = [{ region = "us-east-2", kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/home" }], witness_region = "us-west-2" }
  }
  expect_failures = [var.global_table]
}

run "a_global_table_with_time_to_live" {
  command = plan
  variables {
    global_table = { replicas = [{ region = "us-east-2" }, { region = "us-west-2" }] }
    time_to_live = true
  }
  expect_failures = [var.global_table]
}

run "a_global_table_with_provisioned_capacity" {
  command = plan
  variables {
    global_table         = { replicas = [{ region = "us-east-2" }, { region = "us-west-2" }] }
    provisioned_capacity = { read = { min = 1, max = 10 }, write = { min = 1, max = 10 } }
  }
  expect_failures = [var.global_table]
}

run "an_empty_namespace" {
  command = plan
  variables {
    namespaces = [""]
  }
  expect_failures = [var.namespaces]
}

run "a_namespace_with_a_wildcard" {
  command = plan
  variables {
    namespaces = ["billing*"]
  }
  expect_failures = [var.namespaces]
}

run "a_namespace_within_another" {
  command = plan
  variables {
    namespaces = ["billing", "billing-test"]
  }
  expect_failures = [var.namespaces]
}

run "an_alarm_action_that_is_no_arn" {
  command = plan
  variables {
    alarms = { actions = ["oncall@example.com"] }
  }
  expect_failures = [var.alarms]
}

run "an_alarm_at_no_throttled_requests" {
  command = plan
  variables {
    alarms = { throttled_requests = 0 }
  }
  expect_failures = [var.alarms]
}

run "an_alarm_at_any_conditional_check_failure" {
  command = plan
  variables {
    alarms = { conditional_check_failures = 0 }
  }
  expect_failures = [var.alarms]
}

run "an_endpoint_in_no_vpc" {
  command = plan
  variables {
    vpc_endpoint = { vpc_id = "main", route_table_ids = ["rtb-0a1b"] }
  }
  expect_failures = [var.vpc_endpoint]
}

run "an_endpoint_without_route_tables" {
  command = plan
  variables {
    vpc_endpoint = { vpc_id = "vpc-0a1b", route_table_ids = [] }
  }
  expect_failures = [var.vpc_endpoint]
}
