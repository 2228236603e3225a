output "table_name" {
  description = "Name of the lock table, for dynalock-admin."
  value       = module.locks.table_name
}

output "cluster_name" {
  description = "Name of the cluster."
  value       = aws_ecs_cluster.this.name
}

output "service_name" {
  description = "Name of the service."
  value       = aws_ecs_service.worker.name
}
