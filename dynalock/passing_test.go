package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/heartbeat"
	"github.com/dynalock/dynalock/internal/testserver"
)

// Answers about credentials, permissions and the table pass by themselves once a client has been served.
var passingCodes = []string{
	"UnrecognizedClientException", "InvalidSignatureException", "IncompleteSignatureException", "ExpiredTokenException",
	"MissingAuthenticationTokenException", "AccessDeniedException", "ResourceNotFoundException",
}

// flap has the requests of a client refused for a while, or once.
func flap(e *env, wire *testserver.Wire, code string, d time.Duration) {
	f := testserver.Fault{Kind: testserver.FailBefore, Status: 400, Type: code}
	if d == 0 {
		f.Times = 1
	}
	remove := wire.Inject(f)
	if d > 0 {
		go func() {
			select {
			case <-time.After(d):
				remove()
			case <-e.ctx.Done():
			}
		}()
	}
}

// passing are the calls that an answer which passes must not end, with what has to be there before they begin.
var passing = []struct {
	name    string
	prepare func(e *env, c *dynalock.Client) func() error
	once    bool // it is made again twice at most, as when DynamoDB throttles, and so bears one such answer, no 12 s
}{
	{name: "TryAcquire", once: true, prepare: func(e *env, c *dynalock.Client) func() error {
		return func() error { _, err := c.TryAcquire(e.ctx, "key"); return err }
	}},
	{name: "Acquire", prepare: func(e *env, c *dynalock.Client) func() error {
		return func() error { _, err := c.Acquire(e.ctx, "key"); return err }
	}},
	{name: "a wait", prepare: func(e *env, c *dynalock.Client) func() error {
		other, _ := e.client()
		l := e.acquire(other, "key")
		return func() error {
			go func() {
				time.Sleep(20 * time.Second)
				_ = l.Release(e.ctx)
			}()
			_, err := c.Acquire(e.ctx, "key")
			return err
		}
	}},
	{name: "Renew", prepare: func(e *env, c *dynalock.Client) func() error {
		l := e.acquire(c, "key")
		return func() error { return l.Renew(e.ctx) }
	}},
	{name: "SetData", prepare: func(e *env, c *dynalock.Client) func() error {
		l := e.acquire(c, "key")
		return func() error { return l.SetData(e.ctx, []byte("x")) }
	}},
	{name: "Transact", prepare: func(e *env, c *dynalock.Client) func() error {
		l := e.acquire(c, "key")
		must(e, l.Transact(e.ctx, put(e, "before", "x")))
		return func() error { return l.Transact(e.ctx, put(e, "register", "x")) }
	}},
	{name: "Release", prepare: func(e *env, c *dynalock.Client) func() error {
		l := e.acquire(c, "key")
		return func() error { return l.Release(e.ctx) }
	}},
	{name: "the end of a Do", prepare: func(e *env, c *dynalock.Client) func() error {
		return func() error {
			return c.Do(e.ctx, "key", func(context.Context, *dynalock.Lock) error { return nil })
		}
	}},
	{name: "the end of a Once", prepare: func(e *env, c *dynalock.Client) func() error {
		return func() error { _, err := c.Once(e.ctx, "job", "1", nothing); return err }
	}},
	{name: "Run", prepare: func(e *env, c *dynalock.Client) func() error {
		return func() error {
			return c.Election("key").Run(e.ctx, func(context.Context, *dynalock.Lock) error { return nil })
		}
	}},
	{name: "Get", once: true, prepare: func(e *env, c *dynalock.Client) func() error {
		return func() error { _, err := c.Get(e.ctx, "key"); return err }
	}},
	{name: "ForceRelease", once: true, prepare: func(e *env, c *dynalock.Client) func() error {
		other, _ := e.client()
		e.acquire(other, "key")
		r := record(e, c, "key")
		return func() error { return c.ForceRelease(e.ctx, r) }
	}},
	{name: "Pause", once: true, prepare: func(e *env, c *dynalock.Client) func() error {
		return func() error { return c.Pause(e.ctx, "job", "") }
	}},
}

