package dynalock

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
)

// ErrPanicked is matched by a *PanicError.
var ErrPanicked = errors.New("dynalock: function panicked")

// PanicError is the error when the caller's own code panicked: its function under [Client.Once], or the DynamoDB
// implementation, Observer, Logger or Health that it gave to the client. It matches [ErrPanicked].
//
//   - If a call waits for that code, the panic goes on in the goroutine of the call, with its value. So does a
//     [runtime.Goexit]. [Client.Once] returns a PanicError instead.
//   - If no call waits for it (in a heartbeat, for example), the panic is recovered, and the lock is lost. The Reason
//     of its [*LostError] is the PanicError. The lock is not released, because its holder may be at work: others can
//     take it when the lease has expired.
//   - [Client.Close] joins the PanicErrors of releases into its error.
//
// A panic that is recovered in a goroutine of the client is logged at level error, with its stack.
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

// protect turns a panic of f into an error.
func protect(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

// protect is protect for the caller's own code in a goroutine of ours. It logs the panic, because no call may hear of
// it.
func (t *tasks) protect(f func() error) (crash *PanicError, err error) {
	err = protect(f)
	if p, ok := err.(*PanicError); ok { //nolint:errorlint // exactly what protect returned
		t.report(p)
		return p, err
	}
	return nil, err
}

// shelter makes a function of f that does not end the process when the caller's own code panics in it, and that does
// not end silently when that code calls runtime.Goexit. Then failed, which may be nil, is called.
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

// report logs a panic, unless the logger panics, too.
func (t *tasks) report(p *PanicError) {
	_ = protect(func() error {
		t.logger.Error("panic recovered", "panic", fmt.Sprint(p.Value), "stack", string(p.Stack))
		return nil
	})
}

// raise lets a panic go on in the goroutine of the call that waited for it.
func (e *PanicError) raise() {
	switch {
	case e == nil:
	case e.Value == any(errExited):
		runtime.Goexit()
	default:
		panic(e.Value)
	}
}
