package dynalock

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
)

// ErrPanicked is matched by a *PanicError.
var ErrPanicked = errors.New("dynalock: function panicked")

// PanicError is what code of the caller that panicked gives: its function under [Client.Once], or the DynamoDB
// implementation, Observer, Logger or Health that it gave to the client. It matches [ErrPanicked].
//
// Where a call waits for that code, the panic goes on in the goroutine of the call, with its value, and so does a
// [runtime.Goexit]. Where no call does, as in a heartbeat, the panic is recovered, and the lock is lost: the Reason of
// its [*LostError] is the PanicError. The lock is not released then, because its holder may be at work: others get it
// when the lease has run out. [Client.Close] joins the PanicErrors of releases into its error. Each panic is logged at
// level error with its stack.
type PanicError struct {
	Value any
	Stack []byte
}

// Error shows the value.
func (e *PanicError) Error() string {
	return fmt.Sprintf("%v: %s", ErrPanicked, printable(fmt.Sprint(e.Value)))
}

// Is matches ErrPanicked.
func (*PanicError) Is(target error) bool { return target == ErrPanicked }

// errExited is the result, or the value of the PanicError, of a function that ended its goroutine, as testing's FailNow
// does.
var errExited = errors.New("dynalock: function called runtime.Goexit")

// protect makes an error of a panic.
func protect(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

// protect is protect for code of the caller in a goroutine of ours, which may be all that the panic is told to.
func (t *tasks) protect(f func() error) (crash *PanicError, err error) {
	err = protect(f)
	if p, ok := err.(*PanicError); ok { //nolint:errorlint // exactly what protect returned
		t.report(p)
		return p, err
	}
	return nil, err
}

// shelter makes of f a function that does not end the process when code of the caller panics in it, and does not end in
// silence when that code leaves by runtime.Goexit. Then failed, which may be nil, is called.
func (t *tasks) shelter(f func(), failed func(p *PanicError)) func() {
	return func() {
		returned := false
		defer func() {
			if returned {
				return
			}
			p := &PanicError{Value: recover(), Stack: debug.Stack()}
			if p.Value == nil {
				p.Value = errExited
			}
			if failed != nil {
				defer failed(p)
			}
			t.report(p)
		}()
		f()
		returned = true
	}
}

// report logs a panic, unless it is the logger that panics.
func (t *tasks) report(p *PanicError) {
	_ = protect(func() error {
		t.logger.Error("panic recovered", "panic", fmt.Sprint(p.Value), "stack", string(p.Stack))
		return nil
	})
}

// raise has a panic go on in the goroutine of the call that waited for it.
func (e *PanicError) raise() {
	switch {
	case e == nil:
	case e.Value == any(errExited):
		runtime.Goexit()
	default:
		panic(e.Value)
	}
}
