mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  job_package      = "versions.tf" # any file
  consumer_package = "versions.tf"
}

run "the_functions_may_use_the_locks_of_their_own_namespace" {
  assert {
    condition     = { for name, p in aws_iam_role_policy.locks : name => jsondecode(p.policy).Statement[0].Condition["ForAllValues:StringLike"]["dynamodb:LeadingKeys"] } == { job = ["jobs/*"], consumer = ["orders/*"] }
    error_message = "a function is not confined to its namespace"
  }

  assert {
    condition     = { for name, f in aws_lambda_function.this : name => f.environment[0].variables.DYNALOCK_NAMESPACE } == { job = "jobs/", consumer = "orders/" }
    error_message = "a function is not told its namespace"
  }
}

run "the_functions_may_do_to_the_orders_what_their_code_does" {
  assert {
    condition     = data.aws_iam_policy_document.orders["job"].statement[0].actions == toset(["dynamodb:Query", "dynamodb:UpdateItem"]) && data.aws_iam_policy_document.orders["consumer"].statement[0].actions == toset(["dynamodb:GetItem", "dynamodb:PutItem"])
    error_message = "a function may do too much or too little to the table of orders"
  }

  assert {
    condition     = alltrue([for f in aws_lambda_function.this : f.environment[0].variables.ORDERS_TABLE == aws_dynamodb_table.orders.name])
    error_message = "a function is not told the table of orders"
  }
}

run "the_tick_is_named_in_the_schedulers_words" {
  assert {
    condition     = aws_scheduler_schedule.job.target[0].input == "{\"time\":\"<aws.scheduler.scheduled-time>\"}"
    error_message = "the scheduler would not put the time of the tick in"
  }
}

run "only_schedules_of_this_account_take_the_schedulers_role" {
  assert {
    condition     = one(data.aws_iam_policy_document.scheduler_trust.statement[0].principals).identifiers == toset(["scheduler.amazonaws.com"])
    error_message = "the role is not the scheduler's"
  }

  assert {
    condition     = [for c in data.aws_iam_policy_document.scheduler_trust.statement[0].condition : "${c.test} ${c.variable} ${join(",", c.values)}"] == ["StringEquals aws:SourceAccount 123456789012"]
    error_message = "a schedule of another account could take the role"
  }
}

run "messages_are_returned_one_by_one" {
  assert {
    condition     = aws_lambda_event_source_mapping.orders.function_response_types == toset(["ReportBatchItemFailures"])
    error_message = "a message whose key is locked would bring its whole batch back"
  }
}

run "a_package_that_is_not_built" {
  command = plan
  variables {
    job_package = "missing.zip"
  }
  expect_failures = [var.job_package]
}
