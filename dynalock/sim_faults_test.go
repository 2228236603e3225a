package dynalock_test

import (
	"fmt"
	"hash/fnv"
	"time"
)

// site is where in the library a request comes from.
type site string

const (
	siteAcquire  site = "acquire"
	siteTakeOver site = "take-over"
	siteHandOver site = "hand-over"
	siteResume   site = "resume"
	siteBeat     site = "heartbeat"
	siteRenew    site = "renew"
	siteSetData  site = "set data"
	siteTransact site = "transact"
	siteRelease  site = "release"
	siteCleanUp  site = "clean-up"
	siteForce    site = "force release"
	sitePoll     site = "poll"
	siteGet      site = "get"
	siteList     site = "list"

	siteLook     site = "look at job"
	sitePeriod   site = "look at period"
	siteStart    site = "start job"
	siteClaim    site = "claim"
	siteFinish   site = "finish"
	siteGiveBack site = "give back"
	sitePause    site = "pause"
	siteUnpause  site = "unpause"
	siteRuns     site = "list runs"

	siteCampaign  site = "campaign"
	siteSuccessor site = "ask to hand over"
	siteYield     site = "stand down"
	siteLeader    site = "leader"
	siteObserve   site = "observe"

	siteApp site = "application" // the program's own requests: no faults but the client's
)

var sites = []site{
	siteAcquire, siteTakeOver, siteHandOver, siteResume, siteBeat, siteRenew, siteSetData, siteTransact, siteRelease,
	siteCleanUp, siteForce, sitePoll, siteGet, siteList,
	siteLook, sitePeriod, siteStart, siteClaim, siteFinish, siteGiveBack, sitePause, siteUnpause, siteRuns,
	siteCampaign, siteSuccessor, siteYield, siteLeader, siteObserve,
}

// begins tells the sites whose writes begin a tenure.
func (s site) begins() bool {
	switch s {
	case siteAcquire, siteTakeOver, siteHandOver, siteResume, siteClaim, siteCampaign:
		return true
	}
	return false
}

// ends tells those that give a lock up.
func (s site) ends() bool {
	return s == siteRelease || s == siteFinish || s == siteGiveBack || s == siteYield
}

// fault is what happens to one request.
type fault string

const (
	healthy     fault = ""
	lostRequest fault = "request lost"
	lostAnswer  fault = "answer lost"
	resetBefore fault = "reset before"
	resetAfter  fault = "reset after"
	errorBefore fault = "500 before"
	errorAfter  fault = "500 after"
	unavailable fault = "503 before"
	throttled   fault = "throttled"
	conflicting fault = "conflict"
	denied      fault = "denied"
	misanswered fault = "applied, refused" // applied, and answered with a refusal, as by a proxy that repeats
	estranged   fault = "stranger"         // somebody else answers, whose clock is far off
	lateRequest fault = "request late"
	lateAnswer  fault = "answer late"
	duplicated  fault = "duplicated"
	stale       fault = "stale read"
	cutOff      fault = "partitioned" // by the client's partition, not by its own fate
	dead        fault = "crashed"     // the client has crashed
)

var faults = []fault{
	lostRequest, lostAnswer, resetBefore, resetAfter, errorBefore, errorAfter, unavailable, throttled, conflicting,
	denied, misanswered, estranged, lateRequest, lateAnswer, duplicated, stale, cutOff, dead,
}

// firstOfClient is where the faults begin that are not a request's own.
const firstOfClient = 16

// rare call sites meet faults more often than others, so that every one of them meets every fault.
var rare = map[site]bool{
	siteHandOver: true, siteResume: true, siteForce: true, siteGet: true, siteList: true, siteRenew: true,
	sitePeriod: true, siteStart: true, siteFinish: true, siteGiveBack: true, sitePause: true, siteUnpause: true,
	siteRuns:      true,
	siteSuccessor: true, siteYield: true, siteLeader: true,
}

// possible tells which faults a call site can meet.
func possible(s site, f fault) bool {
	read := false
	switch s {
	case sitePoll, siteGet, siteList, siteLook, sitePeriod, siteRuns, siteLeader, siteObserve:
		read = true
	}
	switch f {
	case stale: // only eventually consistent reads
		return s == sitePoll || s == sitePeriod || s == siteObserve
	case conflicting, misanswered:
		return !read
	case duplicated: // of a read nobody notices
		return !read
	}
	return true
}

// faultPlan decides the fate of every request of a schedule.
type faultPlan struct {
	Seed  uint64
	Rate  float64       // the share of requests that a fault hits
	Kinds []fault       // the faults of this schedule
	Late  time.Duration // the longest delay
	Spare map[string]bool
}

func newFaultPlan(d dice, lease time.Duration) faultPlan {
	p := faultPlan{Seed: d.Uint64(), Rate: pick(d, 0, 0.02, 0.1, 0.1, 0.3, 0.5), Late: 10 * lease}
	if d.chance(0.2) {
		p.Late = oldest
	}
	own := faults[:firstOfClient]
	for _, f := range own {
		if d.chance(0.5) {
			p.Kinds = append(p.Kinds, f)
		}
	}
	if d.chance(0.2) { // few kinds, often: where two of them conspire
		p.Kinds = []fault{pick(d, own...), pick(d, own...), pick(d, lateRequest, duplicated, lostAnswer)}
	}
	return p
}

// oldest is how old a request is at most when it arrives: DynamoDB refuses older ones.
const oldest = 5*time.Minute - time.Second

// refusals are what a request that was applied may be answered with.
var refusals = []string{
	"ProvisionedThroughputExceededException", "ThrottlingException", "TransactionConflictException",
	"TransactionInProgressException",
	"ExpiredTokenException", "AccessDeniedException", "UnrecognizedClientException",
}

// fate is what happens to one request. It depends on the seed, the client, the call site and the number of the request
// alone, so that a schedule repeats as well as the library's own jitter allows.
type fate struct {
	fault       fault
	there, back time.Duration // the ways of the request and of its answer
	again       time.Duration // when a duplicate arrives after the first
	code        string        // of the refusal
	off         time.Duration // of the clock of a stranger
	name        string
}

func (p *simPlan) fate(client string, s site, n int) fate {
	f := fate{name: fmt.Sprintf("%s/%s/%d", client, s, n)}
	h := fnv.New64a()
	fmt.Fprint(h, f.name)
	d := newDice(p.Faults.Seed, h.Sum64())
	f.there, f.back = d.between(p.Latency/10, p.Latency), d.between(p.Latency/10, p.Latency)
	rate, kinds := p.Faults.Rate, p.Faults.Kinds
	if rare[s] && rate > 0 {
		rate, kinds = max(rate, 0.5), faults[:firstOfClient]
	}
	if s == siteApp || len(kinds) == 0 || !d.chance(rate) {
		return f
	}
	kind := pick(d, kinds...)
	delay := pick(d, d.upTo(p.Lease/4), d.upTo(p.Lease*2), d.upTo(p.Faults.Late))
	if !possible(s, kind) || p.Faults.Spare[f.name] {
		return f
	}
	f.fault = kind
	switch kind {
	case lateRequest:
		f.there += delay
	case lateAnswer:
		f.back += delay
	case duplicated:
		f.again = delay
	case misanswered:
		f.code = pick(d, refusals...)
	case estranged:
		f.off = pick[time.Duration](d, -1, 1, 1) * d.between(time.Minute, 365*24*time.Hour)
	}
	return f
}
