mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name       = "locks"
  namespaces = ["billing/", "orders/"]
}

run "whole_table" {
  assert {
    condition = jsondecode(output.holder_policy) == {
      Version = "2012-10-17"
      Statement = [{
        Sid      = "Locks"
        Effect   = "Allow"
        Action   = ["dynamodb:ConditionCheckItem", "dynamodb:GetItem", "dynamodb:UpdateItem"]
        Resource = ["arn:aws:dynamodb:us-east-1:123456789012:table/locks"]
      }]
    }
    error_message = "a holder may do something else than take, keep, guard with and release locks of this table"
  }

  assert {
    condition     = jsondecode(output.observer_policy).Statement[*].Action == [["dynamodb:GetItem", "dynamodb:Scan"]]
    error_message = "an observer may do something else than read"
  }

  assert {
    condition     = jsondecode(output.operator_policy).Statement[*].Action == [["dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive", "dynamodb:GetItem", "dynamodb:Scan", "dynamodb:UpdateItem"]]
    error_message = "an operator may do something else than list, get, release and check"
  }
}

run "namespaces" {
  assert {
    condition     = toset(keys(output.namespace_policies)) == toset(["billing/", "orders/"]) && alltrue([for roles in output.namespace_policies : toset(keys(roles)) == toset(["holder", "observer", "operator"])])
    error_message = "there is not a document for each namespace and role"
  }

  assert {
    condition = jsondecode(output.namespace_policies["billing/"].holder) == {
      Version = "2012-10-17"
      Statement = [{
        Sid      = "Locks"
        Effect   = "Allow"
        Action   = ["dynamodb:ConditionCheckItem", "dynamodb:GetItem", "dynamodb:UpdateItem"]
        Resource = ["arn:aws:dynamodb:us-east-1:123456789012:table/locks"]
        Condition = {
          "ForAllValues:StringLike" = { "dynamodb:LeadingKeys" = ["billing/*"] }
          Null                      = { "dynamodb:LeadingKeys" = "false" }
        }
      }]
    }
    error_message = "a holder is not confined to its namespace"
  }

  assert {
    condition     = jsondecode(output.namespace_policies["billing/"].observer).Statement[*].Action == [["dynamodb:GetItem"]]
    error_message = "an observer of a namespace may read others by a scan"
  }

  assert {
    condition     = { for s in jsondecode(output.namespace_policies["orders/"].operator).Statement : s.Sid => s.Action } == { Locks = ["dynamodb:GetItem", "dynamodb:UpdateItem"], Table = ["dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive"] }
    error_message = "an operator of a namespace may do something else than get, release and check"
  }

  assert {
    condition     = alltrue(flatten([for roles in output.namespace_policies : [for document in roles : [for s in jsondecode(document).Statement : s.Condition.Null["dynamodb:LeadingKeys"] == "false" if s.Sid == "Locks"]]]))
    error_message = "a request without a key passes the confinement"
  }
}
