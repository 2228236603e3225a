locals {
  # The operations of the library, which DynamoDB counts apart.
  operations = ["GetItem", "Scan", "TransactWriteItems", "UpdateItem"]

  alarms = var.alarms == null ? {} : {
    throttled-requests = {
      metric      = "ThrottledRequests"
      threshold   = var.alarms.throttled_requests
      description = "DynamoDB throttles requests of the lock table ${var.name}. A holder whose heartbeats are throttled for a whole lease loses its lock. Raise the capacity, or find the key that everybody wants: one key takes 1,000 writes a second."
    }
    system-errors = {
      metric      = "SystemErrors"
      threshold   = var.alarms.system_errors
      description = "DynamoDB fails requests of the lock table ${var.name}. Holders go on until their deadline, waiters wait. See the AWS Health Dashboard."
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "requests" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = each.value.threshold
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  treat_missing_data  = "notBreaching" # DynamoDB reports these metrics only where they are not 0
  alarm_actions       = var.alarms.actions
  ok_actions          = var.alarms.actions
  tags                = var.tags

  metric_query {
    id          = "total"
    label       = each.value.metric
    expression  = "SUM(METRICS())"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = local.operations
    content {
      id = lower(metric_query.value)
      metric {
        namespace   = "AWS/DynamoDB"
        metric_name = each.value.metric
        stat        = "Sum"
        period      = 60
        dimensions = {
          TableName = aws_dynamodb_table.this.name
          Operation = metric_query.value
        }
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "conditional_check_failures" {
  count = var.alarms == null ? 0 : 1

  alarm_name          = "${var.name}-conditional-check-failures"
  alarm_description   = "Far more conditional writes of the lock table ${var.name} are refused than usual at this hour. Some client retries without waiting, a lock is fought over, or holders lose locks that they believe to hold."
  comparison_operator = "GreaterThanUpperThreshold"
  threshold_metric_id = "usual"
  evaluation_periods  = 3
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarms.actions
  ok_actions          = var.alarms.actions
  tags                = var.tags

  metric_query {
    id          = "usual"
    label       = "ConditionalCheckFailedRequests (usual)"
    expression  = "ANOMALY_DETECTION_BAND(refused, ${var.alarms.conditional_check_failures})"
    return_data = true
  }

  metric_query {
    id          = "refused"
    return_data = true
    metric {
      namespace   = "AWS/DynamoDB"
      metric_name = "ConditionalCheckFailedRequests"
      stat        = "Sum"
      period      = 300
      dimensions = {
        TableName = aws_dynamodb_table.this.name
      }
    }
  }
}
