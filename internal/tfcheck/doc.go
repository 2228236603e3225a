// Package tfcheck checks what can be checked of the Terraform module without Terraform, the AWS provider or AWS: its
// blocks use arguments that the provider has, its references lead somewhere, its variables and outputs are described,
// and its policies list what the library calls. It is a module of its own, so that the parser of HCL stays out of the
// module graph of the library's users.
package tfcheck
