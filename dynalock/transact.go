package dynalock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/heartbeat"
)

// maxTransactItems is DynamoDB's limit for one transaction.
const maxTransactItems = 100

// tokenLife is how long a transaction in doubt is repeated: DynamoDB knows a client token for 10 minutes, and would
// apply the transaction once more after that.
const tokenLife = 9 * time.Minute

// ConditionCheck goes into the caller's own TransactWriteItems: the transaction commits only if this tenure still
// holds the lock, decided by DynamoDB at the instant of the commit, with no clock involved (what Chubby calls
// checking a sequencer). It costs two write units. The items must be in the table's account and Region.
func (l *Lock) ConditionCheck() types.TransactWriteItem {
	w := &write{cond: condTenure + condToken, values: item{":id": str(l.id + "-"), ":token": num(l.token)}}
	names, values := w.placeholders(l.c.opt.PartitionKey, l.c.opt.SortKey)
	return types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{
		TableName: &l.c.table, Key: l.c.keyOf(l.key), ConditionExpression: &w.cond,
		ExpressionAttributeNames: names, ExpressionAttributeValues: values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}}
}

// Transact writes items, at most 99, in one transaction that commits only if this tenure still holds the lock.
// Conflicts (with this lock's own heartbeat, for one), throttling and lost answers are repeated under one client
// token until ctx ends or the lock is lost, and after a lost answer for 9 minutes at most, since DynamoDB knows the
// token for 10: so a transaction is applied once. A lost lock is a [*LostError] (ErrLost) and nothing was written; a
// failed condition of the caller's own items is the SDK's TransactionCanceledException inside an ErrStore, and
// nothing was written either. Other errors match ErrInvalid, ErrReleased, ErrStore or ctx.Err(); with the last two,
// the lock still held or not, it may have been applied.
func (l *Lock) Transact(ctx context.Context, items ...types.TransactWriteItem) error {
	if n := len(items); n == 0 || n >= maxTransactItems {
		return invalid([]error{fmt.Errorf("items has %d entries, allowed: 1 to %d", n, maxTransactItems-1)})
	}
	token := newID()
	in := &dynamodb.TransactWriteItemsInput{
		TransactItems:      append(slices.Clone(items), l.ConditionCheck()),
		ClientRequestToken: &token,
	}
	doubt, over := false, false
	var until time.Duration
	var first heartbeat.Reading // when it was sent for the first time
	for n := 1; ; n++ {
		if err := l.Err(); err != nil && !doubt {
			return err
		}
		if n == 1 {
			first = l.c.opt.clock.Now()
		}
		a := l.c.heed(ctx, nil, func(ctx context.Context) answer { return l.c.transact(ctx, l.timing.attempt, in) })
		if a.verdict == applied {
			return nil
		}
		var cancelled *types.TransactionCanceledException
		switch {
		case errors.As(a.err, &cancelled):
			check, again := cancellation(cancelled)
			if check != nil {
				if err := l.Err(); errors.Is(err, ErrReleased) { // by its holder, while this was under way
					return err
				}
				return l.lose(check.Item)
			}
			if !again {
				return l.c.storeError("transact", l.key, a.err)
			}
		case a.verdict == fatal:
			return l.c.storeError("transact", l.key, a.err)
		case a.verdict == inDoubt:
			doubt = true
			l.c.emit(l.ctx, Event{Kind: EventInDoubt, Op: "transact", Key: l.key, Token: l.token, Attempt: n, Err: a.err})
		}
		if age, _ := l.c.opt.clock.Now().Since(first); doubt && age >= tokenLife {
			return l.c.storeError("transact", l.key, a.err)
		}
		var err error
		if doubt && l.Err() != nil {
			// It may have been applied while the lock was held. Asking again under the same client token is harmless
			// (the check still decides) and the only way to know; for one more lease.
			if !over {
				over, until = true, l.c.now()+l.timing.lease
			}
			if l.c.now() >= until {
				return l.c.storeError("transact", l.key, a.err)
			}
			err = l.c.sleep(ctx, backoff(n))
		} else {
			err = l.pause(ctx, n)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", err, l.c.storeError("transact", l.key, a.err))
		}
	}
}

// cancellation reads the reasons: the lock's own check (the last item) refused, or nothing worse than conflicts and
// throttling, which are worth another attempt.
func cancellation(e *types.TransactionCanceledException) (check *types.CancellationReason, again bool) {
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
				return &e.CancellationReasons[i], false
			}
			again = false
		default:
			again = false
		}
	}
	return nil, again
}

// pause waits before attempt n+1 of an operation of the holder; the end of ctx is an error, a loss is not: the
// caller looks at Err.
func (l *Lock) pause(ctx context.Context, n int) error {
	t := l.c.opt.clock.NewTimer(backoff(n))
	defer t.Stop()
	select {
	case <-t.C():
	case <-l.Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
