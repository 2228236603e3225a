package dynalock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
)

// updateInput makes the request of a write that updates the item.
func (s *store) updateInput(key string, w *write) *dynamodb.UpdateItemInput {
	names, values := w.placeholders(s.opt.PartitionKey, s.opt.SortKey)
	return &dynamodb.UpdateItemInput{
		TableName:                           &s.table,
		Key:                                 s.keyOf(key),
		ConditionExpression:                 &w.cond,
		UpdateExpression:                    &w.update,
		ExpressionAttributeNames:            names,
		ExpressionAttributeValues:           values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
}

// keyOf makes the primary key of a lock.
func (s *store) keyOf(key string) item {
	k := item{s.opt.PartitionKey: str(s.opt.Namespace + key)}
	if s.opt.SortKey != "" {
		k[s.opt.SortKey] = str(s.opt.SortValue)
	}
	return k
}

// patience bounds a request that keeps no lock.
func (s *store) patience() time.Duration { return max(10*time.Second, s.opt.AttemptTimeout) }

// look reads an item for a caller. A read that fails is retried, at most twice and within the patience.
func (s *store) look(ctx context.Context, key string, consistent bool) (a answer) {
	patient, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	_ = retry(s.tasks.sleeping(patient), func(n int) bool {
		a = s.tasks.heed(patient, nil,
			func(ctx context.Context) answer { return s.read(ctx, s.patience(), key, consistent) })
		if a.verdict == applied || a.verdict == fatal || n == 3 {
			return true
		}
		s.failed(patient, n, s.storeError("read", key, a.err))
		return false
	})
	return a // says more than the end of ctx
}

// ask makes one attempt of an update for a caller.
func (s *store) ask(ctx context.Context, key string, w *write) answer {
	in := s.updateInput(key, w)
	return s.tasks.heed(ctx, nil, func(ctx context.Context) answer { return s.update(ctx, s.patience(), in) })
}

// retain gives a released item its TTL: keep, or else the client's retention, if it has one.
func (s *store) retain(w *write, keep time.Duration) {
	if keep = cmp.Or(keep, s.opt.Retention); keep > 0 {
		w.update += setTTL
		w.values[":ttl"] = num(s.ttl(keep))
	}
}

// ttl is the time from which DynamoDB may delete an item that is to stay for keep, in unix seconds of its own clock.
func (s *store) ttl(keep time.Duration) int64 {
	return s.service.millis(s.opt.clock.Now().Wall)/1000 + int64(keep/time.Second)
}

// failed reports a failed attempt, which is retried unless ctx has ended.
func (s *store) failed(ctx context.Context, n int, err error) {
	var e *StoreError
	if errors.As(err, &e) && ctx.Err() == nil && verdictOf(e.Err) != refused {
		s.retrying(ctx, Event{Kind: EventRetry, Op: e.Op, Key: e.Key, Attempt: n, Err: e})
	}
}

// persist retries an operation until it is done, ctx ends, or it was tried five times.
func (s *store) persist(ctx context.Context, op func() (done bool, err error)) error {
	var err error
	stopped := retry(s.tasks.sleeping(ctx), func(n int) (done bool) {
		if done, err = op(); done || n == 5 {
			return true
		}
		s.failed(ctx, n, err)
		return false
	})
	if stopped != nil {
		return fmt.Errorf("%w: %w", stopped, err)
	}
	return err
}

// scan yields the records whose key begins with prefix.
func (s *store) scan(ctx context.Context, prefix string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		in := s.scanInput(prefix)
		for {
			var out *dynamodb.ScanOutput
			a := s.tasks.heed(ctx, nil, func(ctx context.Context) (a answer) {
				if out, a.err = s.db.Scan(ctx, in); a.err == nil && isStranger(out.ResultMetadata) {
					a.err = errStranger
				} else if a.err == nil {
					s.known.serves(opScan)
				}
				return a
			})
			if a.err != nil {
				yield(Record{}, s.storeError("list", "", a.err))
				return
			}
			for _, it := range out.Items {
				p := parser{it: it}
				key := p.str(s.opt.PartitionKey)
				if !yield(decode(strings.TrimPrefix(key, s.opt.Namespace), it), nil) {
					return
				}
			}
			if len(out.LastEvaluatedKey) == 0 {
				return
			}
			in.ExclusiveStartKey = out.LastEvaluatedKey
		}
	}
}

// scanInput asks for the items of this client's namespace and sort value.
func (s *store) scanInput(prefix string) *dynamodb.ScanInput {
	consistent := true
	in := &dynamodb.ScanInput{TableName: &s.table, ConsistentRead: &consistent}
	prefix = s.opt.Namespace + prefix
	var conds []string
	if prefix != "" {
		conds = append(conds, "begins_with(#key, :prefix)")
	}
	if s.opt.SortKey != "" {
		conds = append(conds, "#sort = :sort")
	}
	if len(conds) == 0 {
		return in
	}
	w := write{cond: strings.Join(conds, " AND "), values: item{":prefix": str(prefix), ":sort": str(s.opt.SortValue)}}
	in.FilterExpression = &w.cond
	in.ExpressionAttributeNames, in.ExpressionAttributeValues = w.placeholders(s.opt.PartitionKey, s.opt.SortKey)
	return in
}

// diagnose explains an error that a retry would meet again.
func (s *store) diagnose(ctx context.Context, key string, err error) error {
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() == "ValidationException" {
		// An update of a foreign row can fail for its types before its condition is looked at.
		if look := s.look(ctx, key, true); look.verdict == applied {
			if r := decode(key, look.item); r.State == Foreign {
				return &ForeignError{Key: key, Problem: r.Problem}
			}
		}
	}
	return s.storeError("acquire", key, err)
}
