// Package dynalocktest is an embedded DynamoDB for tests and for trying things out.
package dynalocktest
