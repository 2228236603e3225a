package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// The registers are sets that the holders of the locks add to: a read, a pause and a write. One register of each key is
// written through Transact, the other one with no more than a look at Held before.

// write adds an element to the set in a register: a read, a pause and a write, guarded by the lock or not.
func (a *actor) write(ctx context.Context, t *tenure, st step, fenced bool) error {
	w := a.w
	ctx = context.WithValue(ctx, siteTag{}, siteApp)
	register := "unguarded " + t.key
	if fenced {
		register = "guarded " + t.key
	}
	w.mu.Lock()
	w.writes++
	element := fmt.Sprintf("%s-%d", a.name, w.writes)
	w.mu.Unlock()
	begin := w.now()
	out, err := a.c.db.GetItem(ctx,
		&dynamodb.GetItemInput{TableName: aws.String(dataTable), Key: itemKey(register), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return ctx.Err()
	}
	set, _ := out.Item["set"].(*types.AttributeValueMemberSS)
	next := &types.AttributeValueMemberSS{Value: []string{element}}
	if set != nil {
		next.Value = append(next.Value, set.Value...)
	}
	time.Sleep(st.Pause)
	if !a.alive(ctx) {
		return ctx.Err()
	}
	believes := t.lock.Held()
	item := map[string]types.AttributeValue{"key": s(register), "set": next, "by": s(t.id)}
	if !fenced {
		_, err = a.c.db.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String(dataTable), Item: item})
	} else {
		items := []types.TransactWriteItem{{Put: &types.Put{TableName: aws.String(dataTable), Item: item}}}
		if st.Gate {
			items = append(items, types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{
				TableName: aws.String(dataTable), Key: itemKey("gate"),
				ConditionExpression: aws.String("attribute_not_exists(closed)"),
			}})
		}
		err = w.call(context.WithValue(ctx, siteTag{}, siteTransact), a.c, a.name, t.key, "Transact",
			func(ctx context.Context) error { return t.lock.Transact(ctx, items...) })
	}
	var cancelled *types.TransactionCanceledException
	w.mu.Lock()
	defer w.mu.Unlock()
	w.exporter.wrote(a, t, begin, fenced, next.Value[1:], element, err)
	switch {
	case err == nil:
		w.acked[register] = append(w.acked[register], element)
	case fenced && errors.As(err, &cancelled) && len(cancelled.CancellationReasons) == 3 &&
		aws.ToString(cancelled.CancellationReasons[1].Code) == "ConditionalCheckFailed" && ctx.Err() == nil:
		w.refused = append(w.refused, element)
		w.check.count.Gated++
	case fenced && errors.Is(err, dynalock.ErrLost):
		w.refused = append(w.refused, element)
		w.check.count.Refused++
		if st := w.check.key(t.key); believes && st.exists && !st.released && st.id != t.id {
			w.check.count.Caught++
		}
	}
	if !fenced {
		return nil
	}
	return err
}

// gates opens and closes the gate of the guarded writes.
func (w *world) gates(over <-chan struct{}) {
	tick := time.NewTicker(w.plan.Gates)
	defer tick.Stop()
	ctx := context.WithValue(w.ctx, siteTag{}, siteApp)
	for closed := true; ; closed = !closed {
		select {
		case <-tick.C:
		case <-over:
			return
		}
		item := itemKey("gate")
		if closed {
			item["closed"] = s("yes")
		}
		if _, err := w.raw.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String(dataTable), Item: item}); err != nil {
			w.t.Errorf("the gate: %v", err)
		}
	}
}

// stored follows the registers.
func (k *checker) stored(wr dynalocktest.Write, r dynalocktest.Request) {
	if wr.Key == "gate" {
		return
	}
	kind, key, _ := strings.Cut(wr.Key, " ")
	fenced := kind == "guarded"
	was, _ := wr.Old()["set"].(*types.AttributeValueMemberSS)
	is, _ := wr.New()["set"].(*types.AttributeValueMemberSS)
	k.w.history.add(k.w.now(), "table", key, "%s by %s of %s: %v", wr.Key, r.Client, textOf(wr.New(), "by"), is.Value)
	k.last[wr.Key] = is.Value
	if fenced {
		k.count.Fenced++
	} else {
		k.count.Unfenced++
	}
	if was == nil {
		return
	}
	for _, e := range was.Value {
		if slices.Contains(is.Value, e) {
			continue
		}
		if !fenced {
			k.count.LostUpdates++
			continue
		}
		k.fail(ruleGuarded, key, "%s of %s overwrote %s", r.Client, textOf(wr.New(), "by"), e)
	}
}

// settle checks what can only be told at the end.
func (w *world) settle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, key := range w.keys {
		register := "guarded " + key
		out := w.check.last[register]
		for _, e := range w.acked[register] {
			if !slices.Contains(out, e) {
				w.check.fail(ruleGuarded, key, "%s was acknowledged and is not there", e)
			}
		}
		for _, e := range w.refused {
			if slices.Contains(out, e) {
				w.check.fail(ruleNotWritten, key, "%s was refused and is there", e)
			}
		}
	}
}