func TestAnAnswerThatPassesEndsNothingOnceTheClientWasServed(t *testing.T) {
	for _, tt := range passing {
		for _, code := range passingCodes {
			for _, d := range []time.Duration{0, 12 * time.Second} {
				if d > 0 && tt.once {
					continue
				}
				t.Run(fmt.Sprint(tt.name, " ", code, " ", d), func(t *testing.T) {
					virtual(t, func(e *env) {
						c, wire := e.client(func(o *dynalock.Options) { o.Lease, o.AttemptTimeout = time.Minute, 0 })
						must(e, e.acquire(c, "served").Release(e.ctx))
						ask(e, c)
						call := tt.prepare(e, c)
						flap(e, wire, code, d)
						must(e, call())
					})
				})
			}
		}
	}
}

// What a client that was never served is told at once: it is probably misconfigured.
func TestAnAnswerThatPassesIsFinalForAClientThatWasNeverServed(t *testing.T) {
	for _, code := range passingCodes {
		t.Run(code, func(t *testing.T) {
			virtual(t, func(e *env) {
				for name, call := range map[string]func(c *dynalock.Client) error{
					"TryAcquire": func(c *dynalock.Client) error { _, err := c.TryAcquire(e.ctx, "key"); return err },
					"Acquire":    func(c *dynalock.Client) error { _, err := c.Acquire(e.ctx, "key"); return err },
					"Once":       func(c *dynalock.Client) error { _, err := c.Once(e.ctx, "job", "1", nothing); return err },
					"Run": func(c *dynalock.Client) error {
						return c.Election("key").Run(e.ctx, func(context.Context, *dynalock.Lock) error { return nil })
					},
					"Tick": func(c *dynalock.Client) error {
						return c.Tick(e.ctx, "ticks", dynalock.Every(time.Second, 0),
							func(context.Context, *dynalock.Lock, time.Time) error { return nil })
					},
				} {
					c, wire := e.client()
					flap(e, wire, code, time.Hour)
					err := call(c)
					check(e, errors.Is(err, dynalock.ErrStore) && strings.Contains(err.Error(), code), "%s: %v", name, err)
					check(e, wire.Count() == 1, "%s: %d requests", name, wire.Count())
				}
			})
		})
	}
}

// A permission that a role never had does not come by itself.
func TestAPermissionThatWasNeverThereIsToldAtOnce(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		l := e.acquire(c, "key")
		wire.Inject(testserver.Fault{
			Kind: testserver.FailBefore, Status: 400, Type: "AccessDeniedException",
			Op: "TransactWriteItems",
		})
		err := l.Transact(e.ctx, put(e, "register", "x"))
		check(e, errors.Is(err, dynalock.ErrStore) && strings.Contains(err.Error(), "permission"), "error is %v", err)
		check(e, wire.Count("TransactWriteItems") == 1, "%d requests", wire.Count("TransactWriteItems"))
	})
}

// events are those that an observer was told.
type events struct {
	mu   sync.Mutex
	list []dynalock.Event
}

func (x *events) Observe(_ context.Context, ev dynalock.Event) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.list = append(x.list, ev)
}

func (x *events) of(kind dynalock.EventKind) (list []dynalock.Event) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, ev := range x.list {
		if ev.Kind == kind {
			list = append(list, ev)
		}
	}
	return list
}

func TestAWaitThatEndsWhileAnswersPassTellsWhyAndTheObserverSawThem(t *testing.T) {
	virtual(t, func(e *env) {
		holder, _ := e.client()
		e.acquire(holder, "key")
		seen := &events{}
		c, wire := e.client(func(o *dynalock.Options) { o.Observer = seen })
		ctx := e.within(10 * time.Second)
		go func() {
			time.Sleep(5 * time.Second)
			flap(e, wire, "ExpiredTokenException", time.Hour)
		}()
		_, err := c.Acquire(ctx, "key")
		for _, target := range []error{dynalock.ErrHeld, dynalock.ErrStore, context.DeadlineExceeded} {
			wantErr(e, err, target)
		}
		check(e, strings.Contains(err.Error(), "credentials are not valid"), "error is %v", err)
		list := seen.of(dynalock.EventRetry)
		check(e, len(list) > 3 && list[0].Op != "" && list[0].Key == "key" && errors.Is(list[0].Err, dynalock.ErrStore),
			"events %+v", list)
	})
}

