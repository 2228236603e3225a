package heartbeat

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestARenewalThatPanickedCountsAsFailedAndTheLossShowsIt(t *testing.T) {
	inBubble(t, func(w *world) {
		lost := w.add(func(context.Context, Attempt) error { panic("boom") })
		once := w.add(func(_ context.Context, a Attempt) error {
			if a.N == 1 {
				panic("boom")
			}
			return nil
		})
		w.sleepUntil(trust)
		lost.wantLost(ErrDeadline, trust)
		if n := len(lost.attempts()); n < 2 {
			w.Errorf("%d attempts, want it to be tried again", n)
		}
		p, ok := errors.AsType[*PanicError](lost.ended[0])
		if !ok || p.Value != "boom" || !bytes.Contains(p.Stack, []byte("panic_test.go")) ||
			!strings.Contains(p.Error(), "boom") {
			w.Errorf("the news is %v", lost.ended[0])
		}
		once.wantAlive()
	}, func(o *Options) { o.Parallelism = 1 }) // a slot that is not given back would show
}

// Not in parallel: the default logger is the program's.
func TestAnEndedThatPanickedHoldsUpNoOtherNewsAndIsLogged(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	synctest.Test(t, func(t *testing.T) {
		s := New()
		told := 0
		for _, ended := range []func(error){func(error) { panic("boom") }, func(error) { told++ }} {
			if _, err := s.Add(Config{Trust: time.Second, Acked: s.clock.Now(), Ended: ended}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Second)
		s.Close()
		if told != 1 {
			t.Errorf("%d other losses were told, want 1", told)
		}
	})
	if text := log.String(); !strings.Contains(text, "boom") || !strings.Contains(text, "panic_test.go") {
		t.Errorf("the log says %q", text)
	}
}
