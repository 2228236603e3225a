package dynalock_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// simPlan is one schedule: everything that is decided before it runs. It follows from the seed alone.
type simPlan struct {
	Seed    uint64
	Lease   time.Duration
	Latency time.Duration // of one way, at most
	Keys    int
	// between two looks at all locks; 0: only at writes and calls, since looking is itself an influence
	Monitor  time.Duration
	Skew     time.Duration // how far wall clocks are from real time, at most, where clients rely on it; 0: they do not
	Jobs     []jobPlan
	Votes    int           // elections
	Gates    time.Duration // how often the gates that some guarded writes ask for open or close; 0: they stay open
	Clients  []clientPlan
	Operator clientPlan
	Faults   faultPlan
	Beyond   bool // the clocks go beyond the assumption
}

// clientPlan is one process on a machine of its own. A restart is another one that starts later.
type clientPlan struct {
	Clock              clockPlan
	Start, Crash       time.Duration // Crash: all further requests are lost for ever; 0: never
	CrashSite          site          // it crashes with the CrashNth request of this call site, which is still sent or not
	CrashNth           int
	CrashSent          bool
	CutSite            site // it is cut off for a while from the CutNth request of this call site on
	CutNth             int
	Cut                partition
	Close              time.Duration // 0: when everybody is done
	Partitions         []partition
	Heartbeat, Attempt time.Duration
	Margin             time.Duration // 0: the default
	MinPoll, MaxPoll   time.Duration
	Dynamolock         bool // writes leases in the other dialect
	Retention          time.Duration
	Sick               []sickness
	Actors             [][]action
}

type partition struct {
	At, For time.Duration
	Answers bool // only the answers are lost
}

// action is one call of a goroutine of a client, and what it does with the lock.
type action struct {
	Wait, Timeout time.Duration
	Op            opKind
	Key           string
	Lease         time.Duration // 0: the client's
	NoHeartbeat   bool
	MaxHold       time.Duration
	Delete, Data  bool
	Hold          []step
	End           endKind
	To            int // the client that resumes

	// Of Once and of a leader.
	NoWait    bool
	Stay      time.Duration // how long the function goes on after the steps
	Linger    time.Duration // and after the end of its context
	Fails     mishap
	Candidate string // whose election is asked, or who is to lead
}

type opKind string

const (
	opAcquire opKind = "Acquire"
	opTry     opKind = "TryAcquire"
	opDo      opKind = "Do"
	opGet     opKind = "Get"
	opRecords opKind = "Records"
	opForce   opKind = "ForceRelease"
	opDelete  opKind = "delete the item"

	opOnce    opKind = "Once"
	opPause   opKind = "Pause"
	opUnpause opKind = "Unpause"
	opRuns    opKind = "Runs"

	opLead     opKind = "Run"
	opHandOver opKind = "HandOver"
	opResign   opKind = "Resign"
	opLeader   opKind = "Leader"
	opObserve  opKind = "Observe"
)

// step is something done while the lock is held, after Wait. Pause lies between the check, or the read, and the use.
type step struct {
	Op          stepKind
	Wait, Pause time.Duration
	Timeout     time.Duration
	Gate        bool // it asks for the gate to be open, too
}

type stepKind string

const (
	stepCheck    stepKind = "check"
	stepRenew    stepKind = "Renew"
	stepSetData  stepKind = "SetData"
	stepFenced   stepKind = "guarded write"
	stepUnfenced stepKind = "unguarded write"
)

type endKind string

const (
	endRelease   endKind = "Release"
	endCancelled endKind = "Release with an ended context"
	endLeave     endKind = "left to its lease"
	endResume    endKind = "Resume elsewhere"
)

// dice are the random decisions of a schedule.
type dice struct{ *rand.Rand }

func newDice(seed, stream uint64) dice { return dice{rand.New(rand.NewPCG(seed, stream))} }

func (d dice) chance(p float64) bool { return d.Float64() < p }

// upTo is a duration, small ones as likely as large ones.
func (d dice) upTo(limit time.Duration) time.Duration {
	return time.Duration(float64(limit) * d.Float64() * d.Float64())
}

