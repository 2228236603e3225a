package dynalock_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"github.com/dynalock/dynalock/heartbeat"
)

// violation is a sentence that did not hold.
type violation struct {
	Rule, Key, Text string
	At              time.Duration
}

// The sentences. Each is checked against the server's own order of writes and real time.
const (
	ruleExclusion  = "no two acquisitions of one key are held at the same real time"
	ruleInItem     = "a held lock is the one that the item shows, unless an operator or Resume overruled it"
	ruleTokens     = "tokens of one key increase in the order in which the writes applied"
	ruleTokenTrue  = "the token of a lock is the one that its acquire wrote"
	ruleAcked      = "held means that a write sent within the trusted time, by every clock of the holder, was acknowledged"
	ruleStood      = "a take-over applies only where the version stood still for the whole stored lease"
	ruleOwnTenure  = "a write changes its own tenure only"
	ruleNil        = "what a call that returned nil promised is true"
	ruleOver       = "after its end nothing of a tenure applies"
	ruleLate       = "a late copy of an acquire begins no tenure, unless the item was deleted"
	ruleFalseLoss  = "a lock is told to be gone only when it is"
	ruleHealthy    = "a lock is not lost while its heartbeats meet no fault"
	ruleLimit      = "no lock is held for longer than its MaxHold"
	ruleLive       = "a waiter that polls undisturbed takes a free or dead lock within the lease, one poll and two requests"
	ruleReturns    = "every call returns within 50 ms of its context's end"
	ruleDone       = "Done closes by the deadline"
	ruleErrors     = "an error is one of those documented"
	ruleGuarded    = "guarded writes lose no update"
	ruleNotWritten = "a guarded write that was refused with ErrLost wrote nothing"
	ruleTTL        = "a held item has no TTL"
	ruleOrphan     = "what was won for a caller who had gone is given back"
	ruleBroken     = "every goroutine ends with its client"
)

// tenure is what is known of one acquisition id.
type tenure struct {
	id, key    string
	client     *simClient
	lock       *dynalock.Lock // nil while nobody was given it
	trust      time.Duration
	token      uint64        // that its first acquire wrote
	begun      time.Duration // when that was
	acked      *sentWrite    // the last acknowledged write, by when it was sent
	overruled  bool          // by an operator or by Resume: its holder learns of it with the next heartbeat
	ended      string        // how, by the order of writes; "" while it lives
	ghosts     int
	revived    bool              // deleted under its holder, and made anew
	data       []string          // payloads that were applied
	renewals   int               // by calls of Renew that applied
	releasing  bool              // its owner has called Release
	call       *waitingCall      // that asked for it
	givenBack  bool              // a release or a clean-up was sent
	pending    int               // requests to begin it of which its client does not know that they were refused
	read       bool              // the call that asked for it has seen it in a read
	since      heartbeat.Reading // when it was given to somebody
	limit      time.Duration     // MaxHold; 0: none
	beats      bool              // heartbeats keep it
	overlapped bool              // it was held while another one was
	doneAt     time.Duration     // when Done was seen closed while it was held
	over       time.Duration     // when its client was first seen to know of its end
	working    context.Context   // of the function that runs under it; nil: none does
	doneSeen   time.Duration     // when its end was first seen while that function ran
	asked      bool              // to hand over to another candidate
}

// keyState is the item under one key, by the order of writes.
type keyState struct {
	exists, released bool
	version, id      string
	lease            time.Duration
	data             string
	token            uint64 // of the item; kept over deletions
	highest          uint64 // token that the key ever had
	at               time.Duration
	deleted          time.Duration // when it was last deleted; -1: never
	deletions        int
	made             *sentWrite // the request that made the item, or made it anew
	// its token was made of time after a deletion: by a late request, or by clocks that are off
	stale            bool
	revived          bool   // its version is one that it had before it was deleted
	given            uint64 // the largest token that somebody was given
	givenTo          *tenure
	holders          []*tenure // that somebody was given and that may be held
	past             []pastItem
	item             map[string]types.AttributeValue
	yielded          string       // the candidate in whose favour its leader stood down
	terms            []leadership // all tenures
	working          []*tenure    // that a function runs under
	claims, finishes []attempt    // of a period
	begun            int          // how often its function was run
	uncounted        int          // and was told to stop
}

