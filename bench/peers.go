package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// contender is a library, with settings, that compare measures.
type contender struct {
	name, label string
	server      string // one of serverDynamoDB, serverEtcd, serverRedis
	// open makes one client, with connections of its own, to the server at HOST:PORT.
	open func(ctx context.Context, address string, s settings, m *meter) (client, error)
	// writesTold: its writes can be told from its reads. Redis's scripts read and write in one command.
	writesTold bool
}

// contenders are those that compare knows, in the order in which they are shown.
var contenders = []contender{
	{"dynalock", "dynalock", serverDynamoDB, onDynamoDB(ours{}, 0), true},
	{"dynamolock", "dynamolock v2.0.2", serverDynamoDB, onDynamoDB(dynamolockV2{}, 0), true},
	{
		"dynamolock-50ms", "dynamolock v2.0.2, polls every 50 ms", serverDynamoDB,
		onDynamoDB(dynamolockV2{}, 50*time.Millisecond), true,
	},
	{"etcd", "etcd v3.7.3, Mutex", serverEtcd, openEtcd, true},
	{"redislock", "Redis, redislock v0.10.0, polls every 10 ms", serverRedis, openRedislock, false},
	{"rueidislock", "Redis, rueidislock v1.0.79, is told", serverRedis, openRueidislock, false},
}

// onDynamoDB is a library of DynamoDB, with its own wait or one that is set.
func onDynamoDB(lib library, poll time.Duration) func(context.Context, string, settings, *meter) (client, error) {
	return func(_ context.Context, address string, s settings, m *meter) (client, error) {
		s.poll = poll
		return lib.open(newDB("http://"+address, m, m.units), table, s)
	}
}

// etcdClient is a session of concurrency, on a connection of its own.
type etcdClient struct {
	c *clientv3.Client
	s *concurrency.Session
}

func openEtcd(ctx context.Context, address string, s settings, m *meter) (client, error) {
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{address}, DialTimeout: 10 * time.Second, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{
			grpc.WithChainUnaryInterceptor(func(
				ctx context.Context, method string, in, out any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
				opts ...grpc.CallOption,
			) error {
				m.request(etcdWrites(method))
				return invoke(ctx, method, in, out, conn, opts...)
			}),
			grpc.WithChainStreamInterceptor(func(
				ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer,
				opts ...grpc.CallOption,
			) (grpc.ClientStream, error) {
				stream, err := open(ctx, desc, conn, method, opts...)
				return metered{stream, m, etcdWrites(method)}, err
			}),
		},
	})
	if err != nil {
		return nil, err
	}
	session, err := concurrency.NewSession(c, concurrency.WithContext(ctx), concurrency.WithTTL(int(s.lease.Seconds())))
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return etcdClient{c, session}, nil
}

// etcdWrites tells whether a method changes what etcd stores. A lock's transaction does.
func etcdWrites(method string) bool {
	switch method[strings.LastIndex(method, "/")+1:] {
	case "Txn", "Put", "DeleteRange", "LeaseGrant", "LeaseRevoke", "LeaseKeepAlive":
		return true
	}
	return false
}

// metered counts what a client sends on a stream: each watch that it begins or ends is a request.
type metered struct {
	grpc.ClientStream
	m     *meter
	write bool
}

func (s metered) SendMsg(message any) error {
	s.m.request(s.write)
	return s.ClientStream.SendMsg(message)
}

func (c etcdClient) acquire(ctx context.Context, key string) (held, error) {
	mutex := concurrency.NewMutex(c.s, key)
	if err := mutex.Lock(ctx); err != nil {
		return nil, err
	}
	return etcdHeld{mutex}, nil
}

func (c etcdClient) close(context.Context) error {
	err := c.s.Close()
	if closing := c.c.Close(); err == nil {
		err = closing
	}
	return err
}

type etcdHeld struct{ m *concurrency.Mutex }

func (h etcdHeld) release(ctx context.Context) error { return h.m.Unlock(ctx) }

