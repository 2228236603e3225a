package dynalock

import (
	"context"
	"fmt"
	"iter"

	"github.com/dynalock/dynalock/heartbeat"
)

// Get reads one record, strongly consistent: one read unit for each 4 KB of the item. A key that was never locked is a
// Record with State Free, and an item that is not a lock has State Foreign. Neither is an error. Errors match
// ErrInvalid, ErrStore or ctx.Err().
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

// Records yields every record of the table, page by page, or of the namespace if the client has one. It scans the whole
// table, strongly consistent. It ends after the first error, which matches ErrStore or ctx.Err().
func (c *Client) Records(ctx context.Context) iter.Seq2[Record, error] { return c.store.scan(ctx, "") }

// ForceRelease frees exactly the tenure that r shows. It is for operators, after they made sure that the holder is dead
// or may be overruled. A live holder learns of it at its next heartbeat at the latest, a holder in this client at once.
// The holder's guarded writes ([Lock.ConditionCheck]) are rejected from now on.
//
// The condition is the tenure, not the version, which a live holder changes with every heartbeat. For a row of another
// library, which has no acquisition id, the condition is the owner and the version.
//
// nil means that the lock was freed. Errors match
//
//   - [ErrChanged], if the lock has changed hands or was released since r was read;
//   - [ErrForeign], if r is that of a foreign item;
//   - [ErrInvalid], if r shows no tenure;
//   - ErrStore or ctx.Err(): then the lock may have been freed, or be freed later.
func (c *Client) ForceRelease(ctx context.Context, r Record) error {
	switch {
	case r.State == Foreign:
		return &ForeignError{Key: r.Key, Problem: r.Problem}
	case r.State != Held || r.Version == "":
		return invalid([]error{fmt.Errorf("record of %q is %v, allowed: held, as Get or Records returned it", r.Key, r.State)})
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
		if own := c.roster.tenure(r.id()); own != nil { // local waiters need not wait for its heartbeat or deadline
			_ = own.revoke(fmt.Errorf("%w: it was freed by an operator", heartbeat.ErrGone), nil)
		}
		c.opt.Logger.WarnContext(ctx, "lock freed by an operator", "key", r.Key, "owner", c.opt.Owner, "heldBy", r.Owner,
			"heldByToken", r.Token)
	}
	return err
}