func TestALockIsLostAtItsDeadlineAndSaysThatItsCredentialsHadExpired(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		l := e.acquire(c, "key")
		flap(e, wire, "ExpiredTokenException", time.Hour)
		<-l.Done()
		wantErr(e, l.Err(), heartbeat.ErrDeadline)
		check(e, strings.Contains(l.Err().Error(), "credentials are not valid"), "error is %v", l.Err())
	})
}

// signing wants signatures of the present, as DynamoDB does, and tells its own time.
type signing struct {
	aws.HTTPClient
	off      time.Duration // of the machine's clock, which the SDK signs with
	corrects bool          // the SDK takes note of the difference, for its next attempt
	requests atomic.Int64
}

func (x *signing) Do(r *http.Request) (*http.Response, error) {
	if x.requests.Add(1) > 1 && x.corrects {
		return x.HTTPClient.Do(r)
	}
	a := response(400, []byte(
		`{"__type":"com.amazon.coral.service#InvalidSignatureException","message":"Signature expired"}`))
	a.Header.Set("Date", time.Now().Add(-x.off).UTC().Format(http.TimeFormat))
	a.Request = r
	return a, nil
}

func (x *signing) client(e *env) *dynalock.Client {
	x.HTTPClient = e.connect().Options().HTTPClient
	db := dynamodb.New(e.connect().Options(), func(o *dynamodb.Options) { o.HTTPClient = x })
	c, err := dynalock.New(db, e.table)
	must(e, err)
	e.Cleanup(func() { _ = c.Close(context.WithoutCancel(e.ctx)) })
	return c
}

func TestAClockThatIsMinutesOffIsWorthOneMoreAttemptToANewClient(t *testing.T) {
	virtual(t, func(e *env) {
		for name, call := range map[string]func(c *dynalock.Client) error{
			"TryAcquire": func(c *dynalock.Client) error { _, err := c.TryAcquire(e.ctx, "try"); return err },
			"Acquire":    func(c *dynalock.Client) error { _, err := c.Acquire(e.ctx, "acquire"); return err },
			"Once":       func(c *dynalock.Client) error { _, err := c.Once(e.ctx, "job", "1", nothing); return err },
			"Get":        func(c *dynalock.Client) error { _, err := c.Get(e.ctx, "get"); return err },
		} {
			x := &signing{off: 10 * time.Minute, corrects: true}
			e.embedded.SetClockOffset(-x.off) // what the SDK takes note of is the server's time
			check(e, call(x.client(e)) == nil, "%s failed", name)
			e.embedded.SetClockOffset(0)
			x = &signing{off: 10 * time.Minute} // it was not the clock
			wantErr(e, call(x.client(e)), dynalock.ErrStore)
			check(e, x.requests.Load() == 2, "%s: %d requests, want one more attempt", name, x.requests.Load())
			x = &signing{} // nor can it be
			wantErr(e, call(x.client(e)), dynalock.ErrStore)
			check(e, x.requests.Load() == 1, "%s: %d requests, want no other attempt", name, x.requests.Load())
		}
	})
}

// slow is a provider of credentials that takes its time, or fails.
type slow struct {
	wait  time.Duration
	fails atomic.Int64
	calls atomic.Int64
}

func (x *slow) Retrieve(ctx context.Context) (aws.Credentials, error) {
	x.calls.Add(1)
	select {
	case <-time.After(x.wait):
	case <-ctx.Done():
		return aws.Credentials{}, ctx.Err()
	}
	if x.fails.Load() > 0 {
		x.fails.Add(-1)
		return aws.Credentials{}, errors.New("the metadata service is down")
	}
	return aws.Credentials{AccessKeyID: "made", SecretAccessKey: "up", Source: "test"}, nil
}

func (x *slow) client(e *env) *dynalock.Client {
	db := dynamodb.New(e.connect().Options(), func(o *dynamodb.Options) { o.Credentials = x })
	c, err := dynalock.New(db, e.table)
	must(e, err)
	e.Cleanup(func() { _ = c.Close(context.WithoutCancel(e.ctx)) })
	return c
}

func TestTheTimeThatCredentialsTakeIsNotTheRequests(t *testing.T) {
	virtual(t, func(e *env) {
		x := &slow{wait: 5 * time.Second}
		c := x.client(e)
		l, err := c.TryAcquire(e.ctx, "key")
		must(e, err)
		check(e, time.Until(l.Deadline()) > 7*time.Second, "%v are left of the lease", time.Until(l.Deadline()))
		check(e, x.calls.Load() == 1, "the provider was asked %d times", x.calls.Load())

		x = &slow{wait: time.Hour}
		c = x.client(e)
		_, err = c.TryAcquire(e.within(time.Minute), "another key")
		wantErr(e, err, dynalock.ErrStore)
		check(e, strings.Contains(err.Error(), "the AWS credentials took longer than 10s"), "error is %v", err)
	})
}