func (d dice) between(low, high time.Duration) time.Duration {
	return low + time.Duration(float64(high-low)*d.Float64())
}

func (d dice) rate(low, high float64) float64 { return low + (high-low)*d.Float64() }

func pick[T any](d dice, of ...T) T { return of[d.IntN(len(of))] }

// The assumption about clocks: rates within these bounds, a ratio of 1.17 where the margin allows 1.25.
const slowest, fastest = 0.92, 1.08

// newPlan makes the schedule of a seed.
func newPlan(seed uint64) *simPlan {
	d := newDice(seed, 1)
	p := &simPlan{Seed: seed, Lease: pick(d, 200*time.Millisecond, time.Second, time.Second, 3*time.Second)}
	p.Latency = d.between(100*time.Microsecond, min(p.Lease/50, 10*time.Millisecond))
	p.Keys = pick(d, 1, 1, 1, 2, 2, 3, 4)
	if d.chance(0.6) {
		p.Monitor = d.between(p.Lease/200, p.Lease/10)
	}
	if d.chance(0.2) {
		p.Skew = d.between(p.Lease/20, 2*p.Lease)
	}
	p.Faults = newFaultPlan(d, p.Lease)
	if d.chance(0.4) {
		p.Jobs = newJobPlans(d, p)
	}
	if d.chance(0.4) {
		p.Votes = pick(d, 1, 1, 2)
	}
	for range pick(d, 2, 2, 3, 3, 4, 4, 5, 6, 8) {
		p.Clients = append(p.Clients, newClientPlan(d, p))
	}
	if gates := newDice(seed, 3); gates.chance(0.3) {
		p.Gates = gates.between(p.Lease/50, p.Lease)
	}
	rest := newDice(seed, 2)
	for i := range p.Clients {
		if c := &p.Clients[i]; rest.chance(0.2) { // as the assumption about clocks needs at least
			c.Margin = rest.between(p.Lease/5, min(p.Lease/2, p.Lease-c.Heartbeat*4/3))
		}
	}
	candidates := p.candidates()
	for i := range p.Clients { // who resumes, and who may lead, is known only now
		for _, actor := range p.Clients[i].Actors {
			for j := range actor {
				actor[j].To = d.IntN(len(p.Clients))
				if actor[j].Op == opHandOver {
					actor[j].Candidate = pick(d, append(candidates, "nobody")...)
				}
			}
		}
	}
	p.Operator = newOperatorPlan(d, p)
	return p
}

// newOperatorPlan is of an operator who sometimes frees locks by force or deletes items.
func newOperatorPlan(d dice, p *simPlan) clientPlan {
	c := clientPlan{Clock: clockPlan{Mono: 1, Wall: 1}, MinPoll: p.Lease / 100, MaxPoll: p.Lease}
	if !d.chance(0.5) {
		return c
	}
	var actor []action
	for range 1 + d.IntN(3) {
		act := action{
			Wait: d.upTo(4 * p.Lease), Op: pick(d, opForce, opForce, opForce, opDelete), Key: keyName(d.IntN(p.Keys)),
			Timeout: p.Lease,
			Hold:    []step{{Wait: d.upTo(p.Lease)}},
		}
		if act.Op == opForce {
			act.Key = pick(d, p.keys()...)
		}
		actor = append(actor, act)
	}
	c.Actors = [][]action{actor}
	if d.chance(0.3) {
		c.Partitions = []partition{{d.upTo(2 * p.Lease), d.upTo(6 * p.Lease), d.chance(0.5)}}
	}
	if d.chance(0.15) {
		c.CrashSite, c.CrashSent = siteForce, d.chance(0.5)
	}
	return c
}

