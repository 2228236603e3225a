// Quickstart shows a lock at work, as a time line: three workers want it, one of them is cut off in the middle without
// a word, another takes over after its lease, the late write of the first is refused, and a release hands the lock on.
// It checks itself: if anything happens that should not, it says what, and exits with 1.
//
//	go run ./examples/quickstart                                     # on an embedded server: no AWS, no Docker
//	go run ./examples/quickstart -endpoint http://localhost:8000     # on DynamoDB Local
//	go run ./examples/quickstart -table locks                        # on AWS, with the SDK's usual credentials
//
// On a real server it creates the table if there is none, and deletes the items that it made, and no others.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := run(ctx, os.Args[1:], os.Stdout, 4*time.Second); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		printf(os.Stderr, "quickstart: %v\n", err)
		os.Exit(1)
	}
}

// run tells the whole story. The error says what failed, or which promise was not kept.
func run(ctx context.Context, args []string, out io.Writer, lease time.Duration) (err error) {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	endpoint := flags.String("endpoint", "", "`URL` of a DynamoDB, such as http://localhost:8000 for DynamoDB Local")
	table := flags.String("table", "",
		"`NAME` of the lock table, created if missing (with -endpoint alone: "+defaultTable+")")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute+10*lease) // whatever happens, it ends
	defer cancel()

	s, err := openStage(ctx, *endpoint, *table)
	if err != nil {
		return err
	}
	defer s.close()
	printf(out, "Three workers, one lock, a lease of %v. On %s.\n", lease, s.where)
	created, err := s.prepareTable(ctx)
	if err != nil {
		return err
	}

	p, err := newPlay(out, s, lease)
	if err != nil {
		return err
	}
	err = p.perform(ctx)
	if e := p.leave(ctx); e != nil { // also after a failure: a table of others is left as it was
		err = errors.Join(err, fmt.Errorf("cleaning up: %w", e))
	}
	if created {
		printf(out, "\nTable %q was created for this and stays, empty.\n", s.table)
	}
	if err != nil {
		return err
	}
	return p.summary()
}
