//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package main

import (
	"context"
	"os"
	"strconv"

	"github.com/dynalock/dynalock/dynalock"
)

// nested refuses to wait for the lock under which this process runs, which would take forever. The environment alone
// proves nothing: it may have outlived the lock.
func (r *guarded) nested(ctx context.Context, c *dynalock.Client, key string) error {
	token, err := strconv.ParseUint(os.Getenv("DYNALOCK_TOKEN"), 10, 64)
	if err != nil || os.Getenv("DYNALOCK_KEY") != key || !r.forever && r.wait == 0 {
		return nil
	}
	held, err := untilSignal(ctx, r.signals, func(ctx context.Context) (dynalock.Record, error) {
		return r.a.look(ctx, c, key)
	})
	if err == nil && held.State == dynalock.Held && held.Token == token {
		return usagef("%q is held by the dynalock-admin that this one runs under (token %d): it would wait for itself", key,
			token)
	}
	return err
}