// newDriftPlan lets the clocks run apart by 20 % and more in each direction, beyond the assumption, and cuts clients
// off for about a lease, so that the difference shows.
func newDriftPlan(seed uint64) *simPlan {
	p, d := newContest(seed)
	p.Beyond = true
	for i := range p.Clients {
		c := &p.Clients[i]
		rate := pick(d, d.rate(0.7, 0.8), d.rate(1.2, 1.3))
		c.Clock.Mono, c.Clock.Wall = rate, rate
		for at := d.upTo(p.Lease); at < 2*p.horizon(); at += d.between(p.Lease*2, 4*p.Lease) {
			c.Partitions = append(c.Partitions, partition{At: at, For: d.between(p.Lease, p.Lease*3/2)})
		}
		for _, actor := range c.Actors {
			for j := range actor { // it holds for long, so that it is cut off while it does
				actor[j].Hold = append([]step{{Op: stepCheck, Wait: d.between(p.Lease, 2*p.Lease)}}, actor[j].Hold...)
			}
		}
	}
	return p
}

// newPausePlan has processes stop between the check, or the read, and the use.
func newPausePlan(seed uint64) *simPlan { return newPausesPlan(seed, stopped, suspended) }

// newUntracedPlan has them stop without any of their clocks showing it, which is beyond the assumption.
func newUntracedPlan(seed uint64) *simPlan {
	p := newPausesPlan(seed, untraced)
	p.Beyond = true
	return p
}

func newPausesPlan(seed uint64, kinds ...pauseKind) *simPlan {
	p, d := newContest(seed)
	for i := range p.Clients {
		c := &p.Clients[i]
		for at := d.upTo(p.Lease); at < p.horizon(); {
			pz := pause{at, d.between(p.Lease, p.Lease*2), pick(d, kinds...)}
			c.Clock.Pauses = append(c.Clock.Pauses, pz)
			at = pz.end() + d.between(p.Lease/2, 3*p.Lease)
		}
	}
	return p
}

// newContest has clients take turns on one key and add to its registers, with few faults.
func newContest(seed uint64) (*simPlan, dice) {
	d := newDice(seed, 2)
	p := &simPlan{Seed: seed, Lease: time.Second, Latency: 2 * time.Millisecond, Keys: 1, Monitor: 20 * time.Millisecond}
	p.Faults = newFaultPlan(d, p.Lease)
	p.Faults.Rate = 0.02
	for range 2 + d.IntN(3) {
		c := clientPlan{Clock: clockPlan{Mono: 1, Wall: 1}, MinPoll: p.Lease / 100, MaxPoll: p.Lease / 5}
		var actor []action
		for range 4 {
			actor = append(actor, action{
				Op: opAcquire, Key: keyName(0), Wait: d.upTo(p.Lease / 4), Timeout: 5 * p.Lease, End: endRelease,
				Hold: []step{
					{Op: stepUnfenced, Wait: d.upTo(p.Lease / 2), Pause: d.upTo(p.Lease / 2), Timeout: 4 * p.Lease},
					{Op: stepFenced, Wait: d.upTo(p.Lease / 2), Pause: d.upTo(p.Lease / 2), Timeout: 4 * p.Lease},
				},
			})
		}
		c.Actors = [][]action{actor}
		p.Clients = append(p.Clients, c)
	}
	p.Operator = clientPlan{Clock: clockPlan{Mono: 1, Wall: 1}, MinPoll: p.Lease / 100, MaxPoll: p.Lease}
	return p, d
}

// horizon is about how long a schedule goes on.
func (p *simPlan) horizon() time.Duration { return 10 * p.Lease }

