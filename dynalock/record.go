package dynalock

import (
	"fmt"
	"strings"
	"time"
)

// State of a record.
type State int

// The states. A lock whose lease has run out is still Held: it is free only once somebody takes it.
const (
	Free    State = iota // nobody holds it, or it never was locked
	Held                 // somebody holds it
	Foreign              // the item is not a lock
)

// String names the state.
func (s State) String() string {
	switch s {
	case Free:
		return "free"
	case Held:
		return "held"
	case Foreign:
		return "foreign"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// Record is what the table says about one key: a snapshot for people and for [Client.ForceRelease]. It is no lock
// and cannot renew or release one.
type Record struct {
	Key     string // without the client's namespace
	Owner   string // label of the holder, or of the last one
	Version string // record version number: changes with every write
	Reason  string // why it is held
	Problem string // why the item is foreign; empty otherwise

	// ReleasedBy is the label of the operator who freed it; empty where its holder did, or where it is held.
	ReleasedBy string

	State State
	Token uint64 // fencing token of this tenure, 0 where none was ever given
	Lease time.Duration

	// For people, not for decisions: AcquiredAt and RenewedAt in DynamoDB's time as the holder knew it, to about a second,
	// ExpiresAt by the holder's clock. Zero where the row was last written by another library.
	AcquiredAt, RenewedAt, ExpiresAt time.Time

	// Waiters is an estimate of how many other processes wait, made when this process began to hold the lock: how many
	// turns others had since it held the lock last.
	Waiters int
	Data    []byte

	static   bool          // see AcquireOptions.NoHeartbeat
	hold     time.Duration // the lock's usual hold time, 0 where unknown
	turn     uint64        // counts the processes that held it, one after the other; 0 where unknown
	dialect  Dialect
	previous string // the version that a take-over replaced
	extra    item   // what the item says besides, for its kind; nil where another library wrote the row last
}

// id is the acquisition id of a tenure of ours, "" for a row that another library wrote.
func (r *Record) id() string {
	id, _ := splitVersion(r.Version)
	return id
}

// maxStamp bounds what is believed of a stamp: the year 9999.
const maxStamp = 253402300799999

// stamp is the time of the row's last write in unix milliseconds, as the writer has it; 0 where the row is another
// library's. Requests that replace the row are not stamped earlier.
func (r *Record) stamp() int64 {
	if r.RenewedAt.IsZero() {
		return 0
	}
	return min(r.RenewedAt.UnixMilli(), maxStamp)
}

// tenure tells two tenures apart: the acquisition id, or for another library's row the owner (its version changes
// with every heartbeat).
func (r *Record) tenure() string {
	if id := r.id(); id != "" {
		return id
	}
	return "owner " + r.Owner
}

// splitVersion takes "<acquisition id>-<n>" apart; id is empty where the version is not of that form.
func splitVersion(version string) (id string, n uint64) {
	id, digits, ok := strings.Cut(version, "-")
	if !ok || len(id) != 2*idBytes || strings.Trim(id, "0123456789abcdef") != "" || len(digits) == 0 || len(digits) > 19 {
		return "", 0
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return "", 0
		}
		n = n*10 + uint64(d-'0')
	}
	return id, n
}
