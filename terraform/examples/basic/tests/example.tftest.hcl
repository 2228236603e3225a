mock_provider "aws" {
  source = "../../tests/mocks"
}

run "each_team_has_its_own_namespace" {
  assert {
    condition     = jsondecode(output.billing_policy).Statement[0].Condition["ForAllValues:StringLike"]["dynamodb:LeadingKeys"] == ["billing/*"] && jsondecode(output.orders_policy).Statement[0].Condition["ForAllValues:StringLike"]["dynamodb:LeadingKeys"] == ["orders/*"]
    error_message = "a team is not confined to its own namespace"
  }
}
