locals {
  # What the module has to know of the library: names of attributes, and the actions that each role calls. The tests of
  # the library compare it with the library.
  library = jsondecode(file("${path.module}/library.json"))

  on_demand = var.provisioned_capacity == null

  replicas      = try(var.global_table.replicas, [])
  other_regions = compact(concat(local.replicas[*].region, [try(var.global_table.witness_region, null)]))
}

data "aws_region" "current" {}

resource "aws_dynamodb_table" "this" {
  name      = var.name
  hash_key  = var.partition_key
  range_key = var.sort_key

  billing_mode   = local.on_demand ? "PAY_PER_REQUEST" : "PROVISIONED"
  read_capacity  = local.on_demand ? null : var.provisioned_capacity.read.min
  write_capacity = local.on_demand ? null : var.provisioned_capacity.write.min

  deletion_protection_enabled = var.deletion_protection
  tags                        = var.tags

  dynamic "attribute" {
    for_each = compact([var.partition_key, var.sort_key])
    content {
      name = attribute.value
      type = "S"
    }
  }

  # Written also where it is off: a block that is left out leaves what there is.
  ttl {
    attribute_name = local.library.time_to_live_attribute
    enabled        = var.time_to_live
  }

  point_in_time_recovery {
    enabled = var.point_in_time_recovery
  }

  dynamic "server_side_encryption" {
    for_each = var.server_side_encryption == null ? [] : [var.server_side_encryption]
    content {
      enabled     = true
      kms_key_arn = server_side_encryption.value.kms_key_arn
    }
  }

  dynamic "replica" {
    for_each = local.replicas
    content {
      region_name            = replica.value.region
      kms_key_arn            = replica.value.kms_key_arn
      consistency_mode       = var.global_table.consistency_mode
      point_in_time_recovery = var.point_in_time_recovery
      propagate_tags         = true
    }
  }

  dynamic "global_table_witness" {
    for_each = compact([try(var.global_table.witness_region, null)])
    content {
      region_name = global_table_witness.value
    }
  }

  lifecycle {
    # Provisioned capacity belongs to auto scaling from the start, so one resource serves both kinds of billing.
    ignore_changes = [read_capacity, write_capacity]

    precondition {
      condition     = !contains(local.other_regions, data.aws_region.current.region)
      error_message = "global_table has the Regions ${jsonencode(local.other_regions)}, allowed: others than ${data.aws_region.current.region}, where the table itself is"
    }
  }
}

locals {
  scaled = local.on_demand ? {} : {
    Read  = var.provisioned_capacity.read
    Write = var.provisioned_capacity.write
  }
}

resource "aws_appautoscaling_target" "capacity" {
  for_each = local.scaled

  service_namespace  = "dynamodb"
  resource_id        = "table/${aws_dynamodb_table.this.name}"
  scalable_dimension = "dynamodb:table:${each.key}CapacityUnits"
  min_capacity       = each.value.min
  max_capacity       = each.value.max
  tags               = var.tags
}

resource "aws_appautoscaling_policy" "capacity" {
  for_each = aws_appautoscaling_target.capacity

  name               = "${var.name}-${lower(each.key)}-capacity"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = each.value.service_namespace
  resource_id        = each.value.resource_id
  scalable_dimension = each.value.scalable_dimension

  target_tracking_scaling_policy_configuration {
    target_value = var.provisioned_capacity.target_utilization

    predefined_metric_specification {
      predefined_metric_type = "DynamoDB${each.key}CapacityUtilization"
    }
  }
}

resource "aws_vpc_endpoint" "dynamodb" {
  count = var.vpc_endpoint == null ? 0 : 1

  vpc_id            = var.vpc_endpoint.vpc_id
  service_name      = "com.amazonaws.${data.aws_region.current.region}.dynamodb"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = var.vpc_endpoint.route_table_ids
  tags              = merge({ Name = "${var.name}-dynamodb" }, var.tags)
}
