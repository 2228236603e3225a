// Package history is what clients say that they did, and the check of it: whether some order of their calls, one after
// the other, explains every lock that they were given and believed to hold, and every answer of a guarded register. The
// format is that of the workers of this module and of the simulation in dynalock/sim_export_test.go.
package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
)

// Op is a kind of call.
type Op string

// The calls. Those on a register are the read-modify-write of a set: Read is what was read, Add what was to be added.
const (
	Acquire  Op = "acquire"  // OK: Tenure with Token began
	Held     Op = "held"     // OK: Tenure was held at some time between Call and Return; Lost: it was not any more
	Release  Op = "release"  // Tenure is over for its holder when it returns, whatever the outcome
	Write    Op = "write"    // Read, changed and written back under Tenure; Call is that of the read
	Read     Op = "read"     // of a register
	Delete   Op = "delete"   // of the lock's item: tokens begin anew
	Overrule Op = "overrule" // an operator or Resume ended Tenure, which its holder learns later
	Late     Op = "late"     // the process did not run, or waited for an answer, from Call to Return; no call of a user
)

// Outcome of a call. None: in doubt, or the process was killed before it could say.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "ok"
	Lost    Outcome = "lost"    // the lock was lost; of a write: refused, nothing was written
	Refused Outcome = "refused" // of an acquisition: somebody else had the lock
)

// Event is one line of a file. A call is written down before it is made, with no Return, and again when it has
// returned; the later line counts.
type Event struct {
	Op      Op      `json:"op"`
	Client  string  `json:"client"` // a process and a goroutine of it
	ID      int     `json:"id"`     // of the call, within the client
	Key     string  `json:"key,omitempty"`
	Call    int64   `json:"call"`             // in nanoseconds by one clock for all clients
	Return  int64   `json:"return,omitempty"` // 0: it never returned
	Outcome Outcome `json:"outcome,omitempty"`
	Tenure  string  `json:"tenure,omitempty"`
	Token   uint64  `json:"token,omitempty"`
	Guarded bool    `json:"guarded,omitempty"` // of a register: by Transact, not by Held alone
	// a guarded write that was sent though the library had said that the lock was lost
	Forced bool     `json:"forced,omitempty"`
	Read   []string `json:"read,omitempty"`
	Add    string   `json:"add,omitempty"`
}

// returned is when the call was over; one in doubt may take effect at any later time.
func (e Event) returned() int64 {
	if e.Return == 0 || e.Outcome == "" && (e.Op == Write || e.Op == Acquire) {
		return math.MaxInt64
	}
	return e.Return
}

// Decode reads the lines of one file. A last line without an end is that of a process that was killed while writing it.
func Decode(r io.Reader) ([]Event, error) {
	type call struct {
		op     Op
		client string
		id     int
	}
	at := map[call]int{}
	var events []Event
	in := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return nil, err
		}
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		c := call{e.Op, e.Client, e.ID}
		if i, known := at[c]; known {
			events[i] = e
			continue
		}
		at[c] = len(events)
		events = append(events, e)
	}
}

// Load reads all files of a folder as one history.
func Load(dir string) ([]Event, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err == nil && len(names) == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("histories in %s: %w", dir, err)
	}
	var all []Event
	for _, name := range names {
		events, err := LoadFile(name)
		if err != nil {
			return nil, err
		}
		all = append(all, events...)
	}
	return all, nil
}

// LoadFile reads one file as one history.
func LoadFile(name string) ([]Event, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	events, err := Decode(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return events, nil
}
