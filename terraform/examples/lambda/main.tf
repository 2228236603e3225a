# Two functions that share a lock table: a job that a schedule starts and that runs once per tick, however often the
# schedule delivers it; and a consumer that works on the messages of one key one after the other. The code of both is
# in examples/lambda at the top of the repository, which also builds the packages:
#
#   (cd ../../../examples/lambda && go run ./build)
#   terraform init
#   terraform apply -var job_package=../../../examples/lambda/dist/job-arm64.zip \
#     -var consumer_package=../../../examples/lambda/dist/consumer-arm64.zip
locals {
  job_namespace      = "jobs/"
  consumer_namespace = "orders/"
  consumer_timeout   = 30

  functions = {
    job = {
      package     = var.job_package
      namespace   = local.job_namespace
      timeout     = 60
      environment = {}
      policy      = module.locks.namespace_policies[local.job_namespace].holder
    }
    consumer = {
      package     = var.consumer_package
      namespace   = local.consumer_namespace
      timeout     = local.consumer_timeout
      environment = { QUEUE_URL = aws_sqs_queue.orders.url }
      policy      = module.locks.namespace_policies[local.consumer_namespace].holder
    }
  }
}

module "locks" {
  source = "../.."

  name         = "${var.name}-locks"
  namespaces   = [local.job_namespace, local.consumer_namespace]
  time_to_live = true # finished runs of Once are forgotten after a week
}

data "aws_caller_identity" "current" {}

data "aws_iam_policy_document" "function_trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "scheduler_trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }
    # Or a schedule of another account that names this role could have the scheduler take it.
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

# --- the functions

resource "aws_lambda_function" "this" {
  for_each = local.functions

  function_name    = "${var.name}-${each.key}"
  role             = aws_iam_role.function[each.key].arn
  filename         = each.value.package
  source_code_hash = filebase64sha256(each.value.package)
  runtime          = "provided.al2023"
  architectures    = [var.architecture]
  handler          = "bootstrap"
  memory_size      = 128
  timeout          = each.value.timeout # the lease is derived from it: the function holds no lock longer than it may run

  environment {
    variables = merge({
      DYNALOCK_TABLE     = module.locks.table_name
      DYNALOCK_NAMESPACE = each.value.namespace
      ORDERS_TABLE       = aws_dynamodb_table.orders.name
    }, each.value.environment)
  }

  logging_config {
    log_format = "JSON"
    log_group  = aws_cloudwatch_log_group.function[each.key].name
  }
}

resource "aws_cloudwatch_log_group" "function" {
  for_each = local.functions

  name              = "/aws/lambda/${var.name}-${each.key}"
  retention_in_days = 30
}

resource "aws_iam_role" "function" {
  for_each = local.functions

  name               = "${var.name}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.function_trust.json
}

resource "aws_iam_role_policy" "locks" {
  for_each = local.functions

  name   = "locks"
  role   = aws_iam_role.function[each.key].id
  policy = each.value.policy
}

data "aws_iam_policy_document" "logs" {
  for_each = local.functions

  statement {
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.function[each.key].arn}:*"]
  }
}

resource "aws_iam_role_policy" "logs" {
  for_each = local.functions

  name   = "logs"
  role   = aws_iam_role.function[each.key].id
  policy = data.aws_iam_policy_document.logs[each.key].json
}

# --- what the functions work on: guarded transactions write it together with a check of the lock

resource "aws_dynamodb_table" "orders" {
  name         = "${var.name}-orders"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "kind" # order, message or report
  range_key    = "id"

  attribute {
    name = "kind"
    type = "S"
  }

  attribute {
    name = "id"
    type = "S"
  }

  ttl {
    attribute_name = "ttl" # of messages that are done: longer than the queue keeps them
    enabled        = true
  }
}

data "aws_iam_policy_document" "orders" {
  for_each = {
    job      = ["dynamodb:Query", "dynamodb:UpdateItem"]
    consumer = ["dynamodb:GetItem", "dynamodb:PutItem"]
  }

  statement {
    actions   = each.value
    resources = [aws_dynamodb_table.orders.arn]
  }
}

resource "aws_iam_role_policy" "orders" {
  for_each = local.functions

  name   = "orders"
  role   = aws_iam_role.function[each.key].id
  policy = data.aws_iam_policy_document.orders[each.key].json
}

# --- the schedule of the job

resource "aws_scheduler_schedule" "job" {
  name                = "${var.name}-job"
  schedule_expression = var.schedule

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_lambda_function.this["job"].arn
    role_arn = aws_iam_role.scheduler.arn
    # The time of the tick, which is the period of Once: the same text in each delivery of one tick. Not by jsonencode,
    # which would escape the angle brackets by which the scheduler finds the place.
    input = "{\"time\":\"<aws.scheduler.scheduled-time>\"}"

    retry_policy {
      maximum_retry_attempts       = 3
      maximum_event_age_in_seconds = 3600
    }
  }
}

resource "aws_iam_role" "scheduler" {
  name               = "${var.name}-scheduler"
  assume_role_policy = data.aws_iam_policy_document.scheduler_trust.json
}

data "aws_iam_policy_document" "scheduler" {
  statement {
    actions   = ["lambda:InvokeFunction"]
    resources = [aws_lambda_function.this["job"].arn]
  }
}

resource "aws_iam_role_policy" "scheduler" {
  name   = "invoke"
  role   = aws_iam_role.scheduler.id
  policy = data.aws_iam_policy_document.scheduler.json
}

# --- the queue of the consumer

resource "aws_sqs_queue" "orders" {
  name                       = "${var.name}-orders"
  visibility_timeout_seconds = 6 * local.consumer_timeout # as AWS advises for functions
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead.arn
    # A message whose key is locked comes back and is counted, so it may come back often.
    maxReceiveCount = 100
  })
}

resource "aws_sqs_queue" "dead" {
  name                      = "${var.name}-orders-dead"
  message_retention_seconds = 14 * 24 * 3600
}

resource "aws_lambda_event_source_mapping" "orders" {
  event_source_arn = aws_sqs_queue.orders.arn
  function_name    = aws_lambda_function.this["consumer"].arn
  batch_size       = 10
  # Messages whose key is locked are returned one by one; the others of the batch are done.
  function_response_types = ["ReportBatchItemFailures"]

  depends_on = [aws_iam_role_policy.queue] # Lambda refuses the mapping while the function may not read the queue
}

data "aws_iam_policy_document" "queue" {
  statement {
    actions   = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"]
    resources = [aws_sqs_queue.orders.arn]
  }
}

resource "aws_iam_role_policy" "queue" {
  name   = "queue"
  role   = aws_iam_role.function["consumer"].id
  policy = data.aws_iam_policy_document.queue.json
}
