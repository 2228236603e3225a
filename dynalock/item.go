package dynalock

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// The attributes of a lock item. The first five are those of the AWS Labs Java client and of dynamolock, so that a
// fleet can move lock by lock on its own table. The token is ours, and is read in every row. The others are ours, too,
// and are believed only in a row whose version we wrote (see attrStamp).
const (
	attrOwner    = "ownerName"           // S
	attrLease    = "leaseDuration"       // S "10000" or "10s"
	attrVersion  = "recordVersionNumber" // S <acquisition id>-<n>
	attrReleased = "isReleased"          // S "1": free. The value counts, not the presence
	attrData     = "data"                // B
	attrToken    = "fencingToken"        // N

	// S the version that the attributes below belong to: another library copies them into rows of its own
	attrStamp      = "stampedVersion"
	attrAcquired   = "acquiredAt"      // N unix milliseconds, DynamoDB's time as the holder knows it
	attrRenewed    = "renewedAt"       // N the same, of the last write; see condBefore
	attrExpires    = "expiresAt"       // N unix milliseconds, the holder's clock
	attrReason     = "reason"          // S why it is held
	attrHold       = "holdAverage"     // N microseconds, moving average over the last tenures
	attrWaiters    = "waiters"         // N other processes that wait, an estimate
	attrTurn       = "turn"            // N how often the lock was not handed over within a process
	attrReleasedBy = "releasedBy"      // S label of the operator that freed it
	attrPrevious   = "previousVersion" // S the version that a take-over replaced
	attrStatic     = "static"          // S "1": no heartbeat renews the lease
	attrVoid       = "void"            // N guarded writes of this tenure up to this number are void
	attrTTL        = "ttl"             // N unix seconds, on released items only
)

// reservedAttributes are all names that an item may have.
var reservedAttributes = func() map[string]bool {
	all := map[string]bool{}
	for _, name := range attributeNames {
		all[name] = true
	}
	return all
}()

const idBytes = 16

// newID makes an acquisition id. It is made when a client acquires, never earlier: a process may be cloned from a
// snapshot, and two clones must not share the ids of later tenures.
func newID() string {
	var b [idBytes]byte
	rand.Read(b[:]) //nolint:errcheck // never fails: it aborts the process
	return hex.EncodeToString(b[:])
}

func versionOf(id string, n uint64) string { return id + "-" + strconv.FormatUint(n, 10) }

type item = map[string]types.AttributeValue

func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func bin(b []byte) types.AttributeValue { return &types.AttributeValueMemberB{Value: b} }

func num[T int | int64 | uint64](n T) types.AttributeValue {
	if n < 0 {
		return &types.AttributeValueMemberN{Value: strconv.FormatInt(int64(n), 10)}
	}
	return &types.AttributeValueMemberN{Value: strconv.FormatUint(uint64(n), 10)}
}

// overhead is the largest size of a lock item without its data, by DynamoDB's rules: names and values count their
// bytes, a number at most 21.
func (c *Client) overhead(key string) int {
	n := len(c.opt.PartitionKey) + len(c.opt.Namespace) + len(key) + len(c.opt.SortKey) + len(c.opt.SortValue)
	for name := range reservedAttributes {
		n += len(name) + 21
	}
	return n + 2*(2*idBytes+21) + 3*maxLabelBytes
}

// leaseText writes a lease in a dialect.
func leaseText(d time.Duration, dialect Dialect) string {
	if dialect == DialectDynamolock {
		return d.String()
	}
	return strconv.FormatInt(d.Milliseconds(), 10)
}

