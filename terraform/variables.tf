variable "name" {
  description = "Name of the table, as clients have it (dynalock.New, DYNALOCK_TABLE)."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]{3,255}$", var.name))
    error_message = "name is \"${var.name}\", allowed: 3 to 255 characters out of a-z, A-Z, 0-9, '_', '-' and '.'"
  }
}

variable "partition_key" {
  description = "Name of the partition key, a string. The same as Options.PartitionKey of the clients, whose default is this default."
  type        = string
  default     = "key"
  nullable    = false

  validation {
    condition     = length(var.partition_key) >= 1 && length(var.partition_key) <= 255
    error_message = "partition_key has ${length(var.partition_key)} characters, allowed: 1 to 255"
  }

  validation {
    condition     = !contains(local.library.reserved_attributes, var.partition_key)
    error_message = "partition_key is \"${var.partition_key}\", allowed: a name that is not an attribute of a lock item (those are ${join(", ", local.library.reserved_attributes)})"
  }
}

variable "sort_key" {
  description = "Name of the sort key, a string. The same as Options.SortKey of the clients. Null: the table has none."
  type        = string
  default     = null

  validation {
    condition     = var.sort_key == null ? true : length(var.sort_key) >= 1 && length(var.sort_key) <= 255
    error_message = "sort_key has ${var.sort_key == null ? 0 : length(var.sort_key)} characters, allowed: 1 to 255, or null for no sort key"
  }

  validation {
    condition     = var.sort_key == null ? true : !contains(local.library.reserved_attributes, var.sort_key)
    error_message = "sort_key is \"${coalesce(var.sort_key, "-")}\", allowed: a name that is not an attribute of a lock item (those are ${join(", ", local.library.reserved_attributes)})"
  }

  validation {
    condition     = var.sort_key == null ? true : var.sort_key != var.partition_key
    error_message = "sort_key is \"${coalesce(var.sort_key, "-")}\", allowed: another name than partition_key"
  }
}

variable "time_to_live" {
  description = "Whether DynamoDB deletes what the library marks as no longer needed: released locks of clients with Options.Retention, and finished runs of Once after OnceOptions.Keep. Without either, leave it off."
  type        = bool
  default     = false
  nullable    = false
}

variable "provisioned_capacity" {
  description = "Null: on-demand billing, which is right for most lock tables. Otherwise provisioned capacity under auto scaling: the smallest and the largest number of units for reads and writes, and the target utilization in percent. A table that is throttled for a whole lease loses its locks, so leave headroom."
  type = object({
    read               = object({ min = number, max = number })
    write              = object({ min = number, max = number })
    target_utilization = optional(number, 70)
  })
  default = null

  validation {
    condition = var.provisioned_capacity == null ? true : alltrue([
      for units in [var.provisioned_capacity.read, var.provisioned_capacity.write] :
      units.min >= 1 && units.min <= units.max && floor(units.min) == units.min && floor(units.max) == units.max
    ])
    error_message = "provisioned_capacity is ${jsonencode(var.provisioned_capacity)}, allowed for read and write: whole numbers with min of at least 1 and max of at least min"
  }

  validation {
    condition     = var.provisioned_capacity == null ? true : var.provisioned_capacity.target_utilization >= 20 && var.provisioned_capacity.target_utilization <= 90
    error_message = "provisioned_capacity.target_utilization is ${try(var.provisioned_capacity.target_utilization, 0)}, allowed: 20 to 90 percent"
  }
}

variable "point_in_time_recovery" {
  description = "Whether the table can be restored to any moment of the last 35 days. Read about restoring in the README before you restore: a table restored as it was gives fencing tokens a second time."
  type        = bool
  default     = true
  nullable    = false
}

variable "deletion_protection" {
  description = "Whether DynamoDB refuses to delete the table. Set it to false and apply before destroying."
  type        = bool
  default     = true
  nullable    = false
}

