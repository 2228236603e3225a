package engine

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"time"
)

const maxTransactItems = 100

var (
	errNoTransactItems = validation(
		"Value null at 'transactItems' failed to satisfy constraint: Member must not be null")
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
	}{
		{it.ConditionCheck, check, "conditionCheck"},
		{it.Put, put, "put"},
		{it.Update, update, "update"},
		{it.Delete, remove, "delete"},
	} {
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

func (in *transactWriteInput) plan(*Engine) (func(*tx) (any, error), error) {
	switch {
	case in.TransactItems == nil:
		return nil, errNoTransactItems
	case len(in.TransactItems) == 0:
		return nil, validation(
			"Value [] at 'transactItems' failed to satisfy constraint: Member must have length greater than or equal to 1")
	case len(in.TransactItems) > maxTransactItems:
		return nil, errTooManyTransactItems
	case len(in.ClientRequestToken) > 36:
		return nil, validation(
			"Value %s at 'clientRequestToken' failed to satisfy constraint: Member must have length less than or equal to 36",
			in.ClientRequestToken)
	}
	planned := make([]plannedWrite, len(in.TransactItems))
	for i, it := range in.TransactItems {
		var err error
		if planned[i], err = it.plan(); err != nil {
			return nil, err
		}
	}
	for i, p := range planned {
		if p.in.TableName == nil {
			return nil, p.lacks(i, "tableName")
		}
	}
	request, _ := json.Marshal(in.TransactItems) // plain data always marshals
	digest := sha256.Sum256(request)
	return func(t *tx) (any, error) { return in.run(t, planned, digest) }, nil
}

// plannedWrite is an action whose values and expressions have been read, but whose table is not known yet.
type plannedWrite struct {
	write

	in    *transactWrite
	texts texts
	name  string
}

// plan reads the values and expressions of one action.
func (it transactItem) plan() (p plannedWrite, err error) {
	in, v, name, err := it.action()
	if err != nil {
		return p, err
	}
	p.in, p.name, p.verb, p.oldOnFail = in, name, v, in.ReturnValuesOnConditionCheckFailure == "ALL_OLD"
	p.texts = texts{condition: in.ConditionExpression, update: in.UpdateExpression, users: conditionUser}
	if p.parsed, err = in.parse(p.texts); err != nil {
		return p, err
	}
	return p, p.setItem(in.raw(v))
}

// lacks is the refusal of an action without one of its parts.
func (p plannedWrite) lacks(i int, field string) error {
	return validation("Value null at 'transactItems.%d.member.%s.%s' failed to satisfy constraint: Member must not be null", i+1, p.name, field)
}

// resolve finds the table of action i and checks the action against it.
func (p plannedWrite) resolve(t *tx, i int) (*write, error) {
	name, err := tableArgument(p.in.TableName)
	if err != nil {
		return nil, err
	}
	w := p.write
	if w.table = t.engine.tables[name]; w.table == nil {
		return nil, errNoTable
	}
	if p.verb == update && p.texts.update == nil && p.in.ExpressionAttributeValues != nil {
		return nil, p.lacks(i, "updateExpression")
	}
	if p.verb == check && p.texts.condition == nil {
		return nil, p.lacks(i, "conditionExpression")
	}
	if err := p.in.needed(p.texts); err != nil {
		return nil, err
	}
	if p.in.raw(p.verb) == nil {
		return nil, p.lacks(i, map[bool]string{true: "item", false: "key"}[p.verb == put])
	}
	if err := w.setKey(); err != nil || w.verb == check {
		return &w, err
	}
	return &w, w.table.scalarKey(w.parsed)
}

// reasons are the cancellation reasons of a transaction's items, in their order.
type reasons []Reason

// cancels tells the refusals of a key that the service reports as the reason of one item.
func cancels(err error) bool {
	return errors.Is(err, errKeyType) || errors.Is(err, errKeyLength)
}

// note makes err the reason of item i.
func (r reasons) note(i int, err error) {
	e := asError(err)
	if r[i] = (Reason{"ValidationError", e.Message, nil}); e.Code == codeConditionFailed {
		r[i] = Reason{"ConditionalCheckFailed", e.Message, e.Item}
	}
}

// refused reports whether there is any reason, and fills in those that have none.
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

func (in *transactWriteInput) run(t *tx, planned []plannedWrite, digest [sha256.Size]byte) (any, error) {
	committed, replayed := t.engine.tokens.find(in.ClientRequestToken, t.now)
	if replayed && committed != digest {
		return nil, serviceError("IdempotentParameterMismatchException", "")
	}
	changes := make([]change, len(planned))
	refusals := make(reasons, len(planned))
	seen := map[string]bool{}
	same := false
	for i, p := range planned {
		w, err := p.resolve(t, i)
		if err != nil && !cancels(err) {
			return nil, err
		}
		if err == nil {
			changes[i] = change{write: w}
			if !replayed {
				changes[i], err = w.evaluate(t)
			}
		}
		if err != nil { // an action that is refused anyway does not count as one of several
			refusals.note(i, err)
			continue
		}
		id := w.table.id(w.key)
		same = same || seen[id]
		seen[id] = true
	}
	if replayed {
		return in.replay(t, changes)
	}
	if same {
		return nil, errSameItem
	}
	var cost perTable
	for _, c := range changes {
		if c.write != nil {
			cost.add(c.table.name, 2*c.units())
		}
	}
	t.write += cost.total()
	if refusals.refused() {
		return nil, canceled(refusals)
	}
	for _, c := range changes {
		if c.verb != check {
			t.commit(c)
		}
	}
	t.engine.tokens.add(in.ClientRequestToken, digest, t.now)
	return transactOutput{cost.reports(in.ReturnConsumedCapacity)}, nil
}

// replay answers a transaction that has been committed under its token. It costs the reading of its items.
func (in *transactWriteInput) replay(t *tx, changes []change) (any, error) {
	var cost perTable
	for _, c := range changes {
		if c.write == nil {
			continue // the table has been made anew since, with another key
		}
		cost.add(c.table.name, 2*readUnits(c.table.get(c.key).Size(), true))
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
