# The policy documents are built here and not by a data source, so that a plan, and a test with a mocked provider, shows
# their text.
locals {
  table_arns = [
    for region in concat([data.aws_region.current.region], local.replicas[*].region) :
    replace(aws_dynamodb_table.this.arn, ":dynamodb:${data.aws_region.current.region}:", ":dynamodb:${region}:")
  ]

  kms_key_arns = compact(concat([try(var.server_side_encryption.kms_key_arn, null)], local.replicas[*].kms_key_arn))

  # A role that reads or writes a table under a customer managed key needs the key, too, but only by way of DynamoDB.
  kms_statements = length(local.kms_key_arns) == 0 ? [] : [{
    Sid       = "Key"
    Effect    = "Allow"
    Action    = ["kms:Decrypt"]
    Resource  = local.kms_key_arns
    Condition = { StringEquals = { "kms:ViaService" = [for arn in local.table_arns : "dynamodb.${split(":", arn)[3]}.amazonaws.com"] } }
  }]

  # item: on single items, which a key can confine; scan: on all items at once; table: on the table, not on its items.
  policies = {
    for role, actions in local.library.actions : role => jsonencode({
      Version = "2012-10-17"
      Statement = concat([{
        Sid      = "Locks"
        Effect   = "Allow"
        Action   = sort(concat(actions.item, actions.scan, actions.table))
        Resource = local.table_arns
      }], local.kms_statements)
    })
  }

  # Confined to keys that begin with a namespace. A scan has no key, so it is left out; and ForAllValues holds where a
  # request names no key at all, so that one must be there.
  namespace_policies = {
    for namespace in var.namespaces : namespace => {
      for role, actions in local.library.actions : role => jsonencode({
        Version = "2012-10-17"
        Statement = concat(
          [{
            Sid      = "Locks"
            Effect   = "Allow"
            Action   = sort(actions.item)
            Resource = local.table_arns
            Condition = {
              "ForAllValues:StringLike" = { "dynamodb:LeadingKeys" = ["${namespace}*"] }
              Null                      = { "dynamodb:LeadingKeys" = "false" }
            }
          }],
          [for table in [actions.table] : {
            Sid      = "Table"
            Effect   = "Allow"
            Action   = sort(table)
            Resource = local.table_arns
          } if length(table) > 0],
          local.kms_statements,
        )
      })
    }
  }
}
