// Package invocation has what both functions of this example need: clients that are made once and live as long as
// the instance, and the times that follow from an invocation's deadline.
package invocation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/dynalock/dynalock/dynalock"
)

// Instance is what one instance of a function keeps between its invocations.
type Instance struct {
	Config aws.Config
	DB     *dynamodb.Client
	Locks  *dynalock.Client // outside of the handler: what it has seen of a lock goes on counting in the next invocation
	Orders string           // name of the table that the functions work on
}

// New reads the environment: DYNALOCK_TABLE and ORDERS_TABLE, which have to be set, DYNALOCK_NAMESPACE, and
// DYNALOCK_MAX_CLOCK_SKEW, "10s" by default, see [dynalock.Options]. It sends no request.
func New(ctx context.Context) (*Instance, error) {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	skew := 10 * time.Second
	if text := os.Getenv("DYNALOCK_MAX_CLOCK_SKEW"); text != "" {
		if skew, err = time.ParseDuration(text); err != nil {
			return nil, fmt.Errorf("DYNALOCK_MAX_CLOCK_SKEW: %w", err)
		}
	}
	orders := os.Getenv("ORDERS_TABLE")
	if orders == "" {
		return nil, errors.New("ORDERS_TABLE is empty, allowed: the name of the table with the orders")
	}
	db := dynamodb.NewFromConfig(cfg)
	locks, err := dynalock.New(db, os.Getenv("DYNALOCK_TABLE"), func(o *dynalock.Options) {
		o.Namespace = os.Getenv("DYNALOCK_NAMESPACE")
		o.MaxClockSkew = skew
		o.MaxPoll = 30 * time.Second          // nobody waits here: it bounds HeldError.RetryAfter, which grows as a tenure lasts
		o.Owner = lambdacontext.LogStreamName // who asks for the holder finds its log
	})
	if err != nil {
		return nil, err
	}
	return &Instance{Config: cfg, DB: db, Locks: locks, Orders: orders}, nil
}

// Lease is the static lease of a lock that is taken now and trusted until the invocation's deadline. Locks are
// trusted for 4/5 of their lease (see dynalock.Options.SafetyMargin), so it is 5/4 of the time that is left.
func Lease(ctx context.Context) (time.Duration, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0, errors.New("the invocation has no deadline")
	}
	lease := (time.Until(deadline)*5/4 + time.Millisecond).Truncate(time.Millisecond)
	if lease < 100*time.Millisecond {
		return 0, fmt.Errorf("%v are left of the invocation, too little to hold a lock", time.Until(deadline))
	}
	return lease, nil
}

// Work returns the context for the work under a lock. It ends a tenth of the time that is left, at most a second,
// before the invocation's deadline, at which Lambda kills the instance: time to give the lock back.
func Work(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(time.Until(deadline)/10, time.Second)))
}

// Reason is shown to those who meet a lock of this invocation: its request id, to be found in the log.
func Reason(ctx context.Context) string {
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		return "request " + lc.AwsRequestID
	}
	return ""
}