type pastItem struct {
	until time.Duration
	item  map[string]types.AttributeValue
}

type sentWrite struct {
	request
	client   *simClient
	at       time.Duration // real time of the send, before the process could be paused
	last     time.Duration // and of its last repetition by the client
	applied  time.Duration // when it first was; 0: not yet
	informed bool          // the client has had an answer before
	vague    time.Duration // how far its idea of the time may be off; see simClient.vague
}

// checker follows the server's order of writes and the claims of the clients. Its methods are called with world.mu.
type checker struct {
	w          *world
	keys       map[string]*keyState
	tenures    map[string]*tenure
	sent       map[string]*sentWrite // by version
	freed      map[string]bool       // tenures that an operator freed by force
	jobs       map[string]*jobState  // by key
	last       map[string][]string   // the sets in the registers
	violations []violation
	count      counts
}

func (k *checker) fail(rule, key, format string, args ...any) {
	if len(k.violations) > 20 {
		return
	}
	v := violation{rule, key, fmt.Sprintf(format, args...), k.w.now()}
	k.violations = append(k.violations, v)
	k.w.history.add(v.At, violated, key, "%s: %s", rule, v.Text)
}

func (k *checker) key(name string) *keyState {
	st := k.keys[name]
	if st == nil {
		st = &keyState{deleted: -1}
		k.keys[name] = st
	}
	return st
}

func (k *checker) tenure(id, key string, c *simClient) *tenure {
	t := k.tenures[id]
	if t == nil {
		t = &tenure{id: id, key: key, client: c}
		k.tenures[id] = t
	}
	return t
}

func idOf(version string) string {
	id, _, _ := strings.Cut(version, "-")
	return id
}

func textOf(it map[string]types.AttributeValue, name string) string {
	switch v := it[name].(type) {
	case *types.AttributeValueMemberS:
		return v.Value
	case *types.AttributeValueMemberN:
		return v.Value
	case *types.AttributeValueMemberB:
		return string(v.Value)
	}
	return ""
}

func number(it map[string]types.AttributeValue, name string) (n uint64) {
	_, _ = fmt.Sscan(textOf(it, name), &n) // absent is 0
	return n
}

