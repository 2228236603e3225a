// Command bench measures lock libraries side by side, on dynalock's embedded server with an
// added round trip, so that every figure is a count or a ratio from one machine and one run.
//
//	go run . compare              uncontended cycles, and eight clients on one key
//	go run . hold -locks 10000    many locks held by one client: lost, heap, CPU, lateness
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"text/tabwriter"
)

// sheet is a table on the screen.
type sheet struct{ text strings.Builder }

func (s *sheet) row(cells ...any) {
	for _, cell := range cells {
		fmt.Fprint(&s.text, cell, "\t")
	}
	s.text.WriteString("\n")
}

func (s *sheet) print() error {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	if _, err := out.Write([]byte(s.text.String())); err != nil {
		return err
	}
	return out.Flush()
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := errors.New("usage: bench compare|hold [flags]; -h after either shows its flags")
	if len(os.Args) > 1 {
		switch args := os.Args[2:]; os.Args[1] {
		case "compare":
			err = compare(ctx, args)
		case "hold":
			err = hold(ctx, args)
		case "serve": // the server's own process, started by hold
			err = serve(args)
		}
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
