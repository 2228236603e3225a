package engine

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"time"
)

const maxTransactItems = 100

var (
	errNoTransactItems      = validation("Value null at 'transactItems' failed to satisfy constraint: Member must not be null")
	errTooManyTransactItems = validation("Member must have length less than or equal to %d", maxTransactItems)
	errSameItem             = validation("Transaction request cannot include multiple operations on one item")
)

type transactWriteInput struct {
	TransactItems          []transactItem
	ClientRequestToken     string
	ReturnConsumedCapacity string
}

type transactItem struct {
	ConditionCheck, Put, Update, Delete *transactWrite
}

type transactWrite struct {
	placeholders
	TableName                           *string
	Item                                wireItem
	Key                                 wireItem
	ConditionExpression                 *string
	UpdateExpression                    *string
	ReturnValuesOnConditionCheckFailure string
}

type transactOutput struct {
	ConsumedCapacity []*consumed `json:",omitempty"`
}

// action gives the one thing that a transaction does to an item, and its name in errors.
func (it transactItem) action() (w *transactWrite, v verb, name string, err error) {
	for _, a := range []struct {
		write *transactWrite
		verb  verb
		name  string
	}{{it.ConditionCheck, check, "conditionCheck"}, {it.Put, put, "put"}, {it.Update, update, "update"}, {it.Delete, remove, "delete"}} {
		if a.write == nil {
			continue
		}
		if w != nil {
			return nil, 0, "", validation("TransactItems can only contain one of Check, Put, Update or Delete")
		}
		w, v, name = a.write, a.verb, a.name
	}
	if w == nil {
		err = validation("Invalid Request: TransactWriteRequest should contain Delete or Put or Update request")
	}
	return w, v, name, err
}

func (w *transactWrite) raw(v verb) wireItem {
	if v == put {
		return w.Item
	}
	return w.Key
}

func (in *transactWriteInput) targets(e *Engine) (list []Target) {
	for _, it := range in.TransactItems {
		if w, v, _, err := it.action(); err == nil {
			list = append(list, e.target(w.TableName, w.raw(v)))
		}
	}
	return list
}

func (in *transactWriteInput) plan(e *Engine) (func(*tx) (any, error), error) {
	switch {
	case in.TransactItems == nil:
		return nil, errNoTransactItems
	case len(in.TransactItems) == 0:
		return nil, validation("Value [] at 'transactItems' failed to satisfy constraint: Member must have length greater than or equal to 1")
	case len(in.TransactItems) > maxTransactItems:
		return nil, errTooManyTransactItems
	case len(in.ClientRequestToken) > 36:
		return nil, validation("Value %s at 'clientRequestToken' failed to satisfy constraint: Member must have length less than or equal to 36", in.ClientRequestToken)
	}
	for i, it := range in.TransactItems {
		if err := it.complete(i + 1); err != nil {
			return nil, err
		}
	}
	writes := make([]*write, len(in.TransactItems))
	refusals := make(reasons, len(in.TransactItems))
	seen := map[string]bool{}
	same := false
	for i, it := range in.TransactItems {
		w, err := it.plan(e)
		if err != nil {
			if err := refusals.note(i, err); err != nil {
				return nil, err
			}
		}
		writes[i] = w
		id := w.table.id(w.key)
		same = same || seen[id]
		seen[id] = true
	}
	request, _ := json.Marshal(in.TransactItems) // plain data always marshals
	digest := sha256.Sum256(request)
	return func(t *tx) (any, error) { return in.run(t, writes, refusals, same, digest) }, nil
}

// complete refuses an action that lacks a part.
func (it transactItem) complete(number int) error {
	w, v, name, err := it.action()
	if err != nil {
		return err
	}
	field := ""
	switch {
	case w.TableName == nil:
		field = "tableName"
	case w.raw(v) == nil && v == put:
		field = "item"
	case w.raw(v) == nil:
		field = "key"
	case v == check && w.ConditionExpression == nil:
		field = "conditionExpression"
	case v == update && w.UpdateExpression == nil && len(w.ExpressionAttributeValues)+len(w.ExpressionAttributeNames) > 0:
		field = "updateExpression"
	}
	if field == "" {
		return nil
	}
	return validation("Value null at 'transactItems.%d.member.%s.%s' failed to satisfy constraint: Member must not be null", number, name, field)
}