// wrote takes note of a write to a lock item, in the order of application.
func (k *checker) wrote(wr dynalocktest.Write, by string) {
	st, now, item := k.key(wr.Key), k.w.now(), wr.New()
	before := *st
	st.past = append(st.past, pastItem{now, wr.Old()})
	if n := len(st.past); n > 6 {
		st.past = st.past[n-6:]
	}
	k.count.Writes++
	st.item = item
	defer st.term(now)
	if item == nil {
		k.deleted(st, wr.Key, by)
		return
	}
	version := textOf(item, "recordVersionNumber")
	st.exists, st.version, st.id, st.at = true, version, idOf(version), now
	st.released = textOf(item, "isReleased") == "1"
	st.lease, _ = time.ParseDuration(textOf(item, "leaseDuration"))
	if st.lease == 0 {
		st.lease, _ = time.ParseDuration(textOf(item, "leaseDuration") + "ms")
	}
	st.data = textOf(item, "data")
	st.yielded = ""
	if textOf(item, "yielded") == version {
		st.yielded = textOf(item, "successor")
	}
	if item["ttl"] != nil && !st.released {
		k.fail(ruleTTL, wr.Key, "%s has a TTL", st)
	}
	token := number(item, "fencingToken")
	q := k.sent[version]
	if q == nil {
		k.fail(ruleOwnTenure, wr.Key, "a write of version %s that nobody sent", version)
		return
	}
	again := q.applied != 0
	if !again {
		q.applied = now
	}
	if isJob(wr.Key) {
		k.w.history.add(now, "table", wr.Key, "%s by %s", q.site, q.client.name)
		k.noted(wr.Key, item, q)
		return
	}
	if version == before.version { // as only the call to hand over leaves it
		st.at = before.at // it is no heartbeat
		k.w.history.add(now, "table", wr.Key, "%s is to hand over to %s", st.String(), textOf(item, "successor"))
		k.tenure(st.id, wr.Key, q.client).asked = true
		return
	}
	if raised := q.site == siteBeat && k.tenure(st.id, wr.Key, q.client).lock == nil && token > before.token; raised {
		k.tenure(st.id, wr.Key, q.client).token, st.stale = token, false // nobody was given it yet
		for i := range st.claims {
			if st.claims[i].id == st.id {
				st.claims[i].token, st.claims[i].lower = token, before.token
			}
		}
		k.count.Raised++
	} else if !q.site.begins() && token != before.token {
		k.fail(ruleTokens, wr.Key, "%s changed the token from %d to %d", q.site, before.token, token)
	}
	k.w.history.add(now, "table", wr.Key, "%s by %s: %s, token %d", q.site, q.client.name, st.String(), token)
	switch q.site {
	case siteAcquire, siteTakeOver, siteHandOver, siteResume, siteClaim, siteCampaign:
		k.acquired(st, &before, q, token, again)
		if q.site == siteClaim {
			k.claimed(st, &before, q)
		}
	case siteBeat, siteRenew, siteSetData:
		t := k.own(st, &before, q)
		if q.site == siteRenew {
			t.renewals++
		}
		if q.site == siteSetData {
			t.data = append(t.data, textOf(item, "data"))
		}
	case siteRelease, siteCleanUp, siteFinish, siteGiveBack:
		t := k.own(st, &before, q)
		if x, was := attemptOf(item), attemptOf(before.item); x.attempt < was.attempt && t.lock != nil {
			k.fail(ruleNil, wr.Key, "%s takes back attempt %d, which began its function", q.site, was.attempt)
		}
		st.uncounted = max(st.uncounted, int(number(item, "uncounted")))
		k.end(t, "released")
		if q.site == siteFinish {
			k.finished(st, t)
		}
	case siteYield:
		k.end(k.own(st, &before, q), "yielded to "+st.yielded)
	case siteForce:
		if t := k.tenures[before.id]; t != nil {
			if t.ended == "" {
				t.ended = "freed by an operator"
			}
			t.overruled = true
		}
		k.freed[before.id] = true
		if before.released || !before.exists {
			k.fail(ruleOwnTenure, wr.Key, "a forced release of a free lock")
		}
	default:
		k.fail(ruleOwnTenure, wr.Key, "%s wrote the lock", q.site)
	}
	st.token, st.highest = token, max(st.highest, token)
	k.look(wr.Key)
}

func (st *keyState) String() string {
	switch {
	case !st.exists:
		return "nothing"
	case st.released:
		return st.version + " released"
	case st.yielded != "":
		return st.version + " yielded to " + st.yielded
	}
	return st.version
}

// term keeps the list of tenures.
func (st *keyState) term(now time.Duration) {
	owner, token := textOf(st.item, "ownerName"), number(st.item, "fencingToken")
	held := st.exists && !st.released && st.yielded == ""
	if n := len(st.terms); n > 0 && st.terms[n-1].until == 0 {
		if last := &st.terms[n-1]; !held || last.token != token {
			last.until = now
		} else {
			return
		}
	}
	if held {
		st.terms = append(st.terms, leadership{owner, token, now, 0})
	}
}

