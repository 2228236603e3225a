package dynalock

import (
	"context"
	"fmt"
	"iter"

	"github.com/dynalock/dynalock/heartbeat"
)

// Get reads one record, strongly consistent: one read unit. A key that was never locked is Record{State: Free}, an
// item that is no lock is Record{State: Foreign}; neither is an error. Errors match ErrInvalid, ErrStore or ctx.Err().
func (c *Client) Get(ctx context.Context, key string) (Record, error) {
	if err := invalid(c.checkKey(key)); err != nil {
		return Record{}, err
	}
	a := c.store.look(ctx, key, true)
	if a.err != nil {
		return Record{}, c.store.storeError("get", key, a.err)
	}
	return decode(key, a.item), nil
}

// Records yields every record of the table, or of the namespace where the client has one, page by page: a scan of
// the whole table, strongly consistent. It ends after the first error, which matches ErrStore or ctx.Err().
func (c *Client) Records(ctx context.Context) iter.Seq2[Record, error] { return c.store.scan(ctx, "") }

// ForceRelease frees exactly the tenure seen in r, whoever holds it: for operators, after they made sure that the
// holder is dead or may be overruled. A live holder learns of it at its next heartbeat at the latest, one of this
// client at once, and its guarded writes ([Lock.ConditionCheck]) are refused from now on.
//
// The condition is the tenure, not the version, which a live holder bumps with every heartbeat; for a row of
// another library, which has no acquisition id, it is the owner and the version. Where the lock has changed hands
// or was released since, the error matches [ErrChanged]; a foreign item is [ErrForeign], a record that shows no
// tenure [ErrInvalid]. Other errors match ErrStore or ctx.Err(): then the lock may have been freed, or be freed yet.
func (c *Client) ForceRelease(ctx context.Context, r Record) error {
	switch {
	case r.State == Foreign:
		return &ForeignError{Key: r.Key, Problem: r.Problem}
	case r.State != Held || r.Version == "":
		return invalid([]error{fmt.Errorf("record of %q is %v, allowed: held, as Get or Records gave it", r.Key, r.State)})
	}
	if err := invalid(c.checkKey(r.Key)); err != nil {
		return err
	}
	id := newID()
	w := &write{update: updRelease + setBy, values: item{
		":next": str(versionOf(id, 1)), ":by": str(c.opt.Owner),
		":now": num(c.store.service.stamp(r.Key, c.opt.clock.Now().Wall, r.stamp()+1)),
	}}
	if seen := r.id(); seen != "" {
		w.cond, w.values[":id"] = condTenure, str(seen+"-")
	} else {
		w.cond = condForeignTenure + condSameOwner
		if r.Owner == "" {
			w.cond = condForeignTenure + condNoOwner
		}
		w.values[":seenOwner"], w.values[":seen0"] = str(r.Owner), str(r.Version)
	}
	if !lasting(&r) {
		c.store.retain(w, 0)
	}
	w.update += updReleaseRemove
	err := c.store.persist(ctx, func() (bool, error) {
		a := c.store.ask(ctx, r.Key, w)
		switch a.verdict {
		case applied:
			return true, nil
		case refused:
			now := decode(r.Key, a.item)
			if now.id() == id { // an attempt whose answer was lost
				return true, nil
			}
			if now.State == Held {
				return true, fmt.Errorf("%w: %q is held by %q", ErrChanged, r.Key, now.Owner)
			}
			return true, fmt.Errorf("%w: %q is %v", ErrChanged, r.Key, now.State)
		}
		return a.verdict == fatal, c.store.storeError("force release", r.Key, a.err)
	})
	if err == nil {
		if own := c.roster.tenure(r.id()); own != nil { // local waiters need not wait for its heartbeat, or its deadline
			_ = own.revoke(fmt.Errorf("%w: it was freed by an operator", heartbeat.ErrGone), nil)
		}
		c.opt.Logger.WarnContext(ctx, "lock freed by an operator", "key", r.Key, "owner", c.opt.Owner, "heldBy", r.Owner,
			"heldByToken", r.Token)
	}
	return err
}
