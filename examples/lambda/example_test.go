//nolint:errcheck // as short as the code of a page is
package lambda_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// service is a stand-in for AWS, with the table "locks".
func service(ctx context.Context) (*dynamodb.Client, func()) {
	srv := dynalocktest.NewServer()
	if err := dynalock.CreateTable(ctx, srv.Client(), "locks"); err != nil {
		panic(err)
	}
	return srv.Client(), srv.Close
}

func write(id string) types.TransactWriteItem {
	item := map[string]types.AttributeValue{"key": &types.AttributeValueMemberS{Value: "work/" + id}}
	return types.TransactWriteItem{Put: &types.Put{TableName: new("locks"), Item: item}}
}

func open(db *dynamodb.Client) (*dynalock.Client, error) {
	return dynalock.New(db, "locks", func(o *dynalock.Options) {
		o.MaxClockSkew = 10 * time.Second     // a dead holder's lock is taken at first sight, this long after its expiry
		o.MaxPoll = 30 * time.Second          // nobody waits here: it bounds HeldError.RetryAfter of locks with heartbeats
		o.Owner = lambdacontext.LogStreamName // who asks for the holder finds its log
	})
}

// Example shows the two ways to lock in a function.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // as Lambda gives it
	defer cancel()
	db, stop := service(ctx)
	defer stop()
	locks, err := open(db)
	if err != nil {
		panic(err)
	}

	later := func(d time.Duration) error { return fmt.Errorf("later, in %v", d) }
	work := func(ctx context.Context, order string) error {
		lease, err := dynalock.LeaseUntilDeadline(ctx) // 5/4 of the time that is left
		if err != nil {
			return err
		}
		lock, err := locks.TryAcquire(ctx, order, func(o *dynalock.AcquireOptions) {
			o.Lease, o.NoHeartbeat = lease, true // trusted until the deadline; nothing runs in the background
		})
		var held *dynalock.HeldError
		if errors.As(err, &held) {
			return later(held.RetryAfter)
		}
		if err != nil {
			return err
		}
		defer lock.Release(ctx)                 // before the answer: what comes after it may run in an hour
		return lock.Transact(ctx, write(order)) // commits only if the lock is still held
	}
	fmt.Println(work(ctx, "order 1"))

	report := func(ctx context.Context, l *dynalock.Lock) error { return l.Transact(ctx, write("report")) }
	tick := func(ctx context.Context, due time.Time) (dynalock.Run, error) {
		lease, err := dynalock.LeaseUntilDeadline(ctx)
		if err != nil {
			return dynalock.Run{}, err
		}
		return locks.Once(ctx, "report", due.UTC().Format(time.RFC3339), report, func(o *dynalock.OnceOptions) {
			o.Lease, o.NoHeartbeat = lease, true
			o.NoWait = true // a waiting function costs as much as a working one
		})
	}
	for range 2 { // the schedule delivers it twice
		run, err := tick(ctx, time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC))
		fmt.Println(run.Period, run.Ran, run.Err == "", err)
	}
	// Output:
	// <nil>
	// 2026-11-21T12:00:00Z true true <nil>
	// 2026-11-21T12:00:00Z false true <nil>
}

// state is what a workflow carries from step to step.
type state struct {
	Service string `json:"service"`
	Lock    string `json:"lock,omitempty"`
}

// workflow is what each of its functions keeps.
type workflow struct{ locks *dynalock.Client }

// static is how a lock is held between the steps, where nobody could renew it: for longer than the slowest step takes
// with all that comes before it, and the wait for it.
func static(o *dynalock.AcquireOptions) { o.Lease, o.NoHeartbeat = 15*time.Minute, true }

// acquire is the first step.
func (w workflow) acquire(ctx context.Context, s state) (state, error) {
	l, err := w.locks.TryAcquire(ctx, s.Service, static)
	if err != nil {
		return s, err // "HeldError" to the state machine, which tries again
	}
	s.Lock = l.Handle()
	return s, nil
}

