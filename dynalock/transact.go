package dynalock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/dynalock/dynalock/heartbeat"
)

// maxTransactItems is DynamoDB's limit for one transaction.
const maxTransactItems = 100

// tokenLife is how long a transaction in doubt is retried. DynamoDB knows a client token for 10 minutes, and would
// apply the transaction again after that.
const tokenLife = 9 * time.Minute

// ConditionCheck makes an item for the caller's own TransactWriteItems. The transaction commits only if this tenure
// still holds the lock. DynamoDB decides that at the instant of the commit, and no clock is involved. (Chubby calls it
// checking a sequencer.) The check costs two write units. All items of the transaction must be in the account and
// Region of the lock's table.
func (l *Lock) ConditionCheck() types.TransactWriteItem {
	return l.check("", 0)
}

// check is the condition check with one more condition, on the number of a guarded write.
func (l *Lock) check(more string, n uint64) types.TransactWriteItem {
	w := &write{
		cond:   condTenure + condToken + more,
		values: item{":id": str(l.ledger.prefix()), ":token": num(l.token), ":n": num(n)},
	}
	names, values := w.placeholders(l.c.opt.PartitionKey, l.c.opt.SortKey)
	return types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{
		TableName: &l.c.store.table, Key: l.c.store.keyOf(l.key), ConditionExpression: &w.cond,
		ExpressionAttributeNames: names, ExpressionAttributeValues: values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}}
}

// guarded is one call of Transact: the transaction that it retries under one client token, and what is known of it.
type guarded struct {
	l       *Lock
	items   []types.TransactWriteItem
	n       uint64 // of this transaction in the tenure
	in      *dynamodb.TransactWriteItemsInput
	first   heartbeat.Reading // when it was sent for the first time
	doubt   bool              // it may have been applied, or be applied yet
	void    bool              // it cannot be applied any more, unless it has been
	refusal error             // set if a condition of the caller's own has rejected an attempt
	until   time.Duration     // how long it is retried once the lock is over
	strange time.Duration     // since when a table or a permission is missing that may be the caller's; 0: none is
}

// begin makes a new transaction, of which nothing was sent.
func (g *guarded) begin() {
	l := g.l
	l.mu.Lock()
	l.guarded++
	g.n = l.guarded
	l.mu.Unlock()
	token := newID()
	check := l.check(condValid, g.n)
	g.in = &dynamodb.TransactWriteItemsInput{
		TransactItems:      append(slices.Clone(g.items), check),
		ClientRequestToken: &token,
	}
	g.first, g.doubt, g.void, g.refusal = l.c.opt.clock.Now(), false, false, nil
}

// Transact writes 1 to 99 items in one transaction, which commits only if this tenure still holds the lock.
//
// It retries conflicts (with this lock's own heartbeat, for example), throttling and lost answers under one client
// token, until ctx ends or the lock is lost. After a lost answer it retries for 9 minutes at most, since DynamoDB knows
// the token for 10. So a transaction is applied at most once. A table or a permission that is missing, and may be that
// of items, is retried for one lease at most.
//
// If a condition of the caller's own items rejects an attempt, an earlier attempt, or a copy that the network has kept,
// may still be under way. A heartbeat makes these void, and the transaction is sent again, to learn whether one was
// applied before. That costs these two requests more.
//
// nil means that the items were written. Errors match
//
//   - ErrLost (a [*LostError]), if the lock was lost: nothing was written.
//   - ErrReleased, if the lock was released: nothing was written.
//   - ErrInvalid, if there are no items, or too many: nothing was written.
//   - ErrStore and the SDK's TransactionCanceledException, if a condition of the caller's own items failed: nothing was
//     written. The reasons are in the order of items, and that of the lock is the last.
//   - ErrStore otherwise, or ctx.Err(): whether the lock is still held or not, the items may have been written. The
//     hint of the [*StoreError] blames the lock's table only if DynamoDB says that it is the lock's.
func (l *Lock) Transact(ctx context.Context, items ...types.TransactWriteItem) error {
	if n := len(items); n == 0 || n >= maxTransactItems {
		return invalid([]error{fmt.Errorf("items has %d entries, allowed: 1 to %d", n, maxTransactItems-1)})
	}
	g := &guarded{l: l, items: items}
	g.begin()
	for n := 1; ; n++ {
		if err := l.Err(); err != nil && !g.doubt {
			return err
		}
		a := l.c.tasks.heed(ctx, nil,
			func(ctx context.Context) answer { return l.c.store.transact(ctx, l.timing.attempt, g.in) })
		if a.verdict == applied {
			return nil
		}
		if a.verdict == inDoubt {
			l.failed(ctx, "transact", n, &a)
		}
		void := g.void
		if done, err := g.refused(ctx, a); done {
			return err
		}
		if a.verdict == rejected {
			l.failed(ctx, "transact", n, &a)
		}
		if g.void && !void {
			continue
		}
		if err := g.pause(ctx, n, a); err != nil {
			return err
		}
	}
}

