package dynalock

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The errors of calls. Match them with [errors.Is]. The text of an error of this package is one line, whatever was
// found in the table or in an answer: what is not printable is escaped. The fields of the error types are as they were
// found.
var (
	// ErrHeld: another tenure holds the lock. The error is a *HeldError.
	ErrHeld = errors.New("dynalock: lock is held")
	// ErrLost: the tenure ended without a release. The error is a *LostError.
	ErrLost = errors.New("dynalock: lock was lost")
	// ErrReleased: the holder has released the lock.
	ErrReleased = errors.New("dynalock: lock was released")
	// ErrChanged: the lock, run or leadership has changed since it was read; see Client.ForceRelease.
	ErrChanged = errors.New("dynalock: lock has changed since it was shown")
	// ErrClosed: Client.Close has begun.
	ErrClosed = errors.New("dynalock: client is closed")
	// ErrForeign: the item under the key is not a lock. The error is a *ForeignError.
	ErrForeign = errors.New("dynalock: item is not a lock")
	// ErrInvalid: the input is invalid, and nothing was sent. The text names every bad field.
	ErrInvalid = errors.New("dynalock: invalid input")
	// ErrStore: DynamoDB did not carry out the request, or did not answer. The error is a *StoreError.
	ErrStore = errors.New("dynalock: DynamoDB did not carry out the request")
)

// HeldError says that another tenure holds the lock. It matches [ErrHeld].
type HeldError struct {
	Record Record // the tenure that holds the lock
	// RetryAfter is how long to wait before the next attempt is worth its price, at most until a dead holder's lease has
	// expired. Of a static lease (NoHeartbeat) it is the time that is left of the lease, and after that of MaxClockSkew.
	RetryAfter  time.Duration
	ThisProcess bool // the tenure is one of this very client, in another goroutine
}

// Error says who holds the lock, since when and why.
func (e *HeldError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: %q by %q", ErrHeld, e.Record.Key, e.Record.Owner)
	if e.ThisProcess {
		b.WriteString(", which is this process,")
	}
	if !e.Record.AcquiredAt.IsZero() {
		fmt.Fprintf(&b, " since %s", e.Record.AcquiredAt.UTC().Format(time.RFC3339))
	}
	if e.Record.Reason != "" {
		fmt.Fprintf(&b, " (%s)", printable(e.Record.Reason))
	}
	return b.String()
}

// Is matches ErrHeld.
func (*HeldError) Is(target error) bool { return target == ErrHeld }

// LostError says that a tenure ended without a release. It matches [ErrLost] and its Reason.
type LostError struct {
	Key    string
	Reason error   // heartbeat.ErrDeadline, heartbeat.ErrLimit, or what DynamoDB said
	By     *Record // the successor or the state of the item, where known
}

// Error says why the lock was lost, and to whom.
func (e *LostError) Error() string {
	s := fmt.Sprintf("%v: %q", ErrLost, e.Key)
	if e.Reason != nil {
		s += ": " + printable(e.Reason.Error())
	}
	if e.By != nil && e.By.State == Held {
		s += fmt.Sprintf("; now held by %q", e.By.Owner)
	} else if e.By != nil && e.By.ReleasedBy != "" {
		s += fmt.Sprintf(" (%q)", e.By.ReleasedBy)
	}
	return s
}

// Is matches ErrLost.
func (*LostError) Is(target error) bool { return target == ErrLost }

// Unwrap gives the reason.
func (e *LostError) Unwrap() error { return e.Reason }

// ForeignError says that the item under the key is not a lock. It matches [ErrForeign]. Such an item is never taken and
// never overwritten. An operator has to remove it.
type ForeignError struct {
	Key     string
	Problem string // what is wrong with it
}

// Error says what is wrong with the item.
func (e *ForeignError) Error() string {
	return fmt.Sprintf("%v: %q: %s", ErrForeign, e.Key, printable(e.Problem))
}

// Is matches ErrForeign.
func (*ForeignError) Is(target error) bool { return target == ErrForeign }

// StoreError says that DynamoDB could not be reached, or refused the request for another reason than the state of the
// lock. It matches [ErrStore] and the SDK's error.
type StoreError struct {
	Op    string // acquire, release, ...
	Table string
	Key   string // empty for operations on the table
	Hint  string // what to do about it, if the cause is known
	Err   error  // the SDK's error
}

// Error names the operation, the cause and the remedy.
func (e *StoreError) Error() string {
	s := "dynalock: " + printable(e.Op)
	if e.Key != "" {
		s += fmt.Sprintf(" %q", e.Key)
	}
	s += fmt.Sprintf(" on table %q", e.Table)
	if e.Hint != "" {
		s += ": " + printable(e.Hint)
	}
	if e.Err != nil {
		s += ": " + printable(e.Err.Error())
	}
	return s
}

// Is matches ErrStore.
func (*StoreError) Is(target error) bool { return target == ErrStore }

// Unwrap gives the SDK's error.
func (e *StoreError) Unwrap() error { return e.Err }

// several are errors that are reported together, in one line.
type several []error

func (e several) Error() string {
	texts := make([]string, len(e))
	for i, err := range e {
		texts[i] = printable(err.Error())
	}
	return strings.Join(texts, "; ")
}

func (e several) Unwrap() []error { return e }

// join is errors.Join for one line of text. What an earlier error says is not said again: the loss of a lock, for
// example, which a function returns after it was told. A single error is left as it is.
func join(errs ...error) error {
	var all several
	for _, err := range errs {
		if err != nil && !slices.ContainsFunc(all, func(before error) bool { return says(before, err) }) {
			all = append(all, err)
		}
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return all
}

// says reports whether an error contains another one.
func says(err, other error) bool {
	if lost, ok := other.(*LostError); ok { //nolint:errorlint // exactly this one
		was, ok := errors.AsType[*LostError](err)
		return ok && was.Key == lost.Key && was.Error() == lost.Error()
	}
	return errors.Is(err, other)
}

// invalidError is the error of bad input: every problem, and ErrInvalid.
type invalidError struct{ problems error }

func (e *invalidError) Error() string {
	return fmt.Sprintf("%v: %s", ErrInvalid, printable(strings.ReplaceAll(e.problems.Error(), "\n", "; ")))
}
func (*invalidError) Is(target error) bool { return target == ErrInvalid }
func (e *invalidError) Unwrap() error      { return e.problems }
