package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/aws/smithy-go"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/heartbeat"
)

// The exit codes. Those of our own lie in the range that sysexits.h uses, and just above it, which few programs that
// are guarded by "run" use themselves; where the meaning is the same so is the number.
const (
	exitOK            = 0
	exitOther         = 1
	exitUsage         = 64 // EX_USAGE
	exitForeign       = 65 // EX_DATAERR
	exitNothing       = 66 // EX_NOINPUT
	exitStore         = 69 // EX_UNAVAILABLE
	exitHeld          = 75 // EX_TEMPFAIL
	exitLost          = 76
	exitChanged       = 77
	exitUnfit         = 78 // EX_CONFIG
	exitFailed        = 79
	exitPaused        = 80
	exitTooSoon       = 81
	exitExpired       = 82
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128 // and the number of the signal
)

const exitCodes = `Exit codes:
  0        done
  1        any other error, for example a question that was answered with no
  64       usage: an unknown flag, a bad value, a missing argument
  65       the item under the key is not a lock
  66       nothing there: the key was never locked (release), the period never begun (rerun), or there is no leader
           (leader --exit-code)
  69       DynamoDB could not be reached, or refused the request for another reason than the state of the lock
  75       held: another process holds the lock, or runs the period (run, once: see --held-exit-code; get: see
           --exit-code)
  76       lost: the lock was lost while the command ran
  77       changed: the lock or run has changed since it was shown, or another candidate leads
  78       the table does not fit
  79       once: the period's run failed elsewhere, or was begun as often as allowed and never finished
  80       once: the job is paused
  81       once: the job's last start is too recent (--at-least)
  82       held or led, but the lease has expired (get --exit-code, leader --exit-code)
  126      run, once, elect: the command cannot be executed
  127      run, once, elect: the command was not found
  128+n    ended by signal n; run, once, elect: the command, or the wait for the lock
  others   run, once, elect: the command's own`

// exitError is an error with an exit code of its own. Without err it ends the program silently.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// exitCode gives the code of an error. What is said about the lock goes before what is said about the store, and
// both before the end of a context.
func exitCode(err error) int {
	var exit *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return exit.code
	case errors.Is(err, dynalock.ErrInvalid):
		return exitUsage
	case errors.Is(err, dynalock.ErrForeign):
		return exitForeign
	case errors.Is(err, dynalock.ErrHeld):
		return exitHeld
	case errors.Is(err, dynalock.ErrLost):
		return exitLost
	case errors.Is(err, dynalock.ErrChanged):
		return exitChanged
	case errors.Is(err, dynalock.ErrExhausted), errors.Is(err, dynalock.ErrRunFailed):
		return exitFailed
	case errors.Is(err, dynalock.ErrPaused):
		return exitPaused
	case errors.Is(err, dynalock.ErrTooSoon):
		return exitTooSoon
	case errors.Is(err, dynalock.ErrStore), errors.Is(err, context.DeadlineExceeded):
		return exitStore
	}
	return exitOther
}

// message is the one line that is said about an error.
func message(err error) string {
	var held *dynalock.HeldError
	var lost *dynalock.LostError
	var store *dynalock.StoreError
	switch {
	case errors.As(err, &held):
		return clean(heldMessage(held.Record, time.Now()))
	case errors.As(err, &lost):
		return clean(oneLine(lostMessage(lost)))
	case errors.As(err, &store):
		return clean(oneLine(storeMessage(store)))
	}
	return clean(strings.ReplaceAll(oneLine(err.Error()), "dynalock: ", ""))
}

// oneLine joins the lines of a text.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\t' }), " ")
}

// heldMessage tells who holds a lock, since when and why.
func heldMessage(r dynalock.Record, now time.Time) string {
	if r.Owner == "" && r.Version == "" {
		return fmt.Sprintf("%q is held", r.Key)
	}
	text := fmt.Sprintf("%q is held by %q", r.Key, r.Owner)
	if !r.AcquiredAt.IsZero() {
		text += " since " + absolute(r.AcquiredAt, now)
	}
	if r.Reason != "" {
		text += fmt.Sprintf(", reason %q", r.Reason)
	}
	if expired(r, now) {
		text += fmt.Sprintf("; its lease ran out %s, so its holder may be dead: wait for its lease of %v to take it over, or see --max-clock-skew",
			relative(r.ExpiresAt, now), r.Lease)
	}
	return text
}

// lostMessage tells why a lock was lost, and to whom.
func lostMessage(e *dynalock.LostError) string {
	text := fmt.Sprintf("lost %q: ", e.Key)
	var store *dynalock.StoreError
	switch {
	case errors.Is(e.Reason, heartbeat.ErrLimit):
		text += "it was held for as long as --max-hold allows"
	case errors.Is(e.Reason, heartbeat.ErrDeadline) && errors.As(e.Reason, &store):
		text += "no heartbeat was acknowledged in time: " + cause(store.Err)
	case errors.Is(e.Reason, heartbeat.ErrDeadline):
		text += "no heartbeat was acknowledged in time"
	case e.By != nil && e.By.ReleasedBy != "":
		text += fmt.Sprintf("it was freed by %q", e.By.ReleasedBy)
	default:
		text += strings.TrimPrefix(e.Reason.Error(), heartbeat.ErrGone.Error()+": ")
	}
	if e.By != nil && e.By.State == dynalock.Held {
		text += fmt.Sprintf("; now held by %q", e.By.Owner)
	}
	return text
}

// storeMessage says what failed, what to do about it, and the part of the SDK's error that says why.
func storeMessage(e *dynalock.StoreError) string {
	text := e.Op
	if e.Key != "" {
		text += fmt.Sprintf(" %q", e.Key)
	}
	text += fmt.Sprintf(" on table %q: ", e.Table)
	if e.Hint != "" {
		text += e.Hint + ": "
	}
	return text + cause(e.Err)
}

// cause takes the wrapping of the SDK off an error where it adds nothing.
func cause(err error) string {
	var api smithy.APIError
	var network *net.OpError
	var stranger *strangerError
	switch {
	case errors.As(err, &stranger):
		return stranger.Error()
	case errors.As(err, &api):
		return api.ErrorCode() + ": " + api.ErrorMessage()
	case errors.As(err, &network):
		return network.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled): // an attempt's time is over
		return "no answer in time"
	}
	return err.Error()
}

// interrupted says that a signal ended what was under way.
type interrupted struct{ signal syscall.Signal }

func (e interrupted) Error() string { return "ended by signal: " + e.signal.String() }
