package dynalock

import (
	"math"
	"strconv"
	"strings"
)

// The conditions. Each is one half of a decision whose other half is in the same write.
const (
	// condNew: nobody ever locked the key.
	condNew = "attribute_not_exists(#key)"

	// condBefore: the row was written before this request was made, so that a late copy of it begins no tenure. The
	// client of a tenure stamps its release later than every acquire that it has sent for it, and a request that
	// replaces a row is stamped no earlier than that row: a copy of a request that was applied is refused here whatever
	// the clocks say. A clock decides only about one that never was. A request that is refused for its clock alone is
	// admitted by the version that the refusal shows.
	condBefore = "#renewed <= :made"

	// condReleased: the lock was given back, this library wrote the row, and nobody changed it by hand and left the
	// version as it was. The value of #released counts, not the presence. What this cannot tell is refused, looked at,
	// and then admitted by its version. condAWSLabs or condDynamolock follows: an existing item keeps its dialect.
	condReleased = "#released = :one AND #stamp = #version AND " + condBefore +
		" AND (attribute_not_exists(#owner) OR attribute_type(#owner, :S))" +
		" AND (attribute_not_exists(#data) OR attribute_type(#data, :B))" +
		" AND #token BETWEEN :1 AND :lastToken AND #lease >= :digitLow AND #lease < :digitHigh AND "

	// Milliseconds are digits, 100 to 86400000 of them, and every Go duration ends in "s". Not the lease itself is asked
	// for, since a key's users may have leases of their own.
	condAWSLabs    = "NOT contains(#lease, :unit) AND size(#lease) >= :3 AND (size(#lease) < :8 OR size(#lease) = :8 AND #lease <= :longest)"
	condDynamolock = "contains(#lease, :unit)"

	// condTenure: this tenure holds the lock, whatever its heartbeats have made of the version.
	condTenure = "begins_with(#version, :id) AND NOT #released = :one"

	// condToken goes with everything that a tenure writes or guards.
	condToken = " AND #token = :token"

	// condValid: the holder has not made the guarded writes up to this one void.
	condValid = " AND (attribute_not_exists(#void) OR #void < :n)"

	// condForeignTenure: the same for a row that another library wrote, which has no acquisition id.
	condForeignTenure = "#version = :seen0 AND NOT #released = :one AND "
	condSameOwner     = "#owner = :seenOwner"
	condNoOwner       = "(attribute_not_exists(#owner) OR #owner = :empty)"
)

// condVersion: the version is one of n known ones, :seen0 and on: the one that was watched standing still, or the
// last acknowledged one of our own and those in doubt after it.
func condVersion(n int) string {
	var b strings.Builder
	b.WriteString("#version IN (")
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(":seen" + strconv.Itoa(i))
	}
	b.WriteByte(')')
	return b.String()
}

// The updates. They are put together in acquisition.expressions and Lock.writeRelease, and by the kinds.
const (
	// updAcquire begins a tenure. The token counts on from the item, or starts at a floor made of time where the
	// item has none. What belongs to the tenure before is removed, and a TTL is never left on a held item.
	updAcquire = "SET #owner = :owner, #lease = :lease, #version = :next, #stamp = :next," +
		" #token = if_not_exists(#token, :floor) + :1, #acquired = :made, #renewed = :made, #expires = :expires," +
		" #waiters = :waiters"
	updAcquireRemove = " REMOVE #released, #ttl, #releasedBy, #void" + ofOneTenure

	// updRenew is the heartbeat: a new version, and the lease that it stands for.
	updRenew = "SET #version = :next, #stamp = :next, #lease = :lease, #renewed = :now, #expires = :expires"

	// updRelease gives the lock back. The version changes, so that nothing of this tenure that is still under way applies.
	updRelease       = "SET #released = :one, #version = :next, #stamp = :next, #renewed = :now"
	updReleaseRemove = " REMOVE #expires, #reason, #waiters" + ofOneTenure

	// setTurn counts how often the lock changed processes: a tenure that was not handed over within one begins a turn.
	setTurn = ", #turn = if_not_exists(#turn, :0) + :1"

	// setToken raises the token of a tenure that nobody was given yet, setLower takes back what an acquire has made of a
	// token that cannot be one.
	setToken = ", #token = :raised"
	setLower = ", #token = #token - :1"

	// setVoid makes all guarded writes of this tenure void up to one: none that is still under way will be applied.
	setVoid = ", #void = :n"

	// setPrevious notes which version a take-over replaced, if it was one: the lock may have been released meanwhile.
	setPrevious = ", #previous = if_not_exists(#version, :empty)"

	setData   = ", #data = :data"
	setReason = ", #reason = :reason"
	setHold   = ", #hold = :hold"
	setTTL    = ", #ttl = :ttl"
	setBy     = ", #releasedBy = :by"
	setStatic = ", #static = :one"
)

// engineNames are the placeholders of the engine's attributes. Every name is aliased: several are reserved words.
var engineNames = map[string]string{
	"#owner": attrOwner, "#lease": attrLease, "#version": attrVersion, "#released": attrReleased, "#data": attrData,
	"#token": attrToken, "#stamp": attrStamp, "#acquired": attrAcquired, "#renewed": attrRenewed,
	"#expires": attrExpires, "#reason": attrReason, "#hold": attrHold, "#waiters": attrWaiters, "#turn": attrTurn,
	"#releasedBy": attrReleasedBy, "#static": attrStatic, "#void": attrVoid, "#previous": attrPrevious, "#ttl": attrTTL,
}

// constantValues are those that never change.
var constantValues = item{
	":one": str("1"), ":0": num(0), ":1": num(1), ":3": num(3), ":8": num(8), ":S": str("S"), ":B": str("B"),
	":empty": str(""), ":digitLow": str("1"), ":digitHigh": str(":"), ":unit": str("s"),
	":longest": str(leaseText(maxLease, DialectAWSLabs)), ":lastToken": num(uint64(math.MaxInt64 - 1)),
}

// write is one conditional write in the making. DynamoDB refuses names and values that an expression does not use,
// so they are collected from the texts.
type write struct {
	cond, update string
	values       item
}

// names and used collect what the expressions mention.
func (w *write) placeholders(partitionKey, sortKey string) (map[string]string, item) {
	names, values := map[string]string{}, item{}
	for _, text := range []string{w.cond, w.update} {
		for i := 0; i < len(text); i++ {
			if text[i] != '#' && text[i] != ':' {
				continue
			}
			j := i + 1
			for j < len(text) && isWordByte(text[j]) {
				j++
			}
			switch p := text[i:j]; {
			case p == "#key":
				names[p] = partitionKey
			case p == "#sort":
				names[p] = sortKey
			case p[0] == '#':
				names[p] = attributeNames[p]
			default:
				if v, ok := constantValues[p]; ok {
					values[p] = v
				} else {
					values[p] = w.values[p]
				}
			}
			i = j - 1
		}
	}
	if len(values) == 0 {
		values = nil
	}
	return names, values
}

func isWordByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9'
}
