package dynalock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Close stops the client:
//
//   - Calls that wait return [ErrClosed].
//   - The functions of [Client.Do], [Client.Once] and [Election.Run] are told to stop (the cause of their contexts is
//     ErrClosed), and Close waits for them. The locks of a function (its own, and those that it acquired with its
//     context) are kept until it has returned, and then released.
//   - Every lock that is held is released, even if the release of others fails. A lock whose release failed before is
//     retried, unless its lease has expired.
//   - Every goroutine of the client is joined.
//
// nil means that all of this is done. The error joins what was not done before ctx ended, the first ten and a count: a
// lock that was not released, and a function that has not returned. Such a lock is not renewed any more, and ends with
// its lease. A second Close waits for the first, and its error is ctx.Err() if ctx ends first.
//
// A function that calls Close itself has to pass a context derived from its own. Then Close does not wait for that
// function, nor for those in which it was called, and releases their locks at once. With any other context Close waits
// for the very function that waits for it, until that context ends. If another Close is under way and waits for the
// function, the call does nothing, and returns ErrClosed.
//
// An [Observer] must not call Close.
func (c *Client) Close(ctx context.Context) error {
	inside := c.tasks.dutyOf(ctx)
	duties, leave, awaited, first := c.tasks.beginClosing(inside)
	if !first {
		if awaited {
			return fmt.Errorf("%w: another Close is under way and waits for the function that calls this one", ErrClosed)
		}
		select {
		case <-c.isClosed:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer leave()
	tried := map[*Lock]bool{}
	held, _ := c.roster.apart(tried)

	for _, d := range duties {
		d.cancel(ErrClosed)
	}
	// even if ctx was over before, the releases are sent, and a healthy store has time to answer
	late, done := linger(ctx, closeGrace*3/4)
	defer done()
	errs := c.releaseAll(late, held)
	for _, d := range duties {
		select {
		case <-d.over:
			continue
		default:
		}
		select {
		case <-d.over:
		case <-late.Done():
			if d.left() {
				errs = append(errs, c.store.storeError("release", d.key, context.Cause(late)))
				continue
			}
			errs = append(errs, fmt.Errorf("dynalock: the function that holds %q has not returned: its lock ends with its lease",
				d.key))
		}
	}
	rest, left := c.roster.apart(tried)
	for _, l := range left { // if it were released while its function runs, another tenure could begin meanwhile
		_ = l.revoke(ErrClosed, nil)
	}
	err := few(append(errs, c.releaseAll(late, rest)...))
	c.tasks.exit()
	go func() { // ends when everything is joined; requests obey their contexts
		<-c.tasks.idle
		c.sched.Close()
		c.tasks.stop(ErrClosed)
		close(c.isClosed)
	}()
	select {
	case <-c.isClosed:
		return err
	case <-late.Done():
	}
	c.tasks.stop(ErrClosed) // what is still under way gives up now
	grace := time.NewTimer(closeGrace / 4)
	defer grace.Stop()
	select {
	case <-c.isClosed:
		return join(err, ctx.Err())
	case <-grace.C:
	}
	if c.tasks.busy() {
		err = join(err, errors.New("dynalock: requests that ignore their context are still under way"))
	}
	return join(err, ctx.Err())
}

// maxTold is how many errors of locks and functions Close reports one by one.
const maxTold = 10

// few joins errors, of many the first few and how many more there are.
func few(errs []error) error {
	if more := len(errs) - maxTold; more > 0 {
		errs = append(errs[:maxTold:maxTold],
			fmt.Errorf("dynalock: and %d more locks that were not released, or functions that have not returned", more))
	}
	return join(errs...)
}

// closeGrace is how long after the end of its context a call waits for a request that it has just cancelled, or whose
// answer is about to come.
const closeGrace = 40 * time.Millisecond

// linger makes a context that ends d after ctx does.
func linger(ctx context.Context, d time.Duration) (context.Context, func()) {
	late, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(d, func() { cancel(ctx.Err()) }) })
	return late, func() {
		stop()
		cancel(nil)
	}
}

// releaseAll releases many locks, a bounded number at a time, until ctx ends.
func (c *Client) releaseAll(ctx context.Context, held []*Lock) []error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
		next = make(chan *Lock)
	)
	for range min(len(held), 64) {
		wg.Go(func() {
			for l := range next {
				err := context.Cause(ctx)
				if err == nil {
					r := l.startRelease()
					select {
					case <-r.done:
						err = l.outcome(r.err)
					case <-ctx.Done():
						err = c.store.storeError("release", l.key, context.Cause(ctx))
					}
				} else { // no time is left: it is not renewed any more either
					l.end(ErrReleased)
					l.lease.End(ErrReleased)
					err = c.store.storeError("release", l.key, err)
					l.emit(l.ctx, Event{Kind: EventReleased, Err: err})
				}
				if err != nil && !errors.Is(err, ErrLost) {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, l := range held {
		next <- l
	}
	close(next)
	wg.Wait()
	return errs
}
