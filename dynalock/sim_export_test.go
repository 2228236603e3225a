package dynalock_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	goflag "flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dynalock/dynalock/dynalock"
)

var simHistories = goflag.String("sim.histories", "",
	"write what the clients of each schedule saw to a file in this folder, for the checker of the module proof")

// exported is one line of such a file; the module proof says what the fields mean.
type exported struct {
	Op      string        `json:"op"`
	Client  string        `json:"client"`
	ID      int           `json:"id"`
	Key     string        `json:"key,omitempty"`
	Call    time.Duration `json:"call"`
	Return  time.Duration `json:"return,omitempty"`
	Outcome string        `json:"outcome,omitempty"`
	Tenure  string        `json:"tenure,omitempty"`
	Token   uint64        `json:"token,omitempty"`
	Guarded bool          `json:"guarded,omitempty"`
	Read    []string      `json:"read,omitempty"`
	Add     string        `json:"add,omitempty"`
}

// exporter collects what the clients of one schedule see. Its methods are called with world.mu; they do nothing unless
// -sim.histories is set.
type exporter struct {
	lines []exported
	asked map[string]time.Duration // when each actor last asked for a lock
	held  map[*tenure]*exported    // when it was last seen held
	gone  map[*tenure]bool         // its Done was seen closed
}

func (x *exporter) add(e exported) {
	if *simHistories == "" {
		return
	}
	e.ID = len(x.lines) + 1
	e.Call, e.Return = e.Call+1, e.Return+1 // 0 stands for never
	x.lines = append(x.lines, e)
}

// asks takes note of the beginning of a call that may give a lock to an actor.
func (x *exporter) asks(who string, now time.Duration) {
	if x.asked == nil {
		x.asked, x.held, x.gone = map[string]time.Duration{}, map[*tenure]*exported{}, map[*tenure]bool{}
	}
	x.asked[who] = now
}

// called takes note of the end of a call.
func (x *exporter) called(who, key, what string, begin, now time.Duration, err error) {
	if what != string(opAcquire) && what != string(opTry) && what != "Resume" {
		return
	}
	x.asks(who, begin)
	if err == nil {
		return // given comes next
	}
	e := exported{Op: "acquire", Client: who, Key: key, Call: begin, Return: now}
	if errors.Is(err, dynalock.ErrHeld) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		e.Outcome = "refused"
	}
	x.add(e)
}

// given takes note of a lock that an actor was given.
func (x *exporter) given(who string, t *tenure, now time.Duration) {
	x.add(exported{
		Op: "acquire", Client: who, Key: t.key, Call: x.asked[who], Return: now, Outcome: "ok", Tenure: t.id,
		Token: t.lock.Token(),
	})
}

// looked takes note of what a living holder believes; it may believe again while its Done is open.
func (x *exporter) looked(t *tenure, held bool, now time.Duration) {
	switch {
	case x.gone[t] || x.held == nil:
	case held:
		x.held[t] = &exported{
			Op: "held", Client: t.client.name, Key: t.key, Call: now, Return: now, Outcome: "ok",
			Tenure: t.id,
		}
	default:
		x.gone[t] = true
		x.add(exported{Op: "held", Client: t.client.name, Key: t.key, Call: now, Return: now, Outcome: "lost", Tenure: t.id})
	}
}

// wrote takes note of the read-modify-write of a register.
func (x *exporter) wrote(
	a *actor, t *tenure, begin time.Duration, fenced bool, read []string, element string, err error,
) {
	e := exported{
		Op: "write", Client: a.name, Key: t.key, Call: begin, Return: a.w.now(), Tenure: t.id, Token: t.lock.Token(),
		Guarded: fenced, Read: read, Add: element,
	}
	switch {
	case err == nil:
		e.Outcome = "ok"
	case fenced && errors.Is(err, dynalock.ErrLost):
		e.Outcome = "lost"
	}
	x.add(e)
}

// deleted takes note of the deletion of a lock's item: tokens begin anew.
func (x *exporter) deleted(by, key string, now time.Duration) {
	x.add(exported{Op: "delete", Client: by, Key: key, Call: now, Return: now, Outcome: "ok"})
}

// export writes the file, at the end of the schedule.
func (w *world) export() {
	if *simHistories == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	x, now := &w.exporter, w.now()
	for _, last := range x.held {
		x.add(*last)
	}
	for _, t := range w.check.tenures {
		if t.overruled {
			x.add(exported{Op: "overrule", Client: "end", Key: t.key, Call: now, Return: now, Outcome: "ok", Tenure: t.id})
		}
	}
	for register, set := range w.check.last {
		kind, key, _ := strings.Cut(register, " ")
		x.add(exported{
			Op: "read", Client: "end", Key: key, Call: now + 1, Return: now + 2, Outcome: "ok",
			Guarded: kind == "guarded", Read: set,
		})
	}
	var b bytes.Buffer
	lines := json.NewEncoder(&b)
	for _, e := range x.lines {
		must(w.t, lines.Encode(e))
	}
	root, _, _ := strings.Cut(w.t.Name(), "/")
	must(w.t, os.WriteFile(filepath.Join(*simHistories, fmt.Sprintf("%s-%d.jsonl", root, w.plan.Seed)), b.Bytes(), 0o644))
}
