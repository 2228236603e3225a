// Package tfcheck holds the Terraform module to what can be said of it without Terraform, the AWS provider or AWS: its
// blocks use arguments that the provider has, its references lead somewhere, its variables and outputs are described,
// its policies list what the library calls. It is a module of its own, so that the reader of HCL stays out of the
// module graph of those who use the library.
package tfcheck