func (k *checker) deleted(st *keyState, key, by string) {
	k.w.history.add(k.w.now(), "table", key, "deleted by %s: %s", by, st.String())
	k.w.exporter.deleted(by, key, k.w.now())
	if t := k.tenures[st.id]; t != nil && !st.released {
		if by == operator {
			t.overruled = true
		} else if t.client.name != by {
			k.fail(ruleOwnTenure, key, "%s deleted the item of %s", by, t.client.name)
		}
		if t.ended == "" {
			t.ended = "deleted"
		}
	} else if by != operator {
		k.fail(ruleOwnTenure, key, "%s deleted an item that it does not hold", by)
	}
	st.exists, st.released, st.version, st.id, st.at, st.deleted = false, false, "", "", k.w.now(), k.w.now()
	st.deletions++
	k.look(key)
}

// own checks that a write of a tenure found its own item, alive.
func (k *checker) own(st, before *keyState, q *sentWrite) *tenure {
	t := k.tenure(st.id, q.key, q.client)
	switch {
	case !before.exists || before.id != st.id:
		k.fail(ruleOwnTenure, q.key, "%s %s of %s replaced %s", q.site, q.version, q.client.name, before)
	// an attempt in doubt was applied after all
	case (q.site == siteRelease || q.site == siteFinish || q.site == siteGiveBack) && (before.released || t.ghosts > 0):
	case q.site == siteYield && (before.yielded != "" || t.ghosts > 0): // the same
	case q.site == siteCleanUp && t.ghosts > 0:
	case t.revived && !before.released: // its holder cannot know
	case t.ghosts > 0 && t.lock == nil: // its call is about to get it
	case t.ghosts > 0 && !before.released && q.last < before.at: // sent before the ghost was there: late, too
		k.count.GhostWrites++
	case before.released || t.ended != "":
		k.fail(ruleOver, q.key, "%s %s applied to %s, after its tenure was %s", q.site, q.version, before, t.ended)
	}
	return t
}

// acquired checks the beginning of a tenure.
func (k *checker) acquired(st, before *keyState, q *sentWrite, token uint64, again bool) {
	now, key := k.w.now(), q.key
	t := k.tenure(st.id, key, q.client)
	switch {
	case !before.exists:
		st.stale = now-q.at > maxLate
	case again && before.deleted >= q.at: // see "What is not promised"
	case again:
		k.fail(ruleLate, key, "%s applied once more, to %s", q.version, before)
	case before.released && !slices.Contains(q.seen, before.version) && before.deleted >= q.at && k.ahead(q):
		// the same section: it bears the stamp of the row that was deleted
	case before.released && !slices.Contains(q.seen, before.version):
		// It was admitted for its age. By how much that may be wrong follows from the clocks.
		if w := k.sent[before.version]; w != nil && w.at-q.at > k.off(w)+k.off(q) {
			k.fail(ruleLate, key,
				"%s was sent %v before the release of %s, by clocks that are off by %v and %v at most; stamps %d and %d", q.version,
				w.at-q.at,
				before, k.off(q), k.off(w), number(st.item, "acquiredAt"), number(before.item, "renewedAt"))
		}
	}
	if before.exists && !before.released {
		old := k.tenures[before.id]
		stood := now - before.at
		if w := k.sent[before.version]; before.revived && w != nil { // it was watched before its item was deleted
			stood = now - w.applied
		}
		switch {
		case before.id == st.id:
			k.fail(ruleOwnTenure, key, "%s %s of a lock that it holds as %s", q.site, q.version, before)
		case q.site == siteResume:
			if q.id != before.id+"-" {
				k.fail(ruleOwnTenure, key, "%s resumes %s, which is %s", q.client.name, q.id, before)
			}
			old.overruled = true
			k.end(old, "resumed by "+q.client.name)
			k.count.Resumes++
		case before.yielded != "" && before.yielded == textOf(st.item, "ownerName") &&
			(q.site == siteCampaign || q.site == siteHandOver):
			k.count.Yields++
		case q.offered && old.client == q.client && !old.held():
			k.end(old, "handed over")
			k.count.HandOvers++
		default:
			k.count.TakeOvers++
			k.end(old, "taken over by "+q.client.name)
			need := scale(before.lease, 1/q.client.plan.Clock.Mono)
			if stood < need && !k.w.plan.Beyond && !k.expired(before, q) {
				k.fail(ruleStood, key, "%s took over %s, which stood for %v of a lease of %v", q.client.name, before, stood,
					before.lease)
			}
		}
	}
	// A copy made the item anew after its deletion, with a token of its own: the answer may be that of either.
	another := again && !before.exists && t.token != 0 && t.token != token
	if t.lock == nil && !another { // its caller is still waiting: it begins anew
		t.ended, t.token = "", 0
	}
	st.revived = again
	if t.ended == "deleted" && !before.exists && token == t.token && t.lock.Err() == nil {
		t.revived = true // a late copy made the item anew before its holder could see that it was deleted
		k.count.Revived++
	} else if t.ended != "" { // a request that was delayed beyond its end
		t.ghosts++
		k.count.Ghosts++
		if before.id == st.id {
			k.fail(ruleLate, key, "%s applied to %s after its tenure was %s", q.version, before, t.ended)
		}
	}
	if t.token == 0 {
		t.token, t.begun = token, now
	}
	k.fresh(st, before, q, token)
}