func newClientPlan(d dice, p *simPlan) clientPlan {
	c := clientPlan{MinPoll: p.Lease / 100, MaxPoll: d.between(p.Lease/20, p.Lease), Dynamolock: d.chance(0.1)}
	if d.chance(0.1) {
		c.Retention = time.Hour
	}
	if d.chance(0.3) {
		c.Heartbeat = d.between(p.Lease/10, p.Lease*11/20)
	}
	if d.chance(0.3) {
		c.Attempt = d.between(p.Lease/20, p.Lease/2)
	}
	if d.chance(0.2) {
		c.Start = d.upTo(p.horizon() / 2)
	}
	c.Clock = newClockPlan(d, p)
	if d.chance(0.12) {
		c.Close = d.between(p.Lease, p.horizon())
	}
	if d.chance(0.25) {
		for range 1 + d.IntN(2) {
			c.Partitions = append(c.Partitions, partition{d.upTo(p.horizon() / 2), d.upTo(3 * p.Lease), d.chance(0.3)})
		}
	}
	if len(p.Jobs)+p.Votes == 0 || d.chance(0.5) {
		for range pick(d, 1, 1, 1, 2, 3) {
			c.Actors = append(c.Actors, newActor(1+d.IntN(4), func() action { return newAction(d, p) }))
		}
	}
	if len(p.Jobs) > 0 && d.chance(0.8) {
		c.Actors = append(c.Actors, newActor(1+d.IntN(4), func() action { return newRun(d, p) }))
	}
	if p.Votes > 0 && d.chance(0.8) {
		newCandidates(d, p, &c)
	}
	switch {
	case d.chance(0.15):
		c.Crash = d.between(p.Lease/20, p.horizon()/2)
	case d.chance(0.2):
		c.CrashSite, c.CrashNth, c.CrashSent = c.site(d), pick(d, 0, 0, 1), d.chance(0.5)
	}
	if d.chance(0.15) {
		c.CutSite, c.CutNth, c.Cut = c.site(d), pick(d, 0, 0, 1), partition{For: d.upTo(2 * p.Lease), Answers: d.chance(0.3)}
	}
	return c
}

// site is one of those that the client will ask from, the rare ones as likely as others.
func (c *clientPlan) site(d dice) site {
	var ops []opKind
	for _, actor := range c.Actors {
		for _, act := range actor {
			if !slices.Contains(ops, act.Op) {
				ops = append(ops, act.Op)
			}
		}
	}
	if len(ops) == 0 {
		return siteAcquire
	}
	return pick(d, opSites[pick(d, ops...)]...)
}

var lockSites = []site{
	siteAcquire, siteTakeOver, siteHandOver, siteResume, siteBeat, siteRenew, siteSetData, siteTransact, siteRelease,
	siteCleanUp, sitePoll,
}

var opSites = map[opKind][]site{
	opAcquire: lockSites, opTry: lockSites, opDo: lockSites, opGet: {siteGet}, opRecords: {siteList},
	opOnce:  {siteLook, sitePeriod, siteStart, siteClaim, siteFinish, siteGiveBack, siteCleanUp},
	opPause: {sitePause}, opUnpause: {siteUnpause}, opRuns: {siteRuns},
	opLead:     {siteCampaign, siteYield, siteYield, siteBeat, siteRelease},
	opHandOver: {siteLeader, siteSuccessor, siteSuccessor}, opResign: {siteRelease}, opLeader: {siteLeader},
	opObserve: {siteObserve},
}

func newActor(calls int, one func() action) (actor []action) {
	for range calls {
		actor = append(actor, one())
	}
	return actor
}

func newClockPlan(d dice, p *simPlan) clockPlan {
	c := clockPlan{Mono: 1, Wall: 1}
	if d.chance(0.8) {
		c.Mono = d.rate(slowest, fastest)
		c.Wall = min(max(c.Mono*d.rate(11./12, 13./12), slowest), fastest) // slewed, at most as chrony does
	}
	c.NoBoot = d.chance(0.2)
	if d.chance(0.3) {
		at := time.Duration(0)
		for range 1 + d.IntN(2) {
			at += d.between(p.Lease/20, p.horizon()/2)
			pz := pause{at, d.upTo(3 * p.Lease), pick(d, stopped, stopped, suspended)}
			c.Pauses = append(c.Pauses, pz)
			at = pz.end()
		}
	}
	if p.Skew > 0 { // the clients rely on the wall clocks
		c.Wall, c.Offset = d.rate(0.999, 1.001), d.between(-p.Skew/4, p.Skew/4)
		if d.chance(0.3) {
			c.Steps = []wallStep{{d.upTo(p.horizon()), d.between(-p.Skew/8, p.Skew/8)}}
		}
	} else {
		c.Offset = pick(d, 0, d.between(-time.Second, time.Second), d.between(-5*time.Minute, 5*time.Minute))
		if d.chance(0.3) {
			for range 1 + d.IntN(3) {
				c.Steps = append(c.Steps,
					wallStep{d.upTo(p.horizon()), pick(d, d.between(-p.Lease, p.Lease), d.between(-time.Minute, time.Minute))})
			}
			slices.SortFunc(c.Steps, func(a, b wallStep) int { return int(a.At - b.At) })
		}
		apart := 5 * time.Minute // DynamoDB answers nobody whose clock is further off
		for _, s := range c.Steps {
			apart -= s.By.Abs()
		}
		c.Offset = min(max(c.Offset, -apart), apart)
	}
	if c.NoBoot { // a clock set back would hide a suspension from every clock
		for _, s := range c.Steps {
			if s.By < 0 {
				c.NoBoot = false
			}
		}
	}
	return c
}

