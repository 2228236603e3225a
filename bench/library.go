package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"cirello.io/dynamolock/v2"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/dynalock/dynalock/dynalock"
)

// settings are what every library can be told.
type settings struct {
	owner            string
	lease, heartbeat time.Duration
	poll             time.Duration // between two looks at a held lock; 0: the library's default
}

// client is a lock library as its users see it.
type client interface {
	acquire(ctx context.Context, key string) (held, error)
	close(ctx context.Context) error
}

type held interface {
	release(ctx context.Context) error
}

// library is one on DynamoDB. It tells what hold asks.
type library interface {
	open(db *dynamodb.Client, table string, s settings) (watched, error)
}

type watched interface {
	client
	// late is how late heartbeats began, as far as the library tells.
	late() []time.Duration
	// valid: may the holder of a lock of this client still act, as the library says?
	valid(l held) bool
}

var libraries = map[string]library{"dynalock": ours{}, "dynamolock": dynamolockV2{}}

// ours is dynalock.
type ours struct{}

type oursClient struct {
	c   *dynalock.Client
	obs *lateness
}

func (ours) open(db *dynamodb.Client, table string, s settings) (watched, error) {
	obs := &lateness{}
	c, err := dynalock.New(db, table, func(o *dynalock.Options) {
		o.Owner, o.Lease, o.Heartbeat, o.Observer = s.owner, s.lease, s.heartbeat, obs
		if s.poll > 0 {
			o.MaxPoll = s.poll
		}
	})
	return oursClient{c, obs}, err
}

func (c oursClient) acquire(ctx context.Context, key string) (held, error) {
	l, err := c.c.Acquire(ctx, key)
	if err != nil {
		return nil, err
	}
	return oursHeld{l}, nil
}

func (c oursClient) late() []time.Duration           { return c.obs.all() }
func (c oursClient) valid(l held) bool               { return l.(oursHeld).l.Held() }
func (c oursClient) close(ctx context.Context) error { return c.c.Close(ctx) }

type oursHeld struct{ l *dynalock.Lock }

func (h oursHeld) release(ctx context.Context) error { return h.l.Release(ctx) }

// lateness collects how long after its due time each heartbeat began.
type lateness struct {
	mu   sync.Mutex
	late []time.Duration
}

func (o *lateness) Observe(_ context.Context, e dynalock.Event) {
	if e.Kind != dynalock.EventRenewed && e.Kind != dynalock.EventRenewedLate {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.late = append(o.late, e.Late)
}

func (o *lateness) all() []time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]time.Duration(nil), o.late...)
}

// dynamolockV2 is cirello.io/dynamolock/v2.
type dynamolockV2 struct{}

type dynamolockClient struct {
	c    *dynamolock.Client
	poll time.Duration
}

func (dynamolockV2) open(db *dynamodb.Client, table string, s settings) (watched, error) {
	c, err := dynamolock.New(db, table,
		dynamolock.WithPartitionKeyName("key"),
		dynamolock.WithOwnerName(s.owner),
		dynamolock.WithLeaseDuration(s.lease),
		dynamolock.WithHeartbeatPeriod(s.heartbeat))
	return dynamolockClient{c, s.poll}, err
}

func (c dynamolockClient) acquire(ctx context.Context, key string) (held, error) {
	// It has no "wait until ctx ends": an hour stands for that.
	opts := []dynamolock.AcquireLockOption{dynamolock.WithAdditionalTimeToWaitForLock(time.Hour)}
	if c.poll > 0 {
		opts = append(opts, dynamolock.WithRefreshPeriod(c.poll))
	}
	l, err := c.c.AcquireLockWithContext(ctx, key, opts...)
	if err != nil {
		return nil, err
	}
	return dynamolockHeld{c.c, l}, nil
}

func (c dynamolockClient) late() []time.Duration           { return nil }
func (c dynamolockClient) valid(l held) bool               { return !l.(dynamolockHeld).l.IsExpired() }
func (c dynamolockClient) close(ctx context.Context) error { return c.c.CloseWithContext(ctx) }

type dynamolockHeld struct {
	c *dynamolock.Client
	l *dynamolock.Lock
}

func (h dynamolockHeld) release(ctx context.Context) error {
	released, err := h.c.ReleaseLockWithContext(ctx, h.l)
	if err == nil && !released {
		return fmt.Errorf("the lock was not held any more")
	}
	return err
}
