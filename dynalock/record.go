package dynalock

import (
	"fmt"
	"strings"
	"time"
)

// State of a record.
type State int

// The states. A lock whose lease has expired is still Held, until another tenure takes it over.
const (
	Free    State = iota // the lock was released, or the key was never locked
	Held                 // a tenure holds the lock
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

// Record is what the table says about one key: a snapshot for people and for [Client.ForceRelease]. It is not a lock,
// and cannot renew or release one.
type Record struct {
	Key     string // without the client's namespace
	Owner   string // label of the holder; of a free lock, that of its last holder
	Version string // record version number, which every write changes
	Reason  string // why it is held
	Problem string // why the item is foreign; empty otherwise

	// ReleasedBy is the label of the operator that freed the lock. It is empty if the lock is held, or if its holder
	// released it.
	ReleasedBy string

	State State
	Token uint64 // fencing token of this tenure; 0 if the item has none
	Lease time.Duration

	// The times are for people, not for decisions. AcquiredAt and RenewedAt are DynamoDB's time as the holder knew it, to
	// about a second. ExpiresAt is by the holder's clock. They are zero if another library wrote the row last.
	AcquiredAt, RenewedAt, ExpiresAt time.Time

	// Waiters is an estimate of how many other processes wait. It was made when the holder's process began to hold the
	// lock, and is the number of turns that others have had since that process held the lock last.
	Waiters int
	Data    []byte

	static   bool          // see AcquireOptions.NoHeartbeat
	hold     time.Duration // the lock's usual hold time; 0 if unknown
	turn     uint64        // counts the processes that held it, one after the other; 0 if unknown
	dialect  Dialect
	previous string // the version that a take-over replaced
	extra    item   // the attributes of the item's kind; nil if another library wrote the row last
}

// id is the acquisition id of a tenure of ours, "" for a row that another library wrote.
func (r *Record) id() string {
	id, _ := splitVersion(r.Version)
	return id
}

// maxStamp bounds what is believed of a stamp: the year 9999.
const maxStamp = 253402300799999

// stamp is the time of the row's last write in unix milliseconds, as the writer has it; 0 if another library wrote the
// row. Requests that replace the row are not stamped earlier.
func (r *Record) stamp() int64 {
	if r.RenewedAt.IsZero() {
		return 0
	}
	return min(r.RenewedAt.UnixMilli(), maxStamp)
}

// tenure tells two tenures apart: by the acquisition id, or in another library's row by the owner, because its version
// changes with every heartbeat.
func (r *Record) tenure() string {
	if id := r.id(); id != "" {
		return id
	}
	return "owner " + r.Owner
}

// splitVersion takes "<acquisition id>-<n>" apart; id is empty if the version is not of that form.
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