// expired: by the wall clock of who takes it over, the item's expiry lies further back than clocks are apart.
func (k *checker) expired(before *keyState, q *sentWrite) bool {
	if k.w.plan.Skew == 0 {
		return false
	}
	now := q.sentAt.Wall
	for _, s := range q.client.plan.Clock.Steps { // it was looked at before it was taken
		now = now.Add(s.By.Abs())
	}
	ago := now.Sub(time.UnixMilli(int64(number(before.item, "expiresAt"))))
	w := k.sent[before.version]
	return ago > k.w.plan.Skew && (before.yielded != "" || k.w.now()-w.at >= before.lease)
}

// fresh checks the token of a tenure that begins.
func (k *checker) fresh(st, before *keyState, q *sentWrite, token uint64) {
	if before.exists {
		if token <= before.token {
			k.fail(ruleTokens, q.key, "token %d of %s after %d", token, q.client.name, before.token)
		}
		return
	}
	// The item was new, or deleted before: the token is a time. How far it may be off follows from the clocks.
	st.made = q
	now, off := time.Now().UnixMicro(), k.off(q).Microseconds()
	late := (k.w.now() - q.at).Microseconds() // it is the time at which the request was made
	if lead := int64(token) - now; lead > off && token > st.highest+1 {
		// up to there the client may know it from a tenure of its own
		k.fail(ruleTokens, q.key, "token %d of %s is %v ahead of the time", token, q.client.name,
			time.Duration(lead)*time.Microsecond)
	}
	if token <= before.token {
		if int64(before.token) < now-off-late { // what was given of it is raised, see given
			k.fail(ruleTokens, q.key, "token %d of %s after %d, %v after the deletion", token, q.client.name, before.token,
				k.w.now()-before.deleted)
		}
		k.count.TokensBack++
	}
}

// maxLate is how old a token of time may be that somebody is given.
const maxLate = 500 * time.Millisecond

// ahead tells whether a request is stamped further ahead than its client's clock is: as the row that it saw was.
func (k *checker) ahead(q *sentWrite) bool {
	sent := time.Now().Add(q.at - k.w.now())
	return time.Duration(q.made-sent.UnixMilli())*time.Millisecond > k.off(q)
}

// off is how far a client's idea of the service's time may be off: the service tells it in whole seconds and answers
// take time; a process that has had no answer knows its own clock alone, and one whose clock was set learns of it with
// an answer.
func (k *checker) off(q *sentWrite) time.Duration { return q.client.off(q.informed, q.vague) }

