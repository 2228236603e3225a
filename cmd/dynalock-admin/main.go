// Command dynalock-admin is the operator's tool of dynalock: it makes and checks the table, shows who holds what,
// frees a lock whose holder is gone, runs a command while it holds a lock, once a period or as long as it leads, and
// serves an embedded DynamoDB for development. See README.md beside it, or dynalock-admin --help.
package main

import (
	"context"
	"os"

	"github.com/dynalock/dynalock/cmd/dynalock-admin/internal/guard"
)

func main() {
	guard.Serve(os.Args) // in a copy of this program that guards a command, or becomes it
	os.Exit(newApp(os.Stdin, os.Stdout, os.Stderr).run(context.Background(), os.Args[1:]))
}
