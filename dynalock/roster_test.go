package dynalock_test

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/internal/testserver"
)

func TestEndedTenuresAreForgotten(t *testing.T) {
	ends := map[string]func(e *env, l *dynalock.Lock, wire *testserver.Wire){
		"lost at the deadline":  func(_ *env, l *dynalock.Lock, wire *testserver.Wire) { crash(wire); <-l.Done() },
		"lost by its heartbeat": func(e *env, l *dynalock.Lock, _ *testserver.Wire) { e.delete("key"); <-l.Done() },
		"lost by a transaction": func(e *env, l *dynalock.Lock, _ *testserver.Wire) {
			e.delete("key")
			wantErr(e, l.Transact(e.ctx, count(e)), dynalock.ErrLost)
		},
		"released": func(e *env, l *dynalock.Lock, _ *testserver.Wire) { must(e, l.Release(e.ctx)) },
		"lost by its release": func(e *env, l *dynalock.Lock, _ *testserver.Wire) {
			e.delete("key")
			wantErr(e, l.Release(e.ctx), dynalock.ErrLost)
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(e *env) {
				c, wire := e.client()
				var forgotten atomic.Bool
				func() {
					l := e.acquire(c, "key")
					runtime.AddCleanup(l, func(gone *atomic.Bool) { gone.Store(true) }, &forgotten)
					end(e, l, wire)
				}()
				time.Sleep(10 * lease) // the runtime lets go of stopped timers, and what they refer to, a little later
				for i := 0; i < 50 && !forgotten.Load(); i++ {
					runtime.GC()
					runtime.Gosched()
				}
				check(e, forgotten.Load(), "the client still keeps the tenure")
				runtime.KeepAlive(c)
			})
		})
	}
}
