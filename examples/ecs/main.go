// Worker is a service of which several run and one leads, as an ECS task: SIGTERM ends the leader's work and hands the
// lock over before ECS kills the task, the health check fails when the lease is overdue, and what the leader writes is
// guarded by its lock. README.md beside it says how to build, deploy and try it.
//
//	worker                 # needs DYNALOCK_TABLE; DYNALOCK_NAMESPACE is the prefix of its keys
//	worker -health         # asks the worker of this container whether it is well: exit code 0 or 1
//	worker -create-table   # creates the table, for development; elsewhere Terraform does
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go/logging"

	"github.com/dynalock/dynalock/dynalock"
)

// closeWithin is how long a worker that is told to stop tries to give its lock back. ECS kills it after stopTimeout,
// 30 s unless the task says otherwise.
const closeWithin = 15 * time.Second

// settings are what the flags and the environment say.
type settings struct {
	table, namespace string
	listen           string
	lease, tick      time.Duration
}

func main() {
	var s settings
	s.table, s.namespace = os.Getenv("DYNALOCK_TABLE"), os.Getenv("DYNALOCK_NAMESPACE")
	flag.StringVar(&s.listen, "listen", ":8080", "`ADDRESS` of /health and /leader")
	flag.DurationVar(&s.lease, "lease", 10*time.Second, "of the leader's lock")
	flag.DurationVar(&s.tick, "tick", time.Second, "time between two pieces of the leader's work")
	health := flag.Bool("health", false, "ask the worker at -listen whether it is well, and exit")
	create := flag.Bool("create-table", false, "create the table, and exit")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()

	log := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	var err error
	switch {
	case flag.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case *health:
		err = askHealth(ctx, s.listen)
	case s.table == "":
		err = errors.New("DYNALOCK_TABLE is empty, allowed: the name of the lock table")
	case s.lease < time.Second:
		err = fmt.Errorf("-lease is %v, allowed: 1s or more", s.lease)
	case s.tick <= 0:
		err = fmt.Errorf("-tick is %v, allowed: more than 0", s.tick)
	case *create:
		err = createTable(ctx, s.table)
	default:
		err = serve(ctx, s, log)
	}
	if err != nil {
		log.Error("worker failed", "error", err)
		os.Exit(1)
	}
}

// createTable waits for a server that is just starting, too.
func createTable(ctx context.Context, table string) error {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRetryMaxAttempts(10))
	if err != nil {
		return err
	}
	return dynalock.CreateTable(ctx, dynamodb.NewFromConfig(cfg), table)
}

// serve runs a worker until ctx ends, and then stops it in good order.
func serve(ctx context.Context, s settings, log *slog.Logger) error {
	remarks := logging.LoggerFunc(func(_ logging.Classification, format string, v ...any) {
		log.Debug("SDK", "remark", fmt.Sprintf(format, v...))
	})
	cfg, err := config.LoadDefaultConfig(ctx, config.WithLogger(remarks))
	if err != nil {
		return err
	}
	w := &worker{settings: s, log: log}
	w.heard.Store(time.Now().UnixNano())
	w.db = dynamodb.NewFromConfig(cfg, w.listenIn)
	locks, err := dynalock.New(w.db, s.table, func(o *dynalock.Options) {
		o.Namespace, o.Lease, o.Logger = s.namespace, s.lease, log
		o.MaxPoll = min(time.Second, s.lease/10) // how soon a successor sees that the lock is free
	})
	if err != nil {
		return err
	}

	addr, closeHTTP, err := w.listenHTTP(ctx)
	if err != nil {
		return err
	}
	defer closeHTTP()
	w.election = locks.Election("leader", func(o *dynalock.ElectionOptions) { o.Value = []byte(addr) })
	log.Info("worker started", "address", addr, "owner", locks.Options().Owner)

	err = w.election.Run(ctx, w.lead)
	if ctx.Err() != nil { // what lead said is in the log, and what was not released Close will tell
		err = nil
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	err = errors.Join(err, locks.Close(closing))
	if err == nil {
		log.Info("worker stopped")
	}
	return err
}
