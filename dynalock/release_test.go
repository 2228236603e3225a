package dynalock_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
)

func TestAReleaseAfterTheLeaseIsOneAttemptAndTellsOfTheLoss(t *testing.T) {
	for name, o := range outages {
		virtually(t, name, func(e *env) {
			c, wire := e.client()
			l := e.acquire(c, "key")
			remove := wire.Inject(o.fault)
			<-l.Done()
			time.Sleep(lease)
			sent, began := wire.Count(), time.Now()
			err := l.Release(e.ctx)
			wantErr(e, err, dynalock.ErrLost)
			wantErr(e, err, dynalock.ErrStore)
			check(e, !strings.Contains(err.Error(), "\n"), "its text has lines: %v", err)
			check(e, wire.Count() == sent+1, "%d requests", wire.Count()-sent)
			check(e, time.Since(began) <= lease/5, "it took %v", time.Since(began)) // an attempt
			remove()
			must(e, l.Release(e.ctx))
			check(e, text(e.item("key")["isReleased"]) == "1", "not released")
		})
	}
}

func TestAReleaseAfterALossIsRepeatedUntilTheLeaseIsOver(t *testing.T) {
	for name, o := range outages {
		if name == "a refusal" { // this is final
			continue
		}
		virtually(t, name, func(e *env) {
			c, wire := e.client()
			l := e.acquire(c, "key")
			wire.Inject(o.fault)
			<-l.Done()
			sent, began := wire.Count(), time.Now()
			err := l.Release(e.ctx)
			wantErr(e, err, dynalock.ErrLost)
			wantErr(e, err, dynalock.ErrStore)
			took := time.Since(began) // the margin and the attempt that is under way then
			check(e, took >= lease/5-50*time.Millisecond && took <= lease*2/5+50*time.Millisecond, "it took %v", took)
			check(e, name == "silence" || wire.Count()-sent > 3, "%d requests", wire.Count()-sent)
		})
	}
}

func TestAReleaseAfterALossWhoseContextEndsTellsOfBoth(t *testing.T) {
	virtual(t, func(e *env) {
		c, wire := e.client()
		l := e.acquire(c, "key")
		wire.Inject(outages["silence"].fault)
		<-l.Done()
		err := l.Release(e.within(lease / 20))
		wantErr(e, err, dynalock.ErrLost)
		wantErr(e, err, context.DeadlineExceeded)
	})
}

func TestWhatEndsLongAfterItsLockWasLostDoesNotWaitForItsRelease(t *testing.T) {
	for name, g := range guarded {
		virtually(t, name, func(e *env) {
			c, wire := e.client()
			began := make(chan struct{})
			over := make(chan error, 1)
			ctx, cancel := context.WithCancel(e.ctx)
			go func() {
				over <- g.call(ctx, c, func(context.Context, *dynalock.Lock) error {
					close(began)
					time.Sleep(3 * lease)
					cancel()
					return nil
				})
			}()
			<-began
			wire.Inject(outages["a reset"].fault)
			<-ctx.Done()
			ended := time.Now()
			err := <-over
			check(e, errors.Is(err, dynalock.ErrLost) || name == "Election.Run", "error is %v", err)
			check(e, time.Since(ended) <= lease/5, "it ended %v later", time.Since(ended))
			ended = time.Now()
			must(e, c.Close(e.within(lease)))
			check(e, time.Since(ended) <= lease/5, "Close took %v", time.Since(ended))
		})
	}
}

func TestALossIsToldOnceAndInOneLineWhateverTheFunctionReturns(t *testing.T) {
	for name, g := range guarded {
		for how, result := range map[string]func(ctx context.Context) error{
			"the cause": context.Cause,
			"wrapping":  func(ctx context.Context) error { return fmt.Errorf("work: %w", context.Cause(ctx)) },
			"the end":   func(ctx context.Context) error { return ctx.Err() },
			"its own":   func(context.Context) error { return errors.New("two\nlines") },
			"nothing":   func(context.Context) error { return nil },
		} {
			if name == "Election.Run" { // which goes on
				continue
			}
			virtually(t, name+" returns "+how, func(e *env) {
				c, wire := e.client()
				err := g.call(e.ctx, c, func(ctx context.Context, _ *dynalock.Lock) error {
					crash(wire)
					<-ctx.Done()
					return result(ctx)
				})
				wantErr(e, err, dynalock.ErrLost)
				text := err.Error()
				check(e, strings.Count(text, dynalock.ErrLost.Error()) == 1 && !strings.Contains(text, "\n"), "it says: %s", text)
			})
		}
	}
}

func TestARunThatIsToldToStopSaysSoInOneLine(t *testing.T) {
	virtual(t, func(e *env) {
		c, _ := e.client()
		ctx, cancel := context.WithCancel(e.ctx)
		_, err := c.Once(ctx, "job", "1", func(ctx context.Context, _ *dynalock.Lock) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		})
		wantErr(e, err, dynalock.ErrNotDone)
		wantErr(e, err, context.Canceled)
		check(e, !strings.Contains(err.Error(), "\n"), "it says: %v", err)
	})
}

func TestARunThatLostItsLockIsNotDoneUnlessItsEndWasRecorded(t *testing.T) {
	for name, tt := range map[string]struct {
		taken, answers bool // by another process; DynamoDB answers again when the function returns
		result         error
		open, finished bool
	}{
		"taken over":               {taken: true, answers: true, open: true},
		"taken over, and failed":   {taken: true, answers: true, result: errors.New("no"), open: true},
		"recorded for all that":    {answers: true, finished: true},
		"given back with an error": {answers: true, result: errors.New("no"), open: true},
		"not known":                {},
	} {
		virtually(t, name, func(e *env) {
			c, wire := e.client()
			other, _ := e.client()
			run, err := c.Once(e.ctx, "job", "1", func(ctx context.Context, _ *dynalock.Lock) error {
				remove := wire.Inject(outages["a reset"].fault)
				<-ctx.Done()
				if tt.taken {
					_, err := other.Once(e.ctx, "job", "1", func(context.Context, *dynalock.Lock) error { return dynalock.ErrNotDone })
					wantErr(e, err, dynalock.ErrNotDone)
				}
				if tt.answers {
					remove()
				}
				return tt.result
			})
			wantErr(e, err, dynalock.ErrLost)
			check(e, errors.Is(err, dynalock.ErrNotDone) == tt.open && run.FinishedAt.IsZero() != tt.finished, "%+v, %v", run, err)
			if !tt.answers {
				return
			}
			ran := false
			_, err = other.Once(e.ctx, "job", "1", func(context.Context, *dynalock.Lock) error { ran = true; return nil })
			must(e, err)
			check(e, ran == tt.open, "it runs again: %v", ran)
		})
	}
}