func (c *simClient) off(informed bool, vague time.Duration) time.Duration {
	off := 2*time.Second + vague
	for _, s := range c.plan.Clock.Steps {
		off += s.By.Abs()
	}
	if !informed {
		off += c.plan.Clock.Offset.Abs()
	}
	return off
}

func (k *checker) end(t *tenure, how string) {
	if t.ended == "" {
		t.ended = how
	}
}

// healthy: since a while before its last acknowledged write was sent nothing has disturbed its client.
func (t *tenure) healthy() bool {
	c := t.client
	if !t.beats || t.acked == nil || t.releasing || t.overruled || c.closing || c.crashed() || len(c.plan.Sick) > 0 {
		return false
	}
	since := t.acked.at - t.trust - time.Second // that write may have come too late for what was before
	for _, s := range c.plan.Clock.Steps {
		if s.At >= since {
			return false
		}
	}
	return c.disturbed < since && c.clock.paused(since, c.w.now()) == 0
}

func (t *tenure) held() bool { return t.lock != nil && t.lock.Held() }

// given takes note of a lock that a client was given.
func (k *checker) given(c *simClient, l *dynalock.Lock, trust, limit time.Duration, beats bool) *tenure {
	var h struct {
		ID string `json:"i"`
	}
	if b, err := base64.RawURLEncoding.DecodeString(l.Handle()); err != nil || json.Unmarshal(b, &h) != nil {
		k.fail(ruleNil, l.Key(), "%s has a handle that cannot be read: %s", c.name, l.Handle())
	}
	st, t := k.key(l.Key()), k.tenure(h.ID, l.Key(), c)
	k.count.Locks++
	switch {
	case t.token == 0:
		k.fail(ruleNil, l.Key(), "%s was given %s, which was never applied", c.name, h.ID)
	case t.lock != nil:
		k.fail(ruleNil, l.Key(), "%s was given %s a second time", c.name, h.ID)
	case l.Token() != t.token && t.ghosts == 0:
		k.fail(ruleTokenTrue, l.Key(), "%s was given token %d, the item has %d", c.name, l.Token(), t.token)
	}
	switch token := l.Token(); {
	case token > st.given:
		st.given, st.givenTo = token, t
	case t.begun < st.givenTo.begun && token < st.given: // an operator ended it before its caller had the answer
	case st.stale:
		k.count.TokensBack++ // made by a late request after a deletion, and counted on from
	default: // tokens of time, with a deletion between them: as close as clocks are off, whatever the requests took
		ago := time.Now().UnixMicro() - int64(st.given)
		off := c.off(c.answered, c.vague(k.w.now()))
		if first := k.tenures[idOf(st.made.version)]; first.lock == nil { // nobody was given it, so it was not raised
			off = max(off, k.off(st.made))
		}
		if most := off + maxLate + k.w.plan.Lease; st.deletions == 0 || ago > most.Microseconds() {
			k.fail(ruleTokens, l.Key(), "%s was given token %d after %d, %v ago", c.name, token, st.given,
				time.Duration(ago)*time.Microsecond)
		}
		st.stale = true // what counts on from it was judged with it
		k.count.TokensBack++
	}
	if data := string(l.Data()); st.id == t.id && data != st.data && t.ghosts == 0 {
		k.fail(ruleNil, l.Key(), "%s was given %s with data %q, the item has %q", c.name, h.ID, data, st.data)
	}
	t.lock, t.trust, t.limit, t.beats, t.since = l, trust, limit, beats, c.clock.Now()
	st.holders = append(st.holders, t)
	k.look(l.Key())
	return t
}

