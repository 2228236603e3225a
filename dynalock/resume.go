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
	Made    int64  `json:"m,omitempty"` // a write that replaces this tenure must not be stamped earlier
	Table   string `json:"n,omitempty"` // name or ARN; handles of older versions lack it and the two below
	Sort    string `json:"s,omitempty"` // the sort value
	Run     bool   `json:"o,omitempty"` // the run of a period; see Client.Once
}

const handleFormat = 1

// Handle names this tenure for [Client.Resume] in another process: a later step of a workflow, for example. It is
// opaque, and holds no secret but the names of the key and the table. It is valid while this tenure holds the lock.
// Resume finds out, also if the lock was released or lost here without notice.
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

// parseHandle reads a handle, which any program may have written.
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
		return handle{}, invalid([]error{errors.New("handle cannot be read, allowed: what Lock.Handle has returned")})
	}
	return h, nil
}

// Resume goes on with the lock that handle names. It is one conditional write, which replaces the old tenure by one of
// this client, with a new fencing token, on condition that the old tenure still holds the lock. The payload stays, and
// so does the lease unless an option sets another one.
//
// The old copy of the lock cannot write any more: every write of it is rejected, guarded ones included. It learns of
// that with its next heartbeat. Its Held is true until then, or until its deadline, so a process must not act on it
// after it has passed the handle on. A copy in this very client ends before Resume returns.
//
// The client has to have the handle's table, sort value and namespace. Tables are compared by name, and by account if
// both are ARNs. The Region is not compared, because the replicas of a strongly consistent global table are one table.
// So the handle of a table of the same name elsewhere is noticed only because its item is missing.
//
// nil means that the new tenure holds the lock. Errors match
//
//   - ErrLost (a [*LostError]), if the lock was released, taken over or deleted in the meantime;
//   - ErrInvalid, if the handle cannot be read, if it is of another table, sort value or namespace (the text names
//     both), or if it is that of a run of a period ([Client.Once]). Only Once can record the end of a run: let the
//     function release the lock, and call Once for the period in the other process;
//   - ErrStore, ErrClosed or ctx.Err().
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

// misfits are the reasons why this client cannot go on with a handle.
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

// continued is the kind of a tenure that goes on in another process: only its own row can be taken.
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
