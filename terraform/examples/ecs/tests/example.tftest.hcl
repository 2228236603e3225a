mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  image      = "123456789012.dkr.ecr.us-east-1.amazonaws.com/worker:1"
  vpc_id     = "vpc-0a1b"
  subnet_ids = ["subnet-0a1b"]
}

run "the_worker_knows_its_table_and_namespace_and_may_use_them" {
  assert {
    condition     = { for e in jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].environment : e.name => e.value } == { DYNALOCK_TABLE = "dynalock-example-locks", DYNALOCK_NAMESPACE = "dynalock-example/" }
    error_message = "the worker is not told its table and namespace"
  }

  assert {
    condition     = jsondecode(aws_iam_role_policy.locks.policy).Statement[0].Condition["ForAllValues:StringLike"]["dynamodb:LeadingKeys"] == ["dynalock-example/*"]
    error_message = "the worker is not confined to its namespace"
  }
}

run "a_successor_waits_before_the_leader_is_stopped" {
  assert {
    condition     = aws_ecs_service.worker.deployment_minimum_healthy_percent == 100 && aws_ecs_service.worker.deployment_maximum_percent == 200 && aws_ecs_service.worker.desired_count == 3
    error_message = "a deployment may stop workers before new ones run"
  }
}

run "no_workers" {
  command = plan
  variables {
    workers = 0
  }
  expect_failures = [var.workers]
}
