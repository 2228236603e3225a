// Command bench measures lock libraries side by side, with an added round trip, so that every
// figure is a count or a ratio from one machine and one run.
//
//	go run . compare              locks of DynamoDB, etcd and Redis, alone and in crowds: turns, requests, waits
//	go run . report FILE          what compare -o json wrote, as tables
//	go run . hold -locks 10000    many locks held by one client: lost, heap, CPU, lateness
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
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

func (s *sheet) print() error { return s.write(os.Stdout) }

func (s *sheet) write(to io.Writer) error {
	out := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	if _, err := out.Write([]byte(s.text.String())); err != nil {
		return err
	}
	return out.Flush()
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := errors.New("usage: bench compare|report|hold [flags]; -h after any of them shows its flags")
	if len(os.Args) > 1 {
		switch args := os.Args[2:]; os.Args[1] {
		case "compare":
			err = compare(ctx, args)
		case "report":
			err = showReport(args)
		case "hold":
			err = hold(ctx, args)
		case "serve": // the server's own process, started by hold
			err = serve(args)
		case "peer": // a server and its proxy, started by compare
			err = peer(args)
		}
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