func TestAProviderThatFailsOnceEndsNothing(t *testing.T) {
	virtual(t, func(e *env) {
		holder, _ := e.client()
		held := e.acquire(holder, "held")
		x := &slow{}
		c := x.client(e)
		ask(e, c)
		l := e.acquire(c, "key")
		x.fails.Store(1)
		must(e, l.Release(e.ctx))
		x.fails.Store(1)
		go func() {
			time.Sleep(5 * time.Second)
			_ = held.Release(e.ctx)
		}()
		_, err := c.Acquire(e.ctx, "held")
		must(e, err)

		x = &slow{} // a client that was never served is told at once
		x.fails.Store(1)
		_, err = x.client(e).Acquire(e.ctx, "new")
		wantErr(e, err, dynalock.ErrStore)
		check(e, strings.Contains(err.Error(), "no AWS credentials were found") &&
			strings.Contains(err.Error(), "metadata service"), "error is %v", err)
	})
}

// stripped takes headers out of every answer.
type stripped struct {
	aws.HTTPClient
	headers []string
}

func (x *stripped) Do(r *http.Request) (*http.Response, error) {
	a, err := x.HTTPClient.Do(r)
	if err == nil {
		for _, h := range x.headers {
			a.Header.Del(h)
		}
	}
	return a, err
}

func TestAnswersWithoutARequestIdAreBelievedByTheirChecksumOrNotAtAll(t *testing.T) {
	virtual(t, func(e *env) {
		db := func(headers ...string) *dynamodb.Client {
			return dynamodb.New(e.connect().Options(), func(o *dynamodb.Options) {
				o.HTTPClient = &stripped{o.HTTPClient, headers}
			})
		}
		c, err := dynalock.New(db("X-Amzn-Requestid"), e.table, func(o *dynalock.Options) { o.Lease = lease })
		must(e, err)
		l := e.acquire(c, "key")
		time.Sleep(3 * lease)
		check(e, l.Held(), "lost: %v", l.Err())
		must(e, c.Close(e.ctx))

		holder, _ := e.client()
		e.acquire(holder, "held")
		bare := db("X-Amzn-Requestid", "X-Amz-Crc32")
		c, err = dynalock.New(bare, e.table)
		must(e, err)
		_, held := c.TryAcquire(e.ctx, "held")
		_, get := c.Get(e.ctx, "key")
		_, try := c.TryAcquire(e.ctx, "key 2")
		_, acquire := c.Acquire(e.ctx, "key 3")
		_, check0 := dynalock.CheckTable(e.ctx, bare, e.table)
		for name, err := range map[string]error{
			"Get": get, "TryAcquire": try, "Acquire": acquire, "CheckTable": check0, "TryAcquire again": held,
			"CreateTable": dynalock.CreateTable(e.ctx, bare, "another"),
		} {
			check(e, errors.Is(err, dynalock.ErrStore) && strings.Contains(err.Error(), "x-amzn-RequestId"), "%s: %v", name, err)
		}
		_ = c.Close(e.ctx)
	})
}

func TestAnEndpointThatIsNoURLAndATableThatIsMissingAreToldAsSuch(t *testing.T) {
	virtual(t, func(e *env) {
		endpoint := "127.0.0.1:1234"
		db := dynamodb.New(e.connect().Options(), func(o *dynamodb.Options) { o.BaseEndpoint = &endpoint })
		c, err := dynalock.New(db, e.table)
		must(e, err)
		_, err = c.Get(e.ctx, "key")
		check(e, strings.Contains(err.Error(), "the endpoint is not a URL") && !strings.Contains(err.Error(), "credentials"),
			"error is %v", err)

		c, err = dynalock.New(e.connect(), "nowhere")
		must(e, err)
		_, err = c.Get(e.ctx, "key")
		check(e, strings.Contains(err.Error(), "does not exist in Region "+e.connect().Options().Region), "error is %v", err)
	})
}
