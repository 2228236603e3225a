mock_provider "aws" {
  source = "../../tests/mocks"
}

run "both_regions_have_the_table" {
  assert {
    condition     = output.table_arns == ["arn:aws:dynamodb:us-east-1:123456789012:table/locks", "arn:aws:dynamodb:us-east-2:123456789012:table/locks"]
    error_message = "the table is not in two Regions"
  }

  assert {
    condition     = jsondecode(aws_iam_role_policy.worker.policy).Statement[0].Resource == output.table_arns
    error_message = "the worker may not use the table in both Regions"
  }
}
