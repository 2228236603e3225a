package dynalock

import (
	"context"
	"fmt"
	"time"
)

// LeaseUntilDeadline is the static lease ([AcquireOptions].NoHeartbeat) of a lock that is taken now and is to be
// trusted until ctx's deadline, such as that of a Lambda invocation: 5/4 of the time that is left, since a lock is
// trusted for 4/5 of its lease with the default SafetyMargin. Where ctx has no deadline, or too little or too much is
// left for a lease, the error matches ErrInvalid.
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

// BeforeDeadline is a context for the work under such a lock. It ends a tenth of the time that is left, at most a
// second, before ctx's deadline, so that the lock can still be given back. Without a deadline it ends with ctx.
func BeforeDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(time.Until(deadline)/10, time.Second)))
}
