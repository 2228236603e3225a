package dynalock_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/internal/testserver"
)

// iamAction is the permission that the library needs for an operation. A transaction's other items are the caller's.
var iamAction = map[string]string{
	"GetItem": "dynamodb:GetItem", "UpdateItem": "dynamodb:UpdateItem", "DeleteItem": "dynamodb:DeleteItem",
	"Scan":               "dynamodb:Scan",
	"TransactWriteItems": "dynamodb:ConditionCheckItem", "DescribeTable": "dynamodb:DescribeTable",
	"DescribeTimeToLive": "dynamodb:DescribeTimeToLive",
}

// role is who calls what. Every method that can send a request is somebody's.
type role struct {
	methods []string
	act     func(e *env, c *dynalock.Client) (others []*testserver.Wire)
}

var roles = map[string]role{
	"holder": {
		methods: []string{
			"Client.Acquire", "Client.TryAcquire", "Client.Do", "Client.Resume", "Client.Once", "Client.Tick", "Client.Election",
			"Client.Close",
			"Lock.Renew", "Lock.SetData", "Lock.Transact", "Lock.ConditionCheck", "Lock.Release",
			"Election.Run", "Election.Resign", "Election.HandOver",
		},
		act: func(e *env, c *dynalock.Client) []*testserver.Wire {
			l := e.acquire(c, "key", func(o *dynalock.AcquireOptions) { o.DeleteOnRelease = true })
			_, err := c.TryAcquire(e.ctx, "key")
			wantErr(e, err, dynalock.ErrHeld)
			must(e, l.Renew(e.ctx))
			must(e, l.SetData(e.ctx, []byte("data")))
			must(e, l.Transact(e.ctx, types.TransactWriteItem{Put: &types.Put{
				TableName: &e.table, Item: map[string]types.AttributeValue{"key": s("the caller's own")},
			}}))
			l, err = c.Resume(e.ctx, l.Handle())
			must(e, err)
			ctx, cancel := context.WithTimeout(e.ctx, 3*time.Second)
			defer cancel()
			_, err = c.Acquire(ctx, "key") // waits for itself
			wantErr(e, err, dynalock.ErrHeld)
			must(e, l.Release(e.ctx))
			must(e, c.Do(e.ctx, "key", nothing))
			_, err = c.Once(e.ctx, "job", "period", nothing, func(o *dynalock.OnceOptions) { o.AtLeast = time.Second })
			must(e, err)
			ticking := e.within(3 * time.Second)
			wantErr(e, c.Tick(ticking, "job", dynalock.Every(time.Second, 0),
				func(context.Context, *dynalock.Lock, time.Time) error {
					return nil
				}), context.DeadlineExceeded)
			el := c.Election("leader")
			err = el.Run(e.ctx, func(_ context.Context, _ *dynalock.Lock) error {
				wantErr(e, el.HandOver(e.within(lease/4), "nobody"), context.DeadlineExceeded) // before the term ends
				return errors.New("enough")
			})
			check(e, err != nil && err.Error() == "enough", "%v", err)
			must(e, el.Resign(e.ctx))
			return nil
		},
	},
	"observer": {
		methods: []string{
			"Client.Get", "Client.Records", "Client.Runs", "Client.GetRun", "Client.Job", "Election.Leader",
			"Election.Observe",
		},
		act: func(e *env, c *dynalock.Client) []*testserver.Wire {
			look(e, c)
			el := c.Election("leader")
			_, err := el.Leader(e.ctx)
			must(e, err)
			for _, err := range el.Observe(e.ctx) {
				must(e, err)
				break
			}
			return nil
		},
	},
	"operator": {
		methods: []string{"Client.ForceRelease", "Client.Pause", "Client.Unpause", "Client.Reopen"},
		act: func(e *env, c *dynalock.Client) []*testserver.Wire {
			holder, _ := e.client()
			e.acquire(holder, "key")
			look(e, c)
			r, err := c.Get(e.ctx, "key")
			must(e, err)
			must(e, c.ForceRelease(e.ctx, r))
			must(e, c.Pause(e.ctx, "job", "reason"))
			must(e, c.Unpause(e.ctx, "job"))
			run, err := holder.Once(e.ctx, "job", "period", nothing)
			must(e, err)
			must(e, c.Reopen(e.ctx, run))
			db, count := testserver.Tap(e.connect())
			_, err = dynalock.CheckTable(e.ctx, db, e.table)
			must(e, err)
			return []*testserver.Wire{count}
		},
	},
}

// quiet are the methods that send nothing.
var quiet = []string{
	"Client.Options", "Client.Table", "Lock.Key", "Lock.Token", "Lock.Held", "Lock.Deadline", "Lock.Context", "Lock.Done",
	"Lock.Err",
	"Lock.Data", "Lock.Handle",
}

func look(e *env, c *dynalock.Client) {
	e.Helper()
	_, err := c.Get(e.ctx, "key")
	must(e, err)
	for _, err := range c.Records(e.ctx) {
		must(e, err)
	}
	for _, err := range c.Runs(e.ctx, "job") {
		must(e, err)
	}
	_, err = c.GetRun(e.ctx, "job", "period")
	must(e, err)
	_, err = c.Job(e.ctx, "job")
	must(e, err)
}

func TestThePoliciesAllowExactlyWhatEachRoleCalls(t *testing.T) {
	b, err := os.ReadFile("../terraform/library.json")
	must(t, err)
	var library struct {
		Actions map[string]map[string][]string `json:"actions"`
	}
	must(t, json.Unmarshal(b, &library))
	for name, r := range roles {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				c, wire := e.client()
				wires := append(r.act(e, c), wire)
				must(e, c.Close(e.ctx))
				var called, allowed []string
				for _, w := range wires {
					for op := range w.Counts() {
						check(e, iamAction[op] != "", "no action is known for %s", op)
						called = append(called, iamAction[op])
					}
				}
				for _, actions := range library.Actions[name] {
					allowed = append(allowed, actions...)
				}
				slices.Sort(called)
				called = slices.Compact(called)
				slices.Sort(allowed)
				check(e, slices.Equal(called, allowed), "the %s calls %v and may call %v", name, called, allowed)
			})
		})
	}
	check(t, len(library.Actions) == len(roles), "the module has %d roles, the library %d", len(library.Actions),
		len(roles))
}

func TestEveryMethodBelongsToARole(t *testing.T) {
	known := slices.Clone(quiet)
	for _, r := range roles {
		known = append(known, r.methods...)
	}
	for _, typ := range []reflect.Type{
		reflect.TypeFor[*dynalock.Client](), reflect.TypeFor[*dynalock.Lock](),
		reflect.TypeFor[*dynalock.Election](),
	} {
		for method := range typ.Methods() {
			name := typ.Elem().Name() + "." + method.Name
			check(t, slices.Contains(known, name), "%s is in no role", name)
		}
	}
}
