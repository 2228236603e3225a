package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

func (a *app) serveCommand() *cobra.Command {
	var addr string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve an embedded DynamoDB in memory, for development",
		Long: `Serve an embedded DynamoDB, in memory and without checking credentials, for development. With --table, or
DYNALOCK_TABLE, it has that table. It ends, with exit code 0, on SIGINT, SIGTERM or SIGHUP.

The first line on standard output is the endpoint (with -o json: one document with endpoint and table). Then the server
can be used. Standard error has the lines to paste into another shell, for dynalock-admin and for programs that use an
AWS SDK.`,
		Args: noArgs,
		RunE: a.do(func(ctx context.Context, _ []string) error {
			ctx, stop := untilAsked(ctx)
			defer stop()
			return a.serve(ctx, addr)
		}),
	}
	cmd.Flags().StringVar(&addr, "addr", "127.0.0.1:8000", "address to listen on; port 0: any free one")
	return cmd
}

// serve runs the server until ctx ends.
func (a *app) serve(ctx context.Context, addr string) error {
	db := dynalocktest.NewServer()
	defer db.Close()
	if a.table != "" {
		if err := dynalock.CreateTable(ctx, db.Client(), a.table, a.tableOptions); err != nil {
			return err
		}
	}
	listener, err := a.listen("tcp", addr)
	var bad *net.AddrError
	if errors.As(err, &bad) {
		return usagef("--addr is %q, allowed: HOST:PORT: %s", addr, bad.Err)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: another serve, or DynamoDB Local, may have it: use that, or --addr %s for any free port", err,
			freePort(addr))
	}
	if err != nil {
		return err
	}
	endpoint := "http://" + reachable(listener.Addr())
	if err := a.announce(endpoint, a.table, listener.Addr()); err != nil {
		return err
	}
	server := &http.Server{Handler: db, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	err = server.Close()
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// reachable is the address that a client of this machine can use for a listener.
func reachable(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	if net.ParseIP(host).IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

func (a *app) announce(endpoint, table string, addr net.Addr) error {
	if tcp, ok := addr.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		a.say("dynalock-admin: warning: others can reach this server, and it checks no credentials")
	}
	if a.output == formatJSON {
		return writeJSON(a.out, struct {
			Endpoint string `json:"endpoint"`
			Table    string `json:"table,omitempty"`
		}{endpoint, table})
	}
	if _, err := fmt.Fprintln(a.out, endpoint); err != nil {
		return err
	}
	a.say("serving an embedded DynamoDB, in memory, until it is interrupted; to use it:\n  export DYNALOCK_ENDPOINT_URL=" +
		endpoint)
	if table != "" {
		a.say("  export DYNALOCK_TABLE=" + clean(table))
	}
	a.say("and for programs that use an AWS SDK:\n  export AWS_ENDPOINT_URL_DYNAMODB=" + endpoint +
		"\n  export AWS_REGION=" + cmp.Or(a.region, os.Getenv("AWS_REGION"), "us-east-1") +
		"\n  export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local")
	return nil
}

// freePort is an address with any free port instead of its own.
func freePort(addr string) string {
	host, _, _ := net.SplitHostPort(addr) // it was good enough to listen on
	return net.JoinHostPort(host, "0")
}

// untilAsked makes a context that ends when a signal asks to end: not SIGHUP where it is ignored, as by nohup.
func untilAsked(ctx context.Context) (context.Context, context.CancelFunc) {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signal.NotifyContext(ctx, signals...)
}