// refused looks at an answer that is an error, and reports whether it is the result of the call.
func (g *guarded) refused(ctx context.Context, a answer) (done bool, err error) {
	l := g.l
	var cancelled *types.TransactionCanceledException
	if !errors.As(a.err, &cancelled) {
		g.doubt = g.doubt || !unsent(a.err)
		return a.verdict == fatal || g.foreign(a.err), g.failed(a.err)
	}
	g.strange = 0
	check, own, again := cancellation(cancelled)
	switch {
	// the lock is still ours, so the write was made void; if it had been applied, there would be no error
	case check != nil && l.shows(check.Item):
		if g.refusal != nil {
			return true, g.failed(g.refusal)
		}
		g.begin()
		return false, nil
	case check != nil:
		if err := l.Err(); errors.Is(err, ErrReleased) { // by its holder, while this was under way
			return true, err
		}
		return true, l.lose(check.Item)
	case again: // a copy of it, made on the way, may be what it conflicted with
		g.doubt = true
		return false, nil
	case !g.doubt && !own:
		return true, g.failed(a.err)
	}
	g.refusal = a.err
	if !g.void && l.Err() == nil {
		g.void = l.void(ctx, g.n)
	}
	return false, nil
}

// failed wraps the SDK's error. The hint speaks of the lock's table only if the error is about that table: an error
// about the whole call does not say which of its items it means.
func (g *guarded) failed(err error) error {
	c := g.l.c
	e := &StoreError{Op: "transact", Table: c.store.table, Key: g.l.key, Err: err}
	var cancelled *types.TransactionCanceledException
	var api smithy.APIError
	switch {
	case errors.As(err, &cancelled):
		e.Hint = g.blame(cancelled)
	case !errors.As(err, &api):
		e.Hint = c.store.hint(err)
	default:
		switch api.ErrorCode() {
		case "ResourceNotFoundException":
			e.Hint = fmt.Sprintf("one of the tables of the transaction does not exist in this account and Region; "+
				"DynamoDB does not say which: the lock's, or one of the items' (%s)", g.tables())
		case "AccessDeniedException":
			e.Hint = "the role lacks a permission on a table of the transaction: the lock's (dynamodb:ConditionCheckItem), " +
				"or one of the items' (" + g.tables() + ")"
		case "ValidationException":
			e.Hint = "a request of the transaction is not valid; DynamoDB does not say which: one of the items, " +
				"or the lock's check, which comes last"
		default:
			e.Hint = c.store.hint(err)
		}
	}
	return e
}

// foreign reports whether an error that may be about a table of the caller's own has come for a whole lease. An error
// about the lock's table alone is retried, because that table was there before.
func (g *guarded) foreign(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "ResourceNotFoundException" &&
		api.ErrorCode() != "AccessDeniedException" ||
		!slices.ContainsFunc(g.items,
			func(it types.TransactWriteItem) bool { return !sameTable(tableOf(&it), g.l.c.store.table) }) {
		return false
	}
	now := g.l.c.now()
	if g.strange == 0 {
		g.strange = now
	}
	return now-g.strange >= g.l.timing.lease
}

