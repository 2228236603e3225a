package dynalock_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go"

	"github.com/dynalock/dynalock/dynalock"
)

// isLine tells whether a text moves nothing but the end of one line of a terminal.
func isLine(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// hostile clears a terminal, writes a line of its own, and turns the direction of writing.
const hostile = "\x1b[2J\nerror: all is well\u202e\u009b31m\t"

func TestWhatStrangersWroteReachesNoErrorTextAsItIs(t *testing.T) {
	onServer(t, func(e *env) {
		c, _ := e.client(func(o *dynalock.Options) { o.Owner = hostile })
		stranger, _ := e.client(func(o *dynalock.Options) { o.Owner = hostile })
		l := e.acquire(stranger, "held"+hostile, func(o *dynalock.AcquireOptions) { o.Reason = hostile })
		row := goRow(hostile, hostile)
		maps.Copy(row, attributes{"stampedVersion": s(hostile), "reason": s(hostile), "fencingToken": s(hostile)})
		e.put("foreign", maps.Clone(row))
		delete(row, "fencingToken")
		e.put("held", row)
		seen, err := c.Get(e.ctx, "held")
		must(e, err)
		seen.Version += hostile
		resumed, err := c.Resume(e.ctx, l.Handle())
		must(e, err)
		job := "job" + hostile
		must(e, stranger.Pause(e.ctx, job, hostile))
		run := func(job string, optFns ...func(*dynalock.OnceOptions)) error {
			_, err := c.Once(e.ctx, job, "period"+hostile, func(context.Context, *dynalock.Lock) error { return nil }, optFns...)
			return err
		}
		atLeast := func(o *dynalock.OnceOptions) { o.AtLeast = time.Hour }
		must(e, run("spaced", atLeast))
		_, tooSoon := c.Once(e.ctx, "spaced", "next", func(context.Context, *dynalock.Lock) error { return nil }, atLeast)
		_, held := c.TryAcquire(e.ctx, "held")
		_, own := stranger.TryAcquire(e.ctx, resumed.Key())
		_, waited := c.Acquire(e.within(100*time.Millisecond), "held")
		_, foreign := c.TryAcquire(e.ctx, "foreign")
		_, panicked := c.Once(e.ctx, "panic", "period", func(context.Context, *dynalock.Lock) error { panic(hostile) })
		answered := e.through(
			&wrapped{update: func(func() (*dynamodb.UpdateItemOutput, error)) (*dynamodb.UpdateItemOutput, error) {
				return nil, &smithy.GenericAPIError{Code: "ValidationException", Message: hostile}
			}})
		_, store := answered.TryAcquire(e.ctx, "key")
		for want, err := range map[error]error{
			dynalock.ErrHeld: held, errors.Join(dynalock.ErrHeld): own, context.DeadlineExceeded: waited,
			dynalock.ErrForeign: foreign,
			dynalock.ErrPaused:  run(job), dynalock.ErrTooSoon: tooSoon, dynalock.ErrPanicked: panicked,
			dynalock.ErrStore: store,
			dynalock.ErrLost:  l.Renew(e.ctx), dynalock.ErrChanged: c.ForceRelease(e.ctx, seen),
			dynalock.ErrInvalid: run("job", func(o *dynalock.OnceOptions) { o.Reason = "\xff" }),
		} {
			if j, ok := want.(interface{ Unwrap() []error }); ok {
				want = j.Unwrap()[0]
			}
			wantErr(e, err, want)
			check(e, isLine(err.Error()), "the text is %q", err)
		}
	})
}

func TestWhatIsNotPrintableIsEscapedAsInGo(t *testing.T) {
	t.Parallel()
	said := (&dynalock.ForeignError{Problem: "ünï\ufffd\xff\n\x1b\u202e"}).Error()
	check(t, strings.HasSuffix(said, "ünï\ufffd"+`\xff\n\x1b\u202e`), "it says %q", said)
}

// FuzzErrorTextsAreOneLine fills the errors with what anybody may have written.
func FuzzErrorTextsAreOneLine(f *testing.F) {
	for _, s := range []string{"", "plain", hostile, "ünïcode 日本", "\xff\xfe", "\u2028", "\U000e0001", `a "quoted" \x1b`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := dynalock.Record{Key: s, Owner: s, Version: s, Reason: s, Problem: s, State: dynalock.Held}
		_, bad := dynalock.New(nil, s,
			func(o *dynalock.Options) { o.PartitionKey, o.SortKey, o.Owner, o.Namespace = s, s, s, s })
		for _, err := range []error{
			&dynalock.HeldError{Record: r, ThisProcess: true}, &dynalock.LostError{Key: s, Reason: errors.New(s), By: &r},
			&dynalock.ForeignError{Key: s, Problem: s},
			&dynalock.StoreError{Op: s, Table: s, Key: s, Hint: s, Err: errors.New(s)}, &dynalock.PanicError{Value: s},
			&dynalock.NestedError{Key: s, Where: s}, bad,
			&dynalock.RunError{Run: dynalock.Run{Job: s, Period: s, By: s, Err: s}},
		} {
			check(t, isLine(err.Error()), "%T says %q", err, err)
		}
		finding := dynalock.Finding{Problem: s, Remedy: s}.String()
		check(t, isLine(finding), "a finding says %q", finding)
		if said := (&dynalock.ForeignError{Problem: s}).Error(); isLine(s) {
			check(t, strings.HasSuffix(said, ": "+s), "%q became %q, though it was a line", s, said)
		}
	})
}