// look compares what the holders of a key believe with what is true.
func (k *checker) look(key string) {
	st := k.key(key)
	var held *tenure
	st.holders = slices.DeleteFunc(st.holders, func(t *tenure) bool {
		l := t.lock
		done := false
		select {
		case <-l.Done():
			done = true
			k.w.exporter.looked(t, false, k.w.now())
		default:
		}
		if !l.Held() {
			if !done && !t.releasing {
				k.late(t)
			}
			if done && t.ended == "" && errors.Is(l.Err(), heartbeat.ErrGone) {
				k.fail(ruleFalseLoss, key, "%s: %v, but the item shows %s", t.client.name, l.Err(), st)
			}
			if done && t.healthy() && errors.Is(l.Err(), heartbeat.ErrDeadline) {
				k.fail(ruleHealthy, key, "%s: %v", t.client.name, l.Err())
			}
			return done
		}
		if done {
			if t.doneAt == 0 {
				t.doneAt = k.w.now()
			} else if k.w.now() > t.doneAt { // not only on the way from the one to the other
				k.fail(ruleDone, key, "%s holds %s though its Done is closed", t.client.name, t.id)
			}
		}
		if t.client.crashed() { // nobody is there any more to act on it
			return done
		}
		k.w.exporter.looked(t, true, k.w.now())
		if held := t.client.clock.Now().Mono - t.since.Mono; t.limit > 0 && held > t.limit {
			k.fail(ruleLimit, key, "%s holds %s for %v, allowed are %v", t.client.name, t.id, held, t.limit)
		}
		if t.acked == nil {
			k.fail(ruleAcked, key, "%s holds %s, of which nothing was acknowledged", t.client.name, t.id)
		} else if elapsed, _ := t.client.clock.Now().Since(t.acked.sentAt); elapsed > t.trust {
			k.fail(ruleAcked, key, "%s holds %s, last acknowledged for a request sent %v ago, trusted for %v", t.client.name,
				t.id, elapsed, t.trust)
		}
		if t.overruled {
			return false
		}
		if held != nil {
			if !t.overlapped {
				t.overlapped = true
				k.count.Overlaps++
			}
			if !k.w.plan.Beyond {
				k.fail(ruleExclusion, key, "%s holds %s and %s holds %s", held.client.name, held.id, t.client.name, t.id)
			}
		}
		held = t
		if st.id != t.id || st.released {
			if !k.w.plan.Beyond {
				k.fail(ruleInItem, key, "%s holds %s, but the item shows %s", t.client.name, t.id, st)
			}
		}
		return false
	})
	for _, t := range st.working {
		if t.doneSeen == 0 && t.lock.Context().Err() != nil {
			t.doneSeen = k.w.now()
		} else if t.doneSeen > 0 && k.w.now() > t.doneSeen && t.working.Err() == nil {
			k.fail(ruleContext, key, "%s works under %s, which ended before %v", t.client.name, t.id, t.doneSeen)
		}
	}
	k.starving(key, st)
	k.orphaned(key, st)
}

// orphaned checks that a client gives back what it has won for a caller who had gone.
func (k *checker) orphaned(key string, st *keyState) {
	t := k.tenures[st.id]
	if t == nil || st.released || t.lock != nil || t.givenBack || t.call == nil || t.call.over == 0 ||
		st.at > t.call.over || t.client.crashed() {
		return
	}
	if t.pending == 0 && !t.read {
		return // a late copy of a request that was refused began it: nobody has heard of it
	}
	now, c := k.w.now(), t.client
	wait := max(time.Second, 3*k.w.plan.Lease) // the attempt may still be under way
	for _, p := range c.plan.Clock.Pauses {
		if p.At < t.call.over+c.w.plan.Lease && p.end() > t.call.over {
			return // it slept through the lease for which it tries
		}
		if p.At < now {
			wait += p.For
		}
	}
	if now-t.call.over > wait {
		t.givenBack = true
		k.fail(ruleOrphan, key, "%s did not try to give %s back, whose caller has gone at %v", c.name, t.id, t.call.over)
	}
}