// blame names the items that cancelled the transaction, by the order of the reasons.
func (g *guarded) blame(e *types.TransactionCanceledException) string {
	var by []string
	for i, r := range e.CancellationReasons {
		switch code := aws.ToString(r.Code); {
		case code == "" || code == "None":
		case i < len(g.items):
			by = append(by, fmt.Sprintf("item %d on table %q (%s)", i, tableOf(&g.items[i]), code))
		case code == "ValidationError":
			return g.l.c.store.hint(&smithy.GenericAPIError{Code: "ValidationException", Message: aws.ToString(r.Message)})
		default:
			by = append(by, fmt.Sprintf("the lock's check (%s)", code))
		}
	}
	if len(by) == 0 {
		return ""
	}
	return "cancelled by " + strings.Join(by, ", ")
}

// tables names the tables of the caller's items.
func (g *guarded) tables() string {
	var names []string
	for i := range g.items {
		if name := strconv.Quote(tableOf(&g.items[i])); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// tableOf is the table of an item of a transaction.
func tableOf(it *types.TransactWriteItem) string {
	switch {
	case it.ConditionCheck != nil:
		return aws.ToString(it.ConditionCheck.TableName)
	case it.Delete != nil:
		return aws.ToString(it.Delete.TableName)
	case it.Put != nil:
		return aws.ToString(it.Put.TableName)
	case it.Update != nil:
		return aws.ToString(it.Update.TableName)
	}
	return ""
}

// pause waits before the next attempt; an error ends the call.
func (g *guarded) pause(ctx context.Context, n int, a answer) error {
	l := g.l
	failed := g.failed(a.err)
	if age, _ := l.c.opt.clock.Now().Since(g.first); g.doubt && age >= tokenLife {
		return failed
	}
	var err error
	if g.doubt && l.Err() != nil {
		// It may have been applied while the lock was held. A retry under the same client token is harmless (the check still
		// decides), and the only way to know. It goes on for one more lease.
		if g.until == 0 {
			g.until = l.c.now() + l.timing.lease
		}
		if l.c.now() >= g.until {
			return failed
		}
		err = l.c.tasks.sleep(ctx, backoff(n))
	} else {
		err = l.resting(ctx)(backoff(n))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", err, failed)
	}
	return nil
}

// void makes the guarded writes of this tenure up to n void: none of them that is still under way applies. It makes one
// attempt.
func (l *Lock) void(ctx context.Context, n uint64) bool {
	if l.take(ctx) != nil {
		return false
	}
	a := l.c.tasks.heed(ctx, nil, func(ctx context.Context) answer {
		defer l.give()
		return l.renew(ctx, func(w *write) {
			w.update += setVoid
			w.values[":n"] = num(n)
		})
	})
	switch a.verdict {
	case applied:
		l.lease.Acknowledge(a.sent)
		return true
	case refused:
		_ = l.lose(a.item) // the next attempt is told
	}
	return false
}

// shows reports whether an item shows this tenure holding the lock.
func (l *Lock) shows(it item) bool {
	r := decode(l.key, it)
	return r.State == Held && r.id() == l.id() && r.Token == l.token
}

// cancellation reads the reasons. check is that of the lock's own check (the last item), if it failed. own reports that
// a condition of the caller's own failed. again reports that there is nothing worse than conflicts and throttling,
// which are worth a retry.
func cancellation(e *types.TransactionCanceledException) (check *types.CancellationReason, own, again bool) {
	again = len(e.CancellationReasons) > 0
	for i, r := range e.CancellationReasons {
		code := ""
		if r.Code != nil {
			code = *r.Code
		}
		switch code {
		case "", "None", "TransactionConflict", "ProvisionedThroughputExceeded", "ThrottlingError":
		case "ConditionalCheckFailed":
			if i == len(e.CancellationReasons)-1 {
				return &e.CancellationReasons[i], false, false
			}
			own, again = true, false
		default:
			again = false
		}
	}
	return nil, own, again
}
