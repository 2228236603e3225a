package dynalock

import (
	"math"
	"strconv"
	"strings"
)

// The conditions. Each is one half of a decision whose other half is in the same write.
const (
	// condNew: the key was never locked.
	condNew = "attribute_not_exists(#key)"

	// condBefore: the row was written before this request was made, so that a late copy of the request begins no tenure.
	// The client of a tenure stamps its release later than every acquire that it has sent for it, and a request that
	// replaces a row is stamped no earlier than that row. So a copy of a request that was applied is refused here,
	// whatever the clocks say. A clock decides only about a request that was not applied. A request that is refused for
	// its clock alone is admitted by the version that the refusal shows.
	condBefore = "#renewed <= :made"

	// condReleased: the lock was released, this library wrote the row, and it was not changed by hand with its version
	// left as it was. The value of #released counts, not its presence. A row that this condition does not know is refused,
	// looked at, and then admitted by its version. condAWSLabs or condDynamolock follows: an existing item keeps its
	// dialect.
	condReleased = "#released = :one AND #stamp = #version AND " + condBefore +
		" AND (attribute_not_exists(#owner) OR attribute_type(#owner, :S))" +
		" AND (attribute_not_exists(#data) OR attribute_type(#data, :B))" +
		" AND #token BETWEEN :1 AND :lastToken AND #lease >= :digitLow AND #lease < :digitHigh AND "

	// Milliseconds are digits, from "100" to "86400000", and every Go duration ends in "s". The condition does not ask for
	// the client's own lease, since the users of a key may have different leases.
	condAWSLabs    = "NOT contains(#lease, :unit) AND size(#lease) >= :3 AND (size(#lease) < :8 OR size(#lease) = :8 AND #lease <= :longest)"
	condDynamolock = "contains(#lease, :unit)"

	// condTenure: this tenure holds the lock, whatever its heartbeats have made of the version.
	condTenure = "begins_with(#version, :id) AND NOT #released = :one"

	// condToken goes with everything that a tenure writes or guards.
	condToken = " AND #token = :token"

	// condValid: the holder has not made this guarded write void.
	condValid = " AND (attribute_not_exists(#void) OR #void < :n)"

	// condForeignTenure: the same for a row that another library wrote, which has no acquisition id.
	condForeignTenure = "#version = :seen0 AND NOT #released = :one AND "
	condSameOwner     = "#owner = :seenOwner"
	condNoOwner       = "(attribute_not_exists(#owner) OR #owner = :empty)"
)

// condVersion: the version is one of n known ones, from :seen0 on: the version that was watched standing still, or the
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

// The updates. acquisition.expressions, Lock.writeRelease and the kinds put them together.
const (
	// updAcquire begins a tenure. The token counts on from that of the item. If the item has none, it starts at a floor
	// made of the time. The attributes of the previous tenure are removed, and a TTL is never left on a held item.
	updAcquire = "SET #owner = :owner, #lease = :lease, #version = :next, #stamp = :next," +
		" #token = if_not_exists(#token, :floor) + :1, #acquired = :made, #renewed = :made, #expires = :expires," +
		" #waiters = :waiters"
	updAcquireRemove = " REMOVE #released, #ttl, #releasedBy, #void" + ofOneTenure

	// updRenew is the heartbeat: a new version, and the lease that it stands for.
	updRenew = "SET #version = :next, #stamp = :next, #lease = :lease, #renewed = :now, #expires = :expires"

	// updRelease releases the lock. The version changes, so that no request of this tenure that is still under way
	// applies.
	updRelease       = "SET #released = :one, #version = :next, #stamp = :next, #renewed = :now"
	updReleaseRemove = " REMOVE #expires, #reason, #waiters" + ofOneTenure

	// setTurn counts how often the lock changed processes: a tenure that was not handed over within a process begins a
	// turn.
	setTurn = ", #turn = if_not_exists(#turn, :0) + :1"

	// setToken raises the token of a tenure that no caller was given yet. setLower undoes what an acquire has done to a
	// number that cannot be a token.
	setToken = ", #token = :raised"
	setLower = ", #token = #token - :1"

	// setVoid makes the guarded writes of this tenure up to a number void: none of them that is still under way applies.
	setVoid = ", #void = :n"

	// setPrevious notes the version that the write replaced: it tells a take-over from an acquire of a lock that was
	// released meanwhile.
	setPrevious = ", #previous = if_not_exists(#version, :empty)"

	setData   = ", #data = :data"
	setReason = ", #reason = :reason"
	setHold   = ", #hold = :hold"
	setTTL    = ", #ttl = :ttl"
	setBy     = ", #releasedBy = :by"
	setStatic = ", #static = :one"
)

// engineNames are the placeholders of the engine's attributes. Every name has a placeholder, because several are
// reserved words.
var engineNames = map[string]string{
	"#owner": attrOwner, "#lease": attrLease, "#version": attrVersion, "#released": attrReleased, "#data": attrData,
	"#token": attrToken, "#stamp": attrStamp, "#acquired": attrAcquired, "#renewed": attrRenewed,
	"#expires": attrExpires, "#reason": attrReason, "#hold": attrHold, "#waiters": attrWaiters, "#turn": attrTurn,
	"#releasedBy": attrReleasedBy, "#static": attrStatic, "#void": attrVoid, "#previous": attrPrevious, "#ttl": attrTTL,
}

// constantValues are the values that never change.
var constantValues = item{
	":one": str("1"), ":0": num(0), ":1": num(1), ":3": num(3), ":8": num(8), ":S": str("S"), ":B": str("B"),
	":empty": str(""), ":digitLow": str("1"), ":digitHigh": str(":"), ":unit": str("s"),
	":longest": str(leaseText(maxLease, DialectAWSLabs)), ":lastToken": num(uint64(math.MaxInt64 - 1)),
}

// write is one conditional write in the making. DynamoDB refuses names and values that no expression uses, so they are
// collected from the texts.
type write struct {
	cond, update string
	values       item
}

// placeholders collects the names and values that the expressions mention.
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
