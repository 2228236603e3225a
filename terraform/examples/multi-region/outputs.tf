output "table_name" {
  description = "Name of the table, the same in both Regions."
  value       = module.locks.table_name
}

output "table_arns" {
  description = "ARNs of the table in both Regions."
  value       = module.locks.table_arns
}