// deploy is any step after it.
func (w workflow) deploy(ctx context.Context, s state) (state, error) {
	l, err := w.locks.Resume(ctx, s.Lock, static) // a tenure of this step, with a new token and the whole lease before it
	if err != nil {
		return s, err // "LostError": somebody else may have it
	}
	if err := l.Transact(ctx, write(s.Service)); err != nil {
		return s, errors.Join(err, l.Release(ctx)) // the handle that came in is of no use any more, also not to a later step
	}
	s.Lock = l.Handle()
	return s, nil
}

// release is the last step, also after a failure.
func (w workflow) release(ctx context.Context, s state) error {
	l, err := w.locks.Resume(ctx, s.Lock, static)
	if errors.Is(err, dynalock.ErrLost) {
		return nil // nothing is left to give back
	}
	if err != nil {
		return err
	}
	return l.Release(ctx)
}

func TestAWorkflowHoldsItsLockFromStepToStepAndKeepsTheNextOneOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // hours pass
		ctx := t.Context()
		db, stop := service(ctx)
		defer stop()
		var steps [4]workflow // each step is another function, in another process
		for i := range steps {
			locks, err := open(db)
			if err != nil {
				t.Fatal(err)
			}
			defer locks.Close(context.WithoutCancel(ctx))
			steps[i] = workflow{locks}
		}
		first, err := steps[0].acquire(ctx, state{Service: "web"})
		if err != nil {
			t.Fatal(err)
		}
		next := func() string {
			_, err := steps[3].acquire(ctx, state{Service: "web"})
			if err == nil {
				t.Fatal("the next workflow has the lock")
			}
			return reflect.TypeOf(err).Elem().Name() // as Lambda names it to the state machine
		}
		for range 3 {
			time.Sleep(10 * time.Minute) // until the next step: longer than a lease in all
			if got := next(); got != "HeldError" {
				t.Errorf("the next workflow was told %q", got)
			}
			old := first
			if first, err = steps[1].deploy(ctx, first); err != nil {
				t.Fatal(err)
			}
			// A step that is run once more, because its answer was lost, has lost the lock.
			if _, err := steps[2].deploy(ctx, old); err == nil || reflect.TypeOf(err).Elem().Name() != "LostError" {
				t.Errorf("the old handle: %v", err)
			}
		}
		if err := steps[2].release(ctx, first); err != nil {
			t.Fatal(err)
		}
		if err := steps[2].release(ctx, first); err != nil { // and once more
			t.Error(err)
		}
		// A workflow that is given up in the middle costs the next one a lease.
		second, err := steps[3].acquire(ctx, state{Service: "web"})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(15*time.Minute + 11*time.Second)
		if _, err = steps[0].acquire(ctx, state{Service: "web"}); err != nil {
			t.Errorf("after the lease: %v", err)
		}
		if _, err := steps[1].deploy(ctx, second); !errors.Is(err, dynalock.ErrLost) {
			t.Errorf("the workflow that was taken over: %v", err)
		}
	})
}

func TestTheStateMachineOfTheDocumentationLeadsFromEachStateToOneThatExists(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/step-functions.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?ms)^```json\n(.*?)^```").FindSubmatch(page)
	if block == nil {
		t.Fatal("the page has no state machine")
	}
	type rule struct {
		ErrorEquals []string
		Next        string
	}
	var machine struct {
		StartAt string
		States  map[string]struct {
			Type, Next   string
			End          bool
			Retry, Catch []rule
		}
	}
	if err := json.Unmarshal(block[1], &machine); err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{machine.StartAt: true}
	errorNames := map[string]bool{}
	for name, s := range machine.States {
		if s.Type == "Task" && (s.Next == "") == !s.End {
			t.Errorf("%s neither ends nor goes on", name)
		}
		if s.Next != "" {
			named[s.Next] = true
		}
		for _, r := range append(s.Retry, s.Catch...) {
			for _, e := range r.ErrorEquals {
				errorNames[e] = true
			}
			if r.Next != "" {
				named[r.Next] = true
			}
		}
	}
	for name := range named {
		if _, ok := machine.States[name]; !ok {
			t.Errorf("there is no state %q", name)
		}
	}
	if len(named) != len(machine.States) {
		t.Errorf("%d states, %d are reached", len(machine.States), len(named))
	}
	for e := range errorNames {
		if known := e == "HeldError" || e == "LostError" || strings.HasPrefix(e, "States."); !known {
			t.Errorf("no function ends with error %q", e)
		}
	}
}