// left is for how long the holder may still trust in the lease, by its own clocks.
func (t *tenure) left(now heartbeat.Reading) time.Duration {
	if t.acked == nil {
		return t.trust
	}
	elapsed, _ := now.Since(t.acked.sentAt)
	return t.trust - elapsed
}

// late checks that the news of a loss is not late, by the clocks of the holder. The timers of the scheduler run on one
// of them and stand still while the process is paused; after a step of another one it looks again within a second.
func (k *checker) late(t *tenure) {
	c := t.client
	slack, at, again := 20*time.Millisecond, k.w.now(), scale(1100*time.Millisecond, 1/c.plan.Clock.Mono)
	for _, s := range c.plan.Clock.Steps {
		if s.At <= at && at <= s.At+again {
			slack = again
		}
	}
	for _, p := range c.plan.Clock.Pauses {
		if p.At <= at && at <= p.end()+again {
			slack = again
		}
	}
	now := c.clock.Now()
	left := t.left(now)
	if t.limit > 0 {
		elapsed, _ := now.Since(t.since)
		left = min(left, t.limit-elapsed)
	}
	if len(c.plan.Clock.Steps) > 0 { // the step itself is no time
		left = max(left, t.trust-(now.Mono-t.acked.sentAt.Mono))
	}
	if -left > slack && c.clock.paused(at-2*slack, at) == 0 {
		k.fail(ruleDone, t.key, "%s: Done of %s is open %v after the deadline", c.name, t.id, -left)
	}
}

// starving checks that no waiter waits for a lock that it could have.
func (k *checker) starving(key string, st *keyState) {
	now := k.w.now()
	for _, wait := range k.w.waiting {
		c := wait.client
		if wait.key != key || wait.reported || c.crashed() {
			continue
		}
		if owner := k.tenures[st.id]; owner != nil && owner.client == c && !st.released && owner.lock != nil &&
			owner.lock.Err() == nil {
			continue // a lock of its own is in the way
		}
		since := max(wait.since, st.at)
		if c.disturbed > 0 { // the pause after failures
			since = max(since, c.disturbed+scale(time.Second, 1/c.plan.Clock.Mono))
		}
		for _, t := range c.held { // one of its own is in the way, as long as it has not noticed its end
			if t.key != key {
				continue
			}
			if t.over == 0 {
				if t.lock.Err() == nil {
					since = now
					continue
				}
				t.over = now
			}
			since = max(since, t.over)
		}
		for _, p := range c.plan.Clock.Pauses {
			if c.disturbed > 0 && p.At <= c.disturbed { // the rest of a pause after failures comes after it
				since = max(since, p.end()+scale(time.Second, 1/c.plan.Clock.Mono))
			} else if p.At <= now {
				since = max(since, p.end())
			}
		}
		for _, p := range c.cuts {
			if p.At <= now {
				since = max(since, p.At+p.For)
			}
		}
		for _, s := range c.plan.Sick {
			if wait.patient && s.At <= now {
				since = max(since, s.At+s.For)
			}
		}
		bound := c.plan.MaxPoll + c.plan.MinPoll
		if st.exists && !st.released {
			bound += st.lease
		}
		if wait.patient {
			bound += 2 * c.plan.MaxPoll
		}
		bound = scale(bound, 1/c.plan.Clock.Mono) + 4*k.w.plan.Latency + 30*time.Millisecond
		if now-since > bound {
			wait.reported = true
			k.fail(ruleLive, key, "%s waits undisturbed since %v for %s, which stands since %v", c.name, since, st, st.at)
		}
	}
}

// acknowledged takes note of an answer that shows a version as applied.
func (k *checker) acknowledged(version string) {
	q := k.sent[version]
	if q == nil {
		return
	}
	t := k.tenure(idOf(version), q.key, q.client)
	if t.acked == nil || q.at > t.acked.at {
		t.acked = q
	}
}
