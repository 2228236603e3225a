package dynalock

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What can become of a call, matched with [errors.Is]. The text of an error of this package is one line, whatever
// others have stored in the table or answered: what is not printable in it is escaped. The fields of the error types
// are as they were found.
var (
	// by somebody else; the error is a *HeldError
	ErrHeld = errors.New("dynalock: lock is held")
	// the tenure is over without a release; the error is a *LostError
	ErrLost     = errors.New("dynalock: lock was lost")
	ErrReleased = errors.New("dynalock: lock was released")                     // by its holder
	ErrChanged  = errors.New("dynalock: lock is no longer in the tenure shown") // ForceRelease came too late
	ErrClosed   = errors.New("dynalock: client is closed")                      //
	ErrForeign  = errors.New("dynalock: item is not a lock")                    // the error is a *ForeignError
	// nothing was sent; the message names every bad field
	ErrInvalid = errors.New("dynalock: invalid input")
	ErrStore   = errors.New("dynalock: DynamoDB did not carry out the request") // the error is a *StoreError
)

// HeldError says that somebody else holds the lock. It matches [ErrHeld].
type HeldError struct {
	Record Record // the tenure in the way
	// RetryAfter is when another look is worth its price; at the latest when a dead holder's lease has run out. Of a
	// static lease (NoHeartbeat): what is left of it, and after that of MaxClockSkew.
	RetryAfter  time.Duration
	ThisProcess bool // the tenure is one of this very client, in another goroutine
}

// Error tells who holds the lock, since when and why.
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

// Error tells why the lock was lost and to whom.
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

// ForeignError says that the item under the key is not a lock. It matches [ErrForeign]. Such an item is never
// taken and never overwritten; an operator removes it.
type ForeignError struct {
	Key     string
	Problem string // what is wrong with it
}

// Error tells what is wrong with the item.
func (e *ForeignError) Error() string {
	return fmt.Sprintf("%v: %q: %s", ErrForeign, e.Key, printable(e.Problem))
}

// Is matches ErrForeign.
func (*ForeignError) Is(target error) bool { return target == ErrForeign }

// StoreError says that DynamoDB could not be asked, or refused for another reason than the state of the lock. It
// matches [ErrStore] and the SDK's error.
type StoreError struct {
	Op    string // acquire, release, ...
	Table string
	Key   string // empty for operations on the table
	Hint  string // what to do about it, where the cause is known
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

// several are errors that are told together, in one line.
type several []error

func (e several) Error() string {
	texts := make([]string, len(e))
	for i, err := range e {
		texts[i] = printable(err.Error())
	}
	return strings.Join(texts, "; ")
}

func (e several) Unwrap() []error { return e }

// join is errors.Join for one line of text. What an earlier error says is not said again, such as the loss of a lock by
// the function that it was told to. A single error is left as it is.
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

// says tells whether an error contains another one.
func says(err, other error) bool {
	if lost, ok := other.(*LostError); ok { //nolint:errorlint // exactly this one
		was, ok := errors.AsType[*LostError](err)
		return ok && was.Key == lost.Key && was.Error() == lost.Error()
	}
	return errors.Is(err, other)
}

// invalidError is what bad input gives: every problem, and ErrInvalid.
type invalidError struct{ problems error }

func (e *invalidError) Error() string {
	return fmt.Sprintf("%v: %s", ErrInvalid, printable(strings.ReplaceAll(e.problems.Error(), "\n", "; ")))
}
func (*invalidError) Is(target error) bool { return target == ErrInvalid }
func (e *invalidError) Unwrap() error      { return e.problems }
