# Locks that survive the loss of a Region: a strongly consistent global table in two Regions, with a witness in a third.
# Clients in either Region use the table of their own Region and see the same locks.
module "locks" {
  source = "../.."

  name = "locks"

  global_table = {
    replicas       = [{ region = var.replica_region }]
    witness_region = var.witness_region
  }
}

resource "aws_iam_role" "worker" {
  name               = "locks-worker"
  assume_role_policy = data.aws_iam_policy_document.ec2.json
}

data "aws_iam_policy_document" "ec2" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

# A role is the same in all Regions, and so is this document: it names the table in each of them.
resource "aws_iam_role_policy" "worker" {
  name   = "locks"
  role   = aws_iam_role.worker.id
  policy = module.locks.holder_policy
}