// redislockClient is bsm/redislock. It renews nothing by itself: the lease has to outlast the work.
type redislockClient struct {
	redis *redis.Client
	locks *redislock.Client
	lease time.Duration
}

func openRedislock(_ context.Context, address string, s settings, m *meter) (client, error) {
	c := redis.NewClient(&redis.Options{
		Addr:                     address,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	c.AddHook(redisHook{m})
	return redislockClient{c, redislock.New(c), s.lease}, nil
}

func (c redislockClient) acquire(ctx context.Context, key string) (held, error) {
	// It gives up after a lease, except where the context has a deadline: a day stands for "until it has the lock".
	ctx, cancel := context.WithTimeout(ctx, 24*time.Hour)
	defer cancel()
	l, err := c.locks.Obtain(ctx, key, c.lease,
		&redislock.Options{RetryStrategy: redislock.LinearBackoff(10 * time.Millisecond)})
	if err != nil {
		return nil, err
	}
	return redislockHeld{l}, nil
}

func (c redislockClient) close(context.Context) error { return c.redis.Close() }

type redislockHeld struct{ l *redislock.Lock }

func (h redislockHeld) release(ctx context.Context) error { return h.l.Release(ctx) }

// redisHook counts commands of go-redis.
type redisHook struct{ m *meter }

func (h redisHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h redisHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, command redis.Cmder) error {
		h.m.request(false)
		return next(ctx, command)
	}
}

func (h redisHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// askAgain bounds a wait of rueidislock. With KeyMajority 1, which its README wants for one server, a waiter of v1.0.79
// may take itself off the list of those that are told, and would wait for ever: its refusal counts as a release where
// the goroutine that watches the key runs before the failure is counted.
const askAgain = time.Second

// rueidislockClient is rueidislock on one server. Redis tells each client that waits when the key has changed.
type rueidislockClient struct{ l rueidislock.Locker }

func openRueidislock(_ context.Context, address string, s settings, m *meter) (client, error) {
	l, err := rueidislock.NewLocker(rueidislock.LockerOption{
		ClientOption: rueidis.ClientOption{InitAddress: []string{address}},
		ClientBuilder: func(option rueidis.ClientOption) (rueidis.Client, error) {
			c, err := rueidis.NewClient(option)
			return meteredRueidis{c, m}, err
		},
		KeyMajority: 1, KeyValidity: s.lease, ExtendInterval: s.heartbeat, NoLoopTracking: true,
		// How long one server may take before the next is asked. There is one, and the machine may be busy.
		TryNextAfter: s.lease / 2,
	})
	if err != nil {
		return nil, err
	}
	return rueidislockClient{l}, nil
}

// meteredRueidis counts commands.
type meteredRueidis struct {
	rueidis.Client
	m *meter
}

func (c meteredRueidis) Do(ctx context.Context, command rueidis.Completed) rueidis.RedisResult {
	c.m.request(false)
	return c.Client.Do(ctx, command)
}

func (c rueidislockClient) acquire(ctx context.Context, key string) (held, error) {
	for {
		// Its lock ends with the context that it was acquired with. Here ctx is for the wait alone, as with the others.
		waiting, stop := context.WithCancel(context.WithoutCancel(ctx))
		unbind := context.AfterFunc(ctx, stop)
		late := time.AfterFunc(askAgain, stop)
		tenure, release, err := c.l.WithContext(waiting, key)
		if patient, bound := late.Stop(), unbind(); err == nil && patient && bound {
			return rueidislockHeld{tenure, func() {
				release()
				stop()
			}}, nil
		}
		if err == nil {
			release() // just too late
		} else if waiting.Err() == nil {
			stop()
			return nil, err
		}
		stop()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

func (c rueidislockClient) close(context.Context) error {
	c.l.Close()
	return nil
}

type rueidislockHeld struct {
	tenure context.Context
	cancel func() // returns when the key is gone
}

func (h rueidislockHeld) release(context.Context) error {
	lost := h.tenure.Err()
	h.cancel()
	if lost != nil {
		return fmt.Errorf("lost before the release: %w", lost)
	}
	return nil
}