variable "server_side_encryption" {
  description = "Whose key encrypts the table, which is always encrypted. Null: a key that AWS owns, free of charge. {}: the account's key aws/dynamodb. With kms_key_arn: that customer managed key; the policy documents then allow its use through DynamoDB."
  type = object({
    kms_key_arn = optional(string)
  })
  default = null

  validation {
    condition     = try(var.server_side_encryption.kms_key_arn, null) == null ? true : can(regex("^arn:[^:]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.server_side_encryption.kms_key_arn))
    error_message = "server_side_encryption.kms_key_arn is \"${try(coalesce(var.server_side_encryption.kms_key_arn), "")}\", allowed: the ARN of a key (arn:PARTITION:kms:REGION:ACCOUNT:key/ID), not of an alias"
  }
}

variable "tags" {
  description = "Tags of everything that the module creates."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(var.tags) <= 50
    error_message = "tags has ${length(var.tags)} entries, allowed: 0 to 50"
  }

  validation {
    condition     = alltrue([for key, value in var.tags : length(key) >= 1 && length(key) <= 128 && length(value) <= 256 && !startswith(lower(key), "aws:")])
    error_message = "tags has the keys ${jsonencode(keys(var.tags))}, allowed: keys of 1 to 128 characters that do not begin with \"aws:\", with values of at most 256"
  }
}

variable "global_table" {
  description = "Null: the table is in one Region, which clients of all Regions can use. Otherwise a strongly consistent global table: two replicas (three Regions with the table's own), or one replica and a witness_region that only votes: it stores nothing and takes no requests. All lie in one of the sets of Regions between which AWS offers this mode. DynamoDB adds replicas only to an empty table, all at once. Where server_side_encryption names a key, each replica names one of its own Region. consistency_mode is here to refuse the other one."
  type = object({
    replicas = list(object({
      region      = string
      kms_key_arn = optional(string)
    }))
    witness_region   = optional(string)
    consistency_mode = optional(string, "STRONG")
  })
  default = null

  validation {
    condition     = var.global_table == null ? true : var.global_table.consistency_mode == "STRONG"
    error_message = "global_table.consistency_mode is ${jsonencode(try(var.global_table.consistency_mode, null))}, allowed: STRONG. In the eventually consistent mode each Region decides conditional writes on a copy of its own, and the last writer wins afterwards: two Regions would both be told that they hold the lock. Without global_table, clients of all Regions can use the table in its one Region"
  }

  validation {
    condition     = var.global_table == null ? true : length(var.global_table.replicas) == (var.global_table.witness_region == null ? 2 : 1)
    error_message = "global_table has ${try(length(var.global_table.replicas), 0)} replicas and its witness_region is ${jsonencode(try(var.global_table.witness_region, null))}, allowed: two replicas and no witness_region (three Regions with the table's own), or one replica and a witness_region"
  }

  validation {
    condition     = var.global_table == null ? true : alltrue([for region in compact(concat(var.global_table.replicas[*].region, [var.global_table.witness_region])) : can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]+$", region))])
    error_message = "global_table has replicas in ${jsonencode(try(var.global_table.replicas[*].region, []))} and its witness_region is ${jsonencode(try(var.global_table.witness_region, null))}, allowed: names of Regions such as \"us-east-2\""
  }

  validation {
    condition     = var.global_table == null ? true : length(distinct(compact(concat(var.global_table.replicas[*].region, [var.global_table.witness_region])))) == length(compact(concat(var.global_table.replicas[*].region, [var.global_table.witness_region])))
    error_message = "global_table has replicas in ${jsonencode(try(var.global_table.replicas[*].region, []))} and its witness_region is ${jsonencode(try(var.global_table.witness_region, null))}, allowed: each Region once"
  }

  validation {
    condition     = var.global_table == null ? true : alltrue([for replica in var.global_table.replicas : (replica.kms_key_arn == null) == (try(var.server_side_encryption.kms_key_arn, null) == null)])
    error_message = "global_table has replicas with a kms_key_arn in ${jsonencode(try([for replica in var.global_table.replicas : replica.region if replica.kms_key_arn != null], []))}, allowed: all where server_side_encryption.kms_key_arn is set, else none; DynamoDB wants keys of one kind in all Regions"
  }

  validation {
    condition     = var.global_table == null ? true : alltrue([for replica in var.global_table.replicas : replica.kms_key_arn == null ? true : can(regex("^arn:[^:]+:kms:${replica.region}:[0-9]{12}:key/.+$", replica.kms_key_arn))])
    error_message = "global_table has replicas with the keys ${jsonencode(try(var.global_table.replicas[*].kms_key_arn, []))}, allowed: for each replica the ARN of a key of its own Region (arn:PARTITION:kms:REGION:ACCOUNT:key/ID)"
  }

  validation {
    condition     = var.global_table == null || !var.time_to_live
    error_message = "global_table is set and time_to_live is true, allowed: one of the two; a strongly consistent global table has no TTL"
  }

  validation {
    condition     = var.global_table == null || var.provisioned_capacity == null
    error_message = "global_table is set and provisioned_capacity is set, allowed: one of the two; auto scaling here covers one Region, and a replica that is throttled loses locks"
  }
}

variable "namespaces" {
  description = "Key prefixes (Options.Namespace) that get policy documents of their own, confined to keys that begin with them. End them with a separator."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for namespace in var.namespaces : length(namespace) >= 1 && length(namespace) <= 1024 && can(regex("^[^*?$]*$", namespace))])
    error_message = "namespaces is ${jsonencode(var.namespaces)}, allowed: 1 to 1024 characters each, without '*', '?' and '$', which mean something else in a policy"
  }

  validation {
    condition     = alltrue([for one in var.namespaces : alltrue([for other in var.namespaces : one == other || !startswith(other, one)])])
    error_message = "namespaces is ${jsonencode(var.namespaces)}, allowed: none that begins with another, whose policies would reach into it; end them with a separator, such as \"billing/\""
  }
}

