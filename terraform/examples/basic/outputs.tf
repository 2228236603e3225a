output "table_name" {
  description = "Name of the table, for dynalock.New and DYNALOCK_TABLE."
  value       = module.locks.table_name
}

output "billing_policy" {
  description = "Policy document for the roles of the billing team, whose clients have Options.Namespace \"billing/\"."
  value       = module.locks.namespace_policies["billing/"].holder
}

output "orders_policy" {
  description = "Policy document for the roles of the orders team, whose clients have Options.Namespace \"orders/\"."
  value       = module.locks.namespace_policies["orders/"].holder
}

output "operator_policy" {
  description = "Policy document for the people on call, who use dynalock-admin."
  value       = module.locks.operator_policy
}
