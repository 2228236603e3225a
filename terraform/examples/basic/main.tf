# A lock table for the whole account, and policy documents for two teams that cannot touch each other's locks.
module "locks" {
  source = "../.."

  name       = "locks"
  namespaces = ["billing/", "orders/"]
}
