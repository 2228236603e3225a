package engine

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"time"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
)

// idempotent is a transaction that has committed under a client request token.
type idempotent struct {
	request [sha256.Size]byte
	at      time.Time
}

// tokenLife is how long a token is remembered.
const tokenLife = 10 * time.Minute

const maxTransactItems = 100

type transactItem struct {
	placeholders
	TableName                           *string
	Item                                wireItem
	Key                                 wireItem
	ConditionExpression                 *string
	UpdateExpression                    *string
	ReturnValuesOnConditionCheckFailure string
}

type transactWriteInput struct {
	TransactItems []struct {
		ConditionCheck, Put, Update, Delete *transactItem
	}
	ClientRequestToken          string
	ReturnConsumedCapacity      string
	ReturnItemCollectionMetrics string
}

func (in *transactWriteInput) prepare(c *Call) (func(*tx) (any, error), error) {
	switch {
	case in.TransactItems == nil:
		return nil, validation("Value null at 'transactItems' failed to satisfy constraint: Member must not be null")
	case len(in.TransactItems) == 0:
		return nil, validation("Value [] at 'transactItems' failed to satisfy constraint: Member must have length greater than or equal to 1")
	case len(in.TransactItems) > maxTransactItems:
		return nil, validation("Member must have length less than or equal to 100")
	case len(in.ClientRequestToken) > 36:
		return nil, validation("Value %s at 'clientRequestToken' failed to satisfy constraint: Member must have length less than or equal to 36", in.ClientRequestToken)
	}
	writes := make([]*write, len(in.TransactItems))
	for i, it := range in.TransactItems {
		w, err := transactWrite(i, it.ConditionCheck, it.Put, it.Update, it.Delete)
		if err != nil {
			return nil, err
		}
		writes[i] = w
		c.Targets = append(c.Targets, Target{w.table, w.key})
	}
	request, _ := json.Marshal(in.TransactItems)
	digest := sha256.Sum256(request)
	return func(t *tx) (any, error) { return in.run(t, writes, digest) }, nil
}

func transactWrite(i int, chk, p, u, d *transactItem) (*write, error) {
	var it *transactItem
	w := &write{}
	for v, given := range map[verb]*transactItem{check: chk, put: p, update: u, remove: d} {
		if given == nil {
			continue
		}
		if it != nil {
			return nil, validation("TransactItems can only contain one of Check, Put, Update or Delete")
		}
		it, w.verb = given, v
	}
	if it == nil {
		return nil, validation("Invalid Request: TransactWriteRequest should contain Delete or Put or Update request")
	}
	if err := checkTableName(it.TableName); err != nil {
		return nil, err
	}
	if w.verb == check && it.ConditionExpression == nil {
		return nil, validation("Value null at 'transactItems.%d.member.conditionCheck.conditionExpression' failed to satisfy constraint: Member must not be null", i+1)
	}
	raw := it.Key
	if w.verb == put {
		raw = it.Item
	}
	var err error
	if w.parsed, err = it.parse(texts{condition: it.ConditionExpression, update: it.UpdateExpression}); err != nil {
		return nil, err
	}
	if w.key, err = attr.WireItem(raw); err != nil {
		return nil, err
	}
	if err := checkStored(w.key); err != nil {
		return nil, err
	}
	w.table = *it.TableName
	w.oldOnFail = it.ReturnValuesOnConditionCheckFailure == "ALL_OLD"
	return w, nil
}

type transactOutput struct {
	ConsumedCapacity []*consumed `json:",omitempty"`
}

func (in *transactWriteInput) run(t *tx, writes []*write, digest [sha256.Size]byte) (any, error) {
	if replayed, err := t.replay(in.ClientRequestToken, digest); replayed || err != nil {
		return transactOutput{}, err
	}
	changes := make([]change, len(writes))
	reasons := make([]Reason, len(writes))
	refused := false
	var cost perTable
	seen := map[string]bool{}
	for i, w := range writes {
		change, err := w.plan(t)
		reasons[i].Code = "None"
		if err != nil {
			reason, fatal := cancellation(err)
			if fatal {
				return nil, err
			}
			reasons[i], refused = reason, true
		}
		changes[i] = change
		if change.table != nil {
			id := change.table.name + "\x00" + string(change.key.AppendJSON(nil))
			if seen[id] {
				return nil, validation("Transaction request cannot include multiple operations on one item")
			}
			seen[id] = true
			cost.add(change.table.name, 2*change.units())
		}
	}
	t.write += cost.total()
	if refused {
		return nil, canceled(reasons)
	}
	for i, c := range changes {
		if writes[i].verb != check {
			t.commit(c)
		}
	}
	if in.ClientRequestToken != "" {
		t.engine.tokens[in.ClientRequestToken] = idempotent{digest, t.now}
	}
	return transactOutput{cost.reports(in.ReturnConsumedCapacity)}, nil
}

// cancellation is the reason that an item's error becomes; fatal errors refuse the whole request instead.
func cancellation(err error) (reason Reason, fatal bool) {
	e := asError(err)
	switch e.Code {
	case "ConditionalCheckFailedException":
		return Reason{"ConditionalCheckFailed", e.Message, e.Item}, false
	case "ValidationException":
		return Reason{"ValidationError", e.Message, nil}, false
	}
	return Reason{}, true
}

// replay tells whether the token's transaction has been committed already.
func (t *tx) replay(token string, digest [sha256.Size]byte) (bool, error) {
	for token, done := range t.engine.tokens {
		if t.now.Sub(done.at) > tokenLife {
			delete(t.engine.tokens, token)
		}
	}
	done, ok := t.engine.tokens[token]
	if ok && done.request != digest {
		return false, serviceError("IdempotentParameterMismatchException", "")
	}
	return ok, nil
}

// Conflict is the refusal of a transaction whose items, where conflicts is true, another transaction is writing.
func Conflict(conflicts []bool) *Error {
	reasons := make([]Reason, len(conflicts))
	for i, conflict := range conflicts {
		if reasons[i].Code = "None"; conflict {
			reasons[i] = Reason{Code: "TransactionConflict", Message: "Transaction is ongoing for the item"}
		}
	}
	return canceled(reasons)
}

func canceled(reasons []Reason) *Error {
	codes := make([]string, len(reasons))
	for i, r := range reasons {
		codes[i] = r.Code
	}
	return &Error{
		Status: 400, Code: "TransactionCanceledException", Reasons: reasons,
		Message: "Transaction cancelled, please refer cancellation reasons for specific reasons [" + strings.Join(codes, ", ") + "]",
	}
}
