output "table_name" {
  description = "Name of the table, for dynalock.New and DYNALOCK_TABLE."
  value       = aws_dynamodb_table.this.name
}

output "table_arn" {
  description = "ARN of the table in its own Region."
  value       = aws_dynamodb_table.this.arn
}

output "table_arns" {
  description = "ARNs of the table in all its Regions, its own first."
  value       = local.table_arns
}

output "partition_key" {
  description = "Name of the partition key, for Options.PartitionKey."
  value       = aws_dynamodb_table.this.hash_key
}

output "sort_key" {
  description = "Name of the sort key, for Options.SortKey; null if the table has none."
  value       = var.sort_key
}

output "holder_policy" {
  description = "Policy document (JSON) for processes that take locks: every key of the table."
  value       = local.policies.holder
}

output "observer_policy" {
  description = "Policy document (JSON) for processes and people that look at locks, wait until they are free without taking them, or list them: every key of the table, read only."
  value       = local.policies.observer
}

output "operator_policy" {
  description = "Policy document (JSON) for people with dynalock-admin: list, get, release, runs, rerun, pause, unpause, leader, hand-over and table check, on every key of the table. For its run, once and elect commands they need holder_policy."
  value       = local.policies.operator
}

output "namespace_policies" {
  description = "Policy documents (JSON) by namespace and role (holder, observer, operator), confined to keys that begin with the namespace. None of them can list locks or runs: a list reads the whole table."
  value       = local.namespace_policies
}

output "alarm_arns" {
  description = "ARNs of the alarms by their subject (throttled-requests, system-errors, conditional-check-failures); empty without alarms."
  value = merge(
    { for subject, alarm in aws_cloudwatch_metric_alarm.requests : subject => alarm.arn },
    { for alarm in aws_cloudwatch_metric_alarm.conditional_check_failures : "conditional-check-failures" => alarm.arn },
  )
}

output "vpc_endpoint_id" {
  description = "Id of the gateway endpoint; null without one."
  value       = one(aws_vpc_endpoint.dynamodb[*].id)
}

output "vpc_endpoint_prefix_list_id" {
  description = "Id of the prefix list of DynamoDB's addresses, for egress rules of security groups; null without the gateway endpoint."
  value       = one(aws_vpc_endpoint.dynamodb[*].prefix_list_id)
}
