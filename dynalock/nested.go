package dynalock

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
)

// ErrNested is matched by a [*NestedError].
var ErrNested = errors.New("dynalock: the caller holds the lock itself")

// NestedError says that a call would wait for a lock that its caller holds. The context of the call is that of the
// lock's holder ([Lock.Context], or the context that [Client.Do], [Client.Once] or [Election.Run] gave to its
// function), or is derived from it. The call would wait for itself forever, so it is refused at once, and nothing is
// sent. The error matches [ErrNested]. It does not match [ErrHeld], because no other caller holds the lock, and a retry
// does not help.
//
// A goroutine that is to take the lock after its present tenure needs a context that is not derived from that of the
// holder.
type NestedError struct {
	Key   string
	Token uint64 // of the tenure that the caller holds
	Where string // the call that began it: function, file and line
}

// Error says which lock it is, and where it was acquired.
func (e *NestedError) Error() string {
	s := fmt.Sprintf("%v: %q with token %d", ErrNested, e.Key, e.Token)
	if e.Where != "" {
		s += ", since " + printable(e.Where)
	}
	return s
}

// Is matches ErrNested.
func (*NestedError) Is(target error) bool { return target == ErrNested }

// nest is what the context of a holder carries: its lock, and the locks in whose functions that one was acquired.
type nest struct {
	lock *Lock
	up   *nest
}

type nestKey struct{}

func nestOf(ctx context.Context) *nest {
	n, _ := ctx.Value(nestKey{}).(*nest)
	return n
}

// within makes the context of the holder of l.
func (l *Lock) within(ctx context.Context) context.Context {
	return context.WithValue(ctx, nestKey{}, &nest{lock: l, up: nestOf(ctx)})
}

// nested refuses to wait for a key that the caller holds.
func (c *Client) nested(ctx context.Context, key string) error {
	for n := nestOf(ctx); n != nil; n = n.up {
		if l := n.lock; l.c == c && l.key == key && l.Err() == nil {
			return &NestedError{Key: key, Token: l.token, Where: l.site.String()}
		}
	}
	return nil
}

// site is where a call of this package was made.
type site [8]uintptr

// callSite is the site of the exported function that is under way.
func callSite() *site {
	var s site
	runtime.Callers(2, s[:])
	return &s
}

// String names the innermost function outside of this package, with its file and line; it is empty if none is known.
func (s *site) String() string {
	if s == nil {
		return ""
	}
	frames := runtime.CallersFrames(s[:])
	for {
		f, more := frames.Next()
		if f.Function != "" && !strings.HasPrefix(f.Function, thisPackage) {
			return fmt.Sprintf("%s (%s:%d)", f.Function, f.File, f.Line)
		}
		if !more {
			return ""
		}
	}
}

const thisPackage = "github.com/dynalock/dynalock/dynalock."
