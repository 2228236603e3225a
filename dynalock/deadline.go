package dynalock

import (
	"context"
	"fmt"
	"time"
)

// LeaseUntilDeadline is the static lease ([AcquireOptions].NoHeartbeat) of a lock that is taken now and is to be
// trusted until ctx's deadline, for example that of a Lambda invocation. It is 5/4 of the time that is left, since with
// the default SafetyMargin a lock is trusted for 4/5 of its lease. The error matches ErrInvalid if ctx has no deadline,
// or if the time that is left is too short (less than 80 ms) or too long (more than 19.2 h) for a lease.
func LeaseUntilDeadline(ctx context.Context) (time.Duration, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0, invalid([]error{fmt.Errorf("ctx has no deadline, allowed: one that is %v to %v away", minLease*4/5,
			maxLease*4/5)})
	}
	left := time.Until(deadline)
	lease := wholeMillis(left + left/4)
	if lease < minLease || lease > maxLease {
		return 0, invalid([]error{fmt.Errorf("ctx's deadline is %v away, allowed: %v to %v", left, minLease*4/5,
			maxLease*4/5)})
	}
	return lease, nil
}

// BeforeDeadline makes a context for the work under such a lock. It ends before ctx's deadline, by a tenth of the time
// that is left, at most by a second, so that the lock can still be released. If ctx has no deadline, it ends with ctx.
func BeforeDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(time.Until(deadline)/10, time.Second)))
}
