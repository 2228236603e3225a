// Package invocation has what both functions of this example need: clients that are made once and live as long as
// the instance, and what an invocation says about itself.
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
		o.MaxPoll = 30 * time.Second          // nobody waits here: it bounds HeldError.RetryAfter of locks with heartbeats
		o.Owner = lambdacontext.LogStreamName // who asks for the holder finds its log
	})
	if err != nil {
		return nil, err
	}
	return &Instance{Config: cfg, DB: db, Locks: locks, Orders: orders}, nil
}

// Reason is shown to those who meet a lock of this invocation: its request id, to be found in the log.
func Reason(ctx context.Context) string {
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		return "request " + lc.AwsRequestID
	}
	return ""
}