func newAction(d dice, p *simPlan) action {
	a := action{
		Op: pick(d, opAcquire, opAcquire, opAcquire, opAcquire, opTry, opTry, opDo), Key: keyName(d.IntN(p.Keys)),
		Wait: d.upTo(2 * p.Lease), Timeout: d.between(p.Lease/2, 6*p.Lease),
	}
	switch {
	case d.chance(0.1):
		a.Op = pick(d, opGet, opRecords)
	case d.chance(0.1):
		a.Timeout = d.upTo(p.Lease / 5) // cancelled early
	}
	a.NoHeartbeat, a.Delete, a.Data = d.chance(0.15), d.chance(0.1), d.chance(0.2)
	if d.chance(0.1) {
		a.MaxHold = d.between(p.Lease/10, 3*p.Lease)
	}
	if d.chance(0.2) {
		a.Lease = d.between(p.Lease/8, 2*p.Lease).Truncate(time.Millisecond)
		a.Lease = max(a.Lease, 100*time.Millisecond)
	}
	a.Hold = newSteps(d, p)
	if a.Op == opDo {
		newFunction(d, p, &a)
	}
	switch {
	case d.chance(0.1):
		a.End = endCancelled
	case d.chance(0.1):
		a.End = endResume
	case (a.NoHeartbeat || a.MaxHold > 0) && d.chance(0.3):
		a.End = endLeave
	default:
		a.End = endRelease
	}
	return a
}

func newSteps(d dice, p *simPlan) (steps []step) {
	for range d.IntN(4) {
		st := step{
			Op: pick(d, stepCheck, stepRenew, stepSetData, stepFenced, stepFenced, stepUnfenced), Wait: d.upTo(p.Lease),
			Timeout: d.between(p.Lease/10, 2*p.Lease),
		}
		if d.chance(0.5) {
			st.Pause = d.upTo(p.Lease / 2)
		}
		st.Gate = st.Timeout%2 == 0 // not one of the dice: schedules stay what they were
		steps = append(steps, st)
	}
	return steps
}

// newFunction decides how a function under a lock ends.
func newFunction(d dice, p *simPlan, a *action) {
	if d.chance(0.3) {
		a.Stay = d.upTo(3 * p.Lease)
	}
	if d.chance(0.3) {
		a.Linger = d.upTo(p.Lease)
	}
	if d.chance(0.2) {
		a.Fails = failsWithError
	}
}

// mishap is how a function under a lock fails.
type mishap string

const (
	failsWithError mishap = "error"
	panics         mishap = "panic"
)

// keys are those of all locks: plain ones, of the periods of jobs, and of elections.
func (p *simPlan) keys() (keys []string) {
	for i := range p.Keys {
		keys = append(keys, keyName(i))
	}
	for i, j := range p.Jobs {
		for n := range j.Periods {
			keys = append(keys, periodName(i, n))
		}
	}
	for i := range p.Votes {
		keys = append(keys, voteName(i))
	}
	return keys
}

func keyName(i int) string { return "k" + strconv.Itoa(i) }
