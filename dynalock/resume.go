package dynalock

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dynalock/dynalock/heartbeat"
)

// handle is what Lock.Handle carries to another process.
type handle struct {
	V       int    `json:"v"` // format
	Key     string `json:"k"` // with its namespace
	ID      string `json:"i"` // acquisition id
	Token   uint64 `json:"t"`
	Lease   int64  `json:"l"` // milliseconds
	Dialect int    `json:"d,omitempty"`
	Delete  bool   `json:"r,omitempty"` // DeleteOnRelease
	Made    int64  `json:"m,omitempty"` // stamp that what replaces this tenure must not be before
	Table   string `json:"n,omitempty"` // name or ARN; absent in handles of older versions, and with it the two below
	Sort    string `json:"s,omitempty"` // the sort value
	Run     bool   `json:"o,omitempty"` // of a period, see Client.Once
}

const handleFormat = 1

// Handle names this tenure for [Client.Resume] in another process, for instance a later step of a workflow. It is
// opaque, holds no secret but the names of the key and the table, and stays valid while this tenure holds the lock,
// released or not noticed lost as it may be here: Resume finds out.
func (l *Lock) Handle() string {
	b, err := json.Marshal(handle{
		V: handleFormat, Key: l.c.opt.Namespace + l.key, ID: l.id(), Token: l.token, Lease: l.timing.lease.Milliseconds(),
		Dialect: int(l.dialect),
		Delete:  l.options.DeleteOnRelease, Made: l.made, Table: l.c.store.table, Sort: l.c.opt.SortValue,
		Run: !l.kind.portable(),
	})
	if err != nil { // strings and numbers always encode
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// parseHandle reads what anybody may have written.
func parseHandle(s string) (handle, error) {
	var h handle
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	id, _ := splitVersion(h.ID + "-0")
	lease := time.Duration(min(max(h.Lease, 0), maxLease.Milliseconds()+1)) * time.Millisecond
	if err != nil || h.V != handleFormat || h.Made < 0 || h.Made > maxStamp || id == "" || h.Key == "" ||
		lease < minLease || lease > maxLease ||
		h.Dialect != int(DialectAWSLabs) && h.Dialect != int(DialectDynamolock) {
		return handle{}, invalid([]error{errors.New("handle cannot be read, allowed: a text that Lock.Handle gave")})
	}
	return h, nil
}

// Resume goes on with the lock that handle names: one conditional write that makes a tenure of this client out of
// it, with a new fencing token, on condition that the old one still holds the lock. The payload stays. The old copy
// becomes inert: every further write of it is refused, guarded ones at once, and it learns of that with its next
// heartbeat; a copy in this very client is ended before Resume returns. Elsewhere it should not act any more once
// its handle was passed on, since its Held ends only then, or at its deadline.
//
// The client has to be of the handle's table, sort value and namespace; anything else is ErrInvalid and names both.
// Tables are compared by name, and by account where both are ARNs. The Region is not compared: the replicas of a
// strongly consistent global table are one table. So a handle of a table of the same name elsewhere shows only by the
// item, which is not there. The handle of a run of a period ([Client.Once]) is ErrInvalid, too: only Once can record
// its end. To go on in another process, let the function release the lock, and call Once for the period there.
//
// A lock that was released, taken over or deleted in the meantime is a [*LostError] (ErrLost). The lease is that of
// the handle unless given. Other errors match ErrStore, ErrClosed or ctx.Err().
func (c *Client) Resume(ctx context.Context, handle string, optFns ...func(*AcquireOptions)) (*Lock, error) {
	h, err := parseHandle(handle)
	if err != nil {
		return nil, err
	}
	key, ours := strings.CutPrefix(h.Key, c.opt.Namespace)
	if err := invalid(h.misfits(c, ours)); err != nil {
		return nil, err
	}
	h.Key = key
	defaults := func(o *AcquireOptions) {
		o.Lease, o.DeleteOnRelease = time.Duration(h.Lease)*time.Millisecond, h.Delete
	}
	a, err := c.newAcquisition(ctx, h.Key, continued{id: h.ID, token: h.Token},
		append([]func(*AcquireOptions){defaults}, optFns...))
	if err != nil {
		return nil, err
	}
	defer c.tasks.exit()
	defer a.unwind()
	a.row = row{dialect: Dialect(h.Dialect), stamp: h.Made} // not a take-over
	return a.conclude(a.drive(ctx, a.resuming(h.ID)))
}

// misfits says why this client cannot go on with a handle.
func (h *handle) misfits(c *Client, namespace bool) []error {
	var errs []error
	if h.Table != "" && !sameTable(h.Table, c.store.table) {
		errs = append(errs, fmt.Errorf("handle is of table %q, allowed: one of the client's table %q", h.Table,
			c.store.table))
	}
	if h.Table != "" && h.Sort != c.opt.SortValue {
		errs = append(errs, fmt.Errorf("handle is of sort value %q, allowed: one of the client's SortValue %q", h.Sort,
			c.opt.SortValue))
	}
	if !namespace {
		errs = append(errs, fmt.Errorf("handle is of key %q, allowed: one of the namespace %q", h.Key, c.opt.Namespace))
	}
	if h.Run {
		errs = append(errs, fmt.Errorf("handle is of the run of a period (key %q), allowed: that of a lock; "+
			"call Once for the period instead", h.Key))
	}
	return errs
}

// continued is the kind of a tenure that goes on in another process: only its own row gives it.
type continued struct {
	plain
	id    string // of the tenure so far
	token uint64
}

func (k continued) claim(w *write, _, _ string) {
	w.cond = condTenure + condToken
	w.values[":id"], w.values[":token"] = str(k.id+"-"), num(k.token)
}

// resuming is the manner of Resume: a refusal says that the tenure with this acquisition id is over.
func (a *acquisition) resuming(id string) *manner {
	m := a.impatient("resume", "resuming")
	m.won = func(l *Lock) {
		if old := a.c.roster.tenure(id); old != nil {
			_ = old.revoke(fmt.Errorf("%w: it was resumed", heartbeat.ErrGone), l.record())
		}
	}
	m.judge = func(got *answer) (step, time.Duration) {
		now := decode(a.key, got.item)
		lost := &LostError{Key: a.key, By: &now, Reason: fmt.Errorf("%w: its tenure is over", heartbeat.ErrGone)}
		if len(got.item) == 0 {
			lost.By, lost.Reason = nil,
				fmt.Errorf("%w: table %q of this client has no such item: it was deleted, or the handle "+
					"is of a table of this name in another account or Region, or at another endpoint", heartbeat.ErrGone,
					a.c.store.table)
		}
		a.lastErr = lost
		return stepFail, 0
	}
	return m
}