// parseLease reads either dialect.
func parseLease(s string) (time.Duration, Dialect, error) {
	dialect := DialectAWSLabs
	var lease time.Duration
	if ms, err := strconv.ParseInt(s, 10, 64); err == nil && ms >= 0 && ms < math.MaxInt64/int64(time.Millisecond) {
		lease = time.Duration(ms) * time.Millisecond
	} else if lease, err = time.ParseDuration(s); err == nil {
		dialect = DialectDynamolock
	} else {
		return 0, 0, fmt.Errorf("%s is %q, which is neither milliseconds nor a Go duration", attrLease, s)
	}
	if lease < minLease || lease > maxLease {
		return 0, 0, fmt.Errorf("%s is %q, outside %v to %v", attrLease, s, minLease, maxLease)
	}
	return lease, dialect, nil
}

// decode reads an item that any program may have written. An item that is not a lock is Foreign, and Problem says why.
func decode(key string, it item) Record {
	r := Record{Key: key}
	if len(it) == 0 {
		return r
	}
	p := parser{it: it}
	r.Owner = p.str(attrOwner)
	r.Version = p.str(attrVersion)
	r.Data = p.bytes(attrData)
	r.Token = p.uint(attrToken)
	if r.Token > math.MaxInt64 {
		p.misfit(attrToken, "below 2^63")
	}
	released := p.str(attrReleased)
	lease := p.str(attrLease)
	switch {
	case p.problem != "":
	case r.Version == "":
		p.problem = "it has no " + attrVersion
	case lease == "":
		p.problem = "it has no " + attrLease
	default:
		var err error
		if r.Lease, r.dialect, err = parseLease(lease); err != nil {
			p.problem = err.Error()
		}
	}
	if p.problem != "" {
		r.State, r.Problem = Foreign, p.problem
		return r
	}
	if released != "1" {
		r.State = Held
	}
	if stamp, ok := it[attrStamp].(*types.AttributeValueMemberS); ok && stamp.Value == r.Version {
		extra := parser{it: it} // labels and statistics: one of a wrong type is left out, and the item is still a lock
		r.AcquiredAt, r.RenewedAt, r.ExpiresAt = extra.time(attrAcquired), extra.time(attrRenewed), extra.time(attrExpires)
		r.Reason = extra.str(attrReason)
		r.ReleasedBy = extra.str(attrReleasedBy)
		r.static = extra.str(attrStatic) == "1"
		r.Waiters = int(min(extra.uint(attrWaiters), math.MaxInt32))
		r.turn = extra.uint(attrTurn)
		r.previous = extra.str(attrPrevious)
		r.hold = time.Duration(min(extra.uint(attrHold), uint64(maxLease/time.Microsecond))) * time.Microsecond
		for name, v := range it {
			if kindAttributes[name] {
				if r.extra == nil {
					r.extra = item{}
				}
				r.extra[name] = v
			}
		}
	}
	return r
}

// parser reads attributes, and remembers the first one that has a wrong type.
type parser struct {
	it      item
	problem string
}

func (p *parser) misfit(name, want string) {
	if p.problem == "" {
		p.problem = fmt.Sprintf("its %s is not %s", name, want)
	}
}

func (p *parser) str(name string) string {
	switch v := p.it[name].(type) {
	case nil:
		return ""
	case *types.AttributeValueMemberS:
		return v.Value
	}
	p.misfit(name, "a string")
	return ""
}

func (p *parser) bytes(name string) []byte {
	switch v := p.it[name].(type) {
	case nil:
		return nil
	case *types.AttributeValueMemberB:
		if v.Value == nil {
			return []byte{}
		}
		return v.Value
	}
	p.misfit(name, "binary")
	return nil
}

func (p *parser) uint(name string) uint64 {
	switch v := p.it[name].(type) {
	case nil:
		return 0
	case *types.AttributeValueMemberN:
		if n, err := strconv.ParseUint(v.Value, 10, 64); err == nil {
			return n
		}
	}
	p.misfit(name, "a whole number from 0 to 2^64-1")
	return 0
}

func (p *parser) time(name string) time.Time {
	ms := p.uint(name)
	if ms == 0 || ms > math.MaxInt64 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms))
}