variable "alarms" {
  description = "CloudWatch alarms of the table in its own Region, and the ARNs (at most 5, such as SNS topics) that are told when one goes off and when it is over. Thresholds: requests throttled and requests failed in DynamoDB itself, each in a minute, for 3 minutes of 5; and how many standard deviations conditional check failures may lie above what is usual for the hour. Refused conditions are everyday life of a lock, so no fixed number fits. Null: no alarms."
  type = object({
    actions                    = optional(list(string), [])
    throttled_requests         = optional(number, 1)
    system_errors              = optional(number, 5)
    conditional_check_failures = optional(number, 4)
  })
  default = null

  validation {
    condition     = var.alarms == null ? true : length(var.alarms.actions) <= 5 && alltrue([for arn in var.alarms.actions : startswith(arn, "arn:")])
    error_message = "alarms.actions is ${jsonencode(try(var.alarms.actions, []))}, allowed: 0 to 5 ARNs"
  }

  validation {
    condition     = var.alarms == null ? true : var.alarms.throttled_requests >= 1 && var.alarms.system_errors >= 1
    error_message = "alarms.throttled_requests is ${try(var.alarms.throttled_requests, 0)} and alarms.system_errors is ${try(var.alarms.system_errors, 0)}, allowed: 1 or more in a minute"
  }

  validation {
    condition     = var.alarms == null ? true : var.alarms.conditional_check_failures >= 1 && var.alarms.conditional_check_failures <= 10
    error_message = "alarms.conditional_check_failures is ${try(var.alarms.conditional_check_failures, 0)}, allowed: 1 to 10 standard deviations"
  }
}

variable "vpc_endpoint" {
  description = "Gateway endpoint through which a VPC reaches DynamoDB without a NAT gateway, for the route tables given. A route table can have only one, for all tables, so leave this null if there is one. Its policy is AWS's default: a role's own policies say what it may do."
  type = object({
    vpc_id          = string
    route_table_ids = set(string)
  })
  default = null

  validation {
    condition     = var.vpc_endpoint == null ? true : can(regex("^vpc-[0-9a-f]+$", var.vpc_endpoint.vpc_id))
    error_message = "vpc_endpoint.vpc_id is \"${try(var.vpc_endpoint.vpc_id, "")}\", allowed: the id of a VPC (vpc-...)"
  }

  validation {
    condition     = var.vpc_endpoint == null ? true : length(var.vpc_endpoint.route_table_ids) >= 1 && alltrue([for id in var.vpc_endpoint.route_table_ids : can(regex("^rtb-[0-9a-f]+$", id))])
    error_message = "vpc_endpoint.route_table_ids is ${jsonencode(try(var.vpc_endpoint.route_table_ids, []))}, allowed: 1 or more ids of route tables (rtb-...)"
  }
}
