// Command dynalock-admin is the operator's tool of dynalock: it makes and checks the table, shows who holds what,
// frees a lock whose holder is gone, runs a command while it holds a lock, and serves an embedded DynamoDB for
// development. See README.md beside it, or dynalock-admin --help.
package main

import (
	"context"
	"os"
)

func main() {
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	os.Exit(a.run(context.Background(), os.Args[1:]))
}
