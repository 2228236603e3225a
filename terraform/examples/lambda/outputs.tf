output "table_name" {
  description = "Name of the lock table, for dynalock-admin."
  value       = module.locks.table_name
}

output "queue_url" {
  description = "URL of the queue whose messages are worked on in turn."
  value       = aws_sqs_queue.orders.url
}

output "function_names" {
  description = "Names of the functions by what they do (job, consumer)."
  value       = { for name, function in aws_lambda_function.this : name => function.function_name }
}