// plan checks one action. With an error about the key the write is given, too.
func (it transactItem) plan(e *Engine) (*write, error) {
	in, v, _, err := it.action()
	if err != nil {
		return nil, err
	}
	w := &write{verb: v, oldOnFail: in.ReturnValuesOnConditionCheckFailure == "ALL_OLD"}
	if w.table, err = e.table(in.TableName); err != nil {
		return nil, err
	}
	t := texts{condition: in.ConditionExpression, update: in.UpdateExpression, users: conditionUser}
	if err := in.needed(t); err != nil {
		return nil, err
	}
	keyErr := w.setItem(in.raw(v))
	if keyErr != nil && !cancels(keyErr) {
		return nil, keyErr
	}
	if w.parsed, err = in.parse(t); err != nil {
		return nil, err
	}
	if w.parsed.update != nil && keyErr == nil {
		if err := w.checkKeyStays(); err != nil {
			return nil, canceled(reasons{{Code: "ValidationError", Message: err.Error()}})
		}
	}
	return w, keyErr
}

// reasons are the cancellation reasons of a transaction's items, in their order.
type reasons []Reason

// cancels tells the errors that the service reports as the reason of one item.
func cancels(err error) bool {
	return err == errKeyType || err == errKeyLength || asError(err).Code == codeConditionFailed
}

// note makes err the reason of item i, or gives it back if it refuses the whole request.
func (r reasons) note(i int, err error) error {
	if !cancels(err) {
		return err
	}
	e := asError(err)
	if r[i] = (Reason{"ValidationError", e.Message, nil}); e.Code == codeConditionFailed {
		r[i] = Reason{"ConditionalCheckFailed", e.Message, e.Item}
	}
	return nil
}

// refused tells whether there is any reason, and fills in those that have none.
func (r reasons) refused() bool {
	refused := false
	for i := range r {
		if r[i].Code == "" {
			r[i].Code = "None"
		}
		refused = refused || r[i].Code != "None"
	}
	return refused
}

func (in *transactWriteInput) run(t *tx, writes []*write, planned reasons, same bool, digest [sha256.Size]byte) (any, error) {
	if committed, ok := t.engine.tokens.find(in.ClientRequestToken, t.now); ok {
		return in.replay(t, writes, committed, digest)
	}
	changes := make([]change, len(writes))
	refusals := slices.Clone(planned)
	var cost perTable
	failed := false
	for i, w := range writes {
		if planned[i].Code != "" {
			continue
		}
		c, err := w.evaluate(t)
		if err != nil {
			if err := refusals.note(i, err); err != nil {
				return nil, err
			}
			failed = true
		}
		changes[i] = c
		cost.add(w.table.name, 2*c.units())
	}
	if same && !failed {
		return nil, errSameItem
	}
	t.write += cost.total()
	if refusals.refused() {
		return nil, canceled(refusals)
	}
	for i, c := range changes {
		if writes[i].verb != check {
			t.commit(c)
		}
	}
	t.engine.tokens.add(in.ClientRequestToken, digest, t.now)
	return transactOutput{cost.reports(in.ReturnConsumedCapacity)}, nil
}

// replay answers a transaction that has been committed under its token. It costs the reading of its items.
func (in *transactWriteInput) replay(t *tx, writes []*write, committed, digest [sha256.Size]byte) (any, error) {
	if committed != digest {
		return nil, serviceError("IdempotentParameterMismatchException", "")
	}
	var cost perTable
	for _, w := range writes {
		cost.add(w.table.name, 2*readUnits(w.table.get(w.key).Size(), true))
	}
	t.read += cost.total()
	return transactOutput{cost.reports(in.ReturnConsumedCapacity)}, nil
}

// tokenLife is how long a client request token is remembered.
const tokenLife = 10 * time.Minute

// tokens remembers the transactions that were committed under a client request token.
type tokens struct {
	known map[string][sha256.Size]byte
	order []issuedToken // oldest first
}

type issuedToken struct {
	token string
	at    time.Time
}

func (ts *tokens) find(token string, now time.Time) (digest [sha256.Size]byte, ok bool) {
	for len(ts.order) > 0 && now.Sub(ts.order[0].at) >= tokenLife {
		delete(ts.known, ts.order[0].token)
		ts.order = ts.order[1:]
	}
	digest, ok = ts.known[token]
	return digest, ok
}

func (ts *tokens) add(token string, digest [sha256.Size]byte, now time.Time) {
	if token == "" {
		return
	}
	if ts.known == nil {
		ts.known = map[string][sha256.Size]byte{}
	}
	ts.known[token] = digest
	ts.order = append(ts.order, issuedToken{token, now})
}
