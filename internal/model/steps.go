package model

import "fmt"

// Act is what happens in a step.
type Act uint8

// The acts. Who is the client, or the number of the stray.
const (
	Tick          Act = iota // real time passes
	Call                     // Acquire is called, and sends its first request
	Retry                    // the next attempt of an acquisition or release is sent
	LookAgain                // an acquisition looks at the item
	GiveUp                   // the caller of Acquire has waited long enough
	Heartbeat                // is sent
	LetGo                    // Release is called
	Drop                     // a lock that is lost, or whose release failed, is forgotten
	Guard                    // the register is read, and a guarded write of it is sent
	Arrive                   // the request arrives
	ArriveTwice              // the request arrives, and a copy of it stays behind
	Answer                   // the answer arrives
	InDoubt                  // the client gives up on the request
	GuardedArrive            // the guarded write arrives
	StrayArrives
	ArriveOld // the request arrives, and is older than the release that it meets, by the clocks
	StrayArrivesOld
	Crash
	Overrule // an operator frees the lock
)

// Step is one transition.
type Step struct {
	Act Act
	Who int
}

// Violation is what must not be.
type Violation struct{ Rule, Text string }

func (v *Violation) Error() string { return v.Rule + ": " + v.Text }

// The rules, numbered as in the protocol.
const (
	RuleExclusion = "I1: no two acquisitions are held at the same time"
	RuleTokens    = "I2: tokens increase in the order in which the writes applied"
	RuleTakeOver  = "I4: a take-over is applied only where the version stood still for the whole lease"
	RuleRelease   = "I5: a release changes its own tenure only, and nil means that the item is not held by it"
	RuleOver      = "I6: after a release or a successor's acquire, no write of the old tenure applies"
	RuleLate      = "a late copy of an acquire begins no tenure"
	RuleTruth     = "a holder is told that its lock is lost only when it is"
	RuleUpdates   = "a guarded write loses no update"
)

// Start is the state in which nothing has happened.
func (m *Model) Start() State {
	return State{Faults: m.Faults, Crashes: m.Crashes, Operators: m.Operators}
}

// Held reports whether a client's Held is true.
func (m *Model) Held(s *State, i int) bool {
	c := &s.Clients[i]
	return c.Phase == Holding && !c.Over
}

// Enabled appends the steps that may come next.
func (m *Model) Enabled(s *State, steps []Step) []Step {
	add := func(ok bool, act Act, who int) {
		if ok {
			steps = append(steps, Step{act, who})
		}
	}
	tick := true
	for i := range m.Rates {
		c := &s.Clients[i]
		if c.Phase == Crashed {
			add(c.Guarded.ID != 0, GuardedArrive, i)
			continue
		}
		r := &c.Request
		free := r.Kind == 0
		tick = tick && (free || r.Age < m.Attempt)
		fault := s.Faults > 0
		add(c.Phase == Idle, Call, i)
		add(free && (c.Phase == Acquiring && !c.Looks || c.Phase == Releasing), Retry, i)
		add(free && c.Phase == Acquiring && c.Looks, LookAgain, i)
		add(free && c.Phase == Acquiring, GiveUp, i)
		add(free && m.Held(s, i), Heartbeat, i)
		add(free && c.Phase == Holding, LetGo, i)
		add(free && (c.Phase == Holding && c.Over || c.Phase == Releasing), Drop, i)
		add(m.Guarded && m.Held(s, i) && c.Guarded.ID == 0, Guard, i)
		add(r.Progress == Sent, Arrive, i)
		add(r.Progress == Sent && fault, ArriveTwice, i)
		add(r.Progress == Sent && s.mayBeOld(r.Write), ArriveOld, i)
		add(r.Progress > Sent, Answer, i)
		add(!free && fault, InDoubt, i)
		add(c.Guarded.ID != 0, GuardedArrive, i)
		add(s.Crashes > 0, Crash, i)
	}
	for i := range s.Stray {
		add(s.Stray[i].Kind != 0, StrayArrives, i)
		add(s.mayBeOld(s.Stray[i]), StrayArrivesOld, i)
	}
	add(s.Operators > 0 && s.Item.Held(), Overrule, 0)
	add(tick, Tick, 0)
	return steps
}

// mayBeOld reports whether the clocks decide about a write: it meets a release, and was not applied before.
func (s *State) mayBeOld(w Write) bool {
	return w.Kind == Acquire && s.Item.Released && !w.Used && w.Admit != s.Item.Version
}

// Do makes a step, and tells which rule it broke.
func (m *Model) Do(s *State, step Step) *Violation {
	if v := m.do(s, step); v != nil {
		return v
	}
	if !s.Item.Held() || !s.known(s.Item.Version) {
		s.Item.Age = 0
	}
	held := -1
	for i := range m.Rates {
		if !m.Held(s, i) || s.Clients[i].Token == s.Overruled && s.Overruled != 0 {
			continue // an operator's word ends a tenure before its holder knows
		}
		if held >= 0 {
			return &Violation{RuleExclusion, fmt.Sprintf("clients %s and %s", name(held), name(i))}
		}
		held = i
	}
	return nil
}

func (m *Model) do(s *State, step Step) *Violation {
	i := step.Who
	if step.Act == StrayArrives || step.Act == StrayArrivesOld {
		w := s.Stray[i]
		w.Old = step.Act == StrayArrivesOld
		applied, v := m.arrive(s, w)
		if w.Kind != CleanUp || applied { // a clean-up is repeated until it is applied
			s.Stray[i] = Write{}
		}
		return v
	}
	c := &s.Clients[i]
	r := &c.Request
	switch step.Act {
	case Tick:
		m.tick(s)
	case Call:
		s.Last++
		c.Phase, c.ID = Acquiring, s.Last
		if c.Watch.ID != 0 && m.dead(i, c.Still) {
			c.Admit = c.Watch
		}
		m.acquire(c, i)
	case Retry:
		if c.Phase == Releasing {
			c.release()
		} else {
			m.acquire(c, i)
		}
	case LookAgain:
		m.judge(c, i, Request{Saw: s.Item})
	case GiveUp:
		if c.Unclear {
			s.stray(Write{Kind: CleanUp, Version: Version{c.ID, c.N + 1}})
		}
		c.idle()
	case Heartbeat:
		c.send(Write{Kind: Beat, Open: c.Open, Token: c.Token})
	case LetGo:
		if c.Gone {
			c.idle()
		} else {
			c.Phase, c.Over, c.Credit, c.Unclear = Releasing, false, 0, false
			c.release()
		}
	case Drop:
		c.idle()
	case Guard:
		c.Guarded = Guarded{ID: c.ID, Token: c.Token}
	case GuardedArrive:
		return m.guardedArrives(s, i)
	case Arrive, ArriveTwice, ArriveOld:
		w := r.Write
		w.Old = step.Act == ArriveOld
		if step.Act == ArriveTwice {
			s.Faults--
			s.stray(r.Write)
		}
		applied, v := m.arrive(s, w)
		if v != nil {
			return v
		}
		if r.Progress = Refused; applied {
			r.Progress = Applied
		}
		r.Saw = s.Item
		r.Saw.Age = 0
	case Answer:
		answered := *r
		*r = Request{}
		return m.answer(s, i, answered)
	case InDoubt:
		s.Faults--
		lost := *r
		*r = Request{}
		if lost.Progress == Sent {
			s.stray(lost.Write)
		}
		m.inDoubt(c, i, lost)
	case Crash:
		s.Crashes--
		if r.Progress == Sent {
			s.stray(r.Write)
		}
		*c = Client{Phase: Crashed, Guarded: c.Guarded}
	case Overrule:
		s.Last++
		s.Operators--
		s.Overruled = s.Item.Token
		_, v := m.arrive(s, Write{Kind: Force, Version: Version{s.Last, 1}, Tenure: s.Item.Version.ID})
		return v
	}
	return nil
}

// known reports whether somebody knows a version from the item.
func (s *State) known(v Version) bool {
	for i := range s.Clients {
		if c := &s.Clients[i]; c.Watch == v || c.Admit == v || c.Request.Admit == v || c.Request.Saw.Version == v {
			return true
		}
	}
	for i := range s.Stray {
		if s.Stray[i].Admit == v {
			return true
		}
	}
	return false
}

// tick lets real time pass. Ages stop where they decide nothing any more.
func (m *Model) tick(s *State) {
	longest := m.longest()
	older := func(age *uint8) { *age = min(*age+1, longest) }
	older(&s.Item.Age)
	for i := range m.Rates {
		c := &s.Clients[i]
		if c.Watch.ID != 0 {
			older(&c.Still)
		}
		for j := range c.Doubt {
			if c.Doubt[j].N != 0 {
				older(&c.Doubt[j].Age)
			}
		}
		if c.Request.Kind != 0 {
			older(&c.Request.Age)
		}
		if c.Phase == Acquiring || c.Phase == Confirming {
			older(&c.First)
		}
		if c.Phase == Confirming || m.Held(s, i) {
			older(&c.Credit)
		}
		m.expire(c, i)
	}
}

// expire ends a lease that is trusted no longer. It does not come back.
func (m *Model) expire(c *Client, i int) {
	if c.Phase == Holding && (c.Over || !m.trusted(i, c.Credit)) {
		c.Over, c.Credit = true, 0
	}
}

// arrive has DynamoDB decide about a write.
func (m *Model) arrive(s *State, w Write) (applied bool, v *Violation) {
	was := s.Item
	next, ok := m.decide(was, w)
	if !ok {
		return false, nil
	}
	s.Item = next
	s.used(w)
	fail := func(rule, format string, args ...any) (bool, *Violation) {
		return true, &Violation{rule, fmt.Sprintf(format, args...)}
	}
	own := was.Version.ID == w.Version.ID && was.Token == w.Token
	switch w.Kind {
	case Acquire:
		switch {
		case next.Token <= was.Token:
			return fail(RuleTokens, "token %d after %d", next.Token, was.Token)
		case w.Used:
			return fail(RuleLate, "%v on an item that is %s", w, was)
		case was.Held() && int(w.Rate)*int(was.Age) < Lease:
			return fail(RuleTakeOver, "%v, whose version has been known for %d ticks", w, was.Age)
		}
	case Beat:
		if !own || was.Released {
			return fail(RuleOver, "%v on %s", w, was)
		}
	case Release:
		if !own {
			return fail(RuleRelease, "%v on %s", w, was)
		}
	case CleanUp:
		for i := range m.Rates {
			if c := &s.Clients[i]; m.Held(s, i) && c.ID == w.Version.ID {
				return fail(RuleRelease, "%v on the lock of client %s", w, name(i))
			}
		}
	}
	return true, nil
}

// used notes what has become late forever: all copies of an acquire that was applied, and all requests of an
// acquisition that its own client has ended.
func (s *State) used(w Write) {
	ends := w.Kind == Release || w.Kind == CleanUp
	if w.Kind != Acquire && !ends {
		return
	}
	late := func(o *Write) {
		if o.Kind == Acquire && o.Version.ID == w.Version.ID && (ends || o.Version.N == w.Version.N) {
			o.Used = true
		}
	}
	for i := range s.Stray {
		late(&s.Stray[i])
	}
	for i := range s.Clients {
		if r := &s.Clients[i].Request; r.Progress == Sent {
			late(&r.Write)
		}
	}
}

// answer tells a client what became of its request.
func (m *Model) answer(s *State, i int, r Request) *Violation {
	c := &s.Clients[i]
	own := r.Saw.Version.ID == c.ID
	switch {
	case r.Kind == Acquire && r.Progress == Applied:
		m.begin(c, i, c.N, r.Age, r.Saw.Token)
	case r.Kind == Acquire && own && r.Saw.Held(): // an earlier attempt was applied, and its answer lost
		k := r.Saw.Version.N
		age := r.Age
		if m.Break != CreditFromRetry {
			age = c.sent(k, r)
		}
		c.Looks, c.Admit = true, r.Saw.Version
		m.begin(c, i, k, age, r.Saw.Token)
	case r.Kind == Acquire:
		m.judge(c, i, r)
	case c.Phase == Confirming && r.Progress == Applied:
		c.Open = [maxDoubt]uint8{c.N}
		c.Credit = r.Age
		m.hold(c, i)
	case c.Phase == Confirming: // it came and went: what refused the attempt, if anything did, is somebody else's now
		s.Last++
		*c = Client{
			Phase: Acquiring, ID: s.Last, Looks: c.Looks, Watch: c.Watch, Still: c.Still, Admit: c.Admit,
			Guarded: c.Guarded,
		}
		if c.Looks {
			c.Watch, c.Still = c.Admit, r.Age
		}
		if c.Admit = (Version{}); c.Watch.ID == 0 {
			c.Still = 0
		}
	case r.Kind == Beat && r.Progress == Applied:
		c.Open = [maxDoubt]uint8{c.N}
		if c.Over {
			break
		}
		if c.Credit = r.Age; m.Break == CreditFromAnswer {
			c.Credit = 0
		}
		m.expire(c, i)
	case r.Kind == Beat:
		if !c.Over {
			return m.lose(c, r.Saw)
		}
	case r.Kind == Release:
		id, token := c.ID, c.Token
		ok := c.Released(r)
		c.idle()
		if ok && s.Item.Held() && s.Item.Version.ID == id && s.Item.Token == token {
			return &Violation{RuleRelease, fmt.Sprintf("nil, and the item is %s", s.Item)}
		}
	}
	return nil
}

// Released reports whether Release returns nil when its request is answered so.
func (c *Client) Released(r Request) bool {
	own := r.Saw.Version.ID == c.ID
	return r.Progress == Applied || own && r.Saw.Released || c.Unclear && !own
}

// acquire sends an attempt to begin a tenure.
func (m *Model) acquire(c *Client, i int) {
	if c.N == 0 {
		c.First = 0
	}
	w := Write{Kind: Acquire, Admit: c.Admit}
	if w.Admit.ID != 0 {
		w.Rate = m.Rates[i]
	}
	c.send(w)
}

func (c *Client) release() { c.send(Write{Kind: Release, Open: c.Open, Token: c.Token}) }

// send sends a write. Its age counts from here, before it is on its way.
func (c *Client) send(w Write) {
	c.N++
	w.Version = Version{c.ID, c.N}
	c.Request = Request{Write: w, Progress: Sent}
}

// begin makes a lock of an item that is the client's own, written by attempt k, which was sent so long ago. Where
// that is too long, a heartbeat confirms it first.
func (m *Model) begin(c *Client, i int, k, age, token uint8) {
	c.Token, c.Credit = token, age
	c.Open = [maxDoubt]uint8{k}
	n := 1
	for _, d := range c.Doubt {
		if d.N > k && m.Break != ForgottenDoubt {
			c.Open[n] = d.N
			n++
		}
	}
	if m.Break == CreditFromAnswer {
		c.Credit = 0
	}
	if !m.late(i, c.Credit) {
		m.hold(c, i)
		return
	}
	c.remember(k, age)
	c.Phase = Confirming
	c.send(Write{Kind: Beat, Open: c.Open, Token: token})
}

// remember notes an attempt as in doubt.
func (c *Client) remember(n, age uint8) {
	c.Unclear = true
	for j := range c.Doubt {
		if d := &c.Doubt[j]; d.N == 0 || d.N == n {
			*d = Attempt{n, age}
			return
		}
	}
	panic("too many attempts are in doubt")
}

// sent is the age of attempt k, where r was refused by it. One that was refused itself came twice: it may be any.
func (c *Client) sent(k uint8, r Request) uint8 {
	for _, d := range c.Doubt {
		if d.N == k {
			return d.Age
		}
	}
	if k == r.Version.N {
		return r.Age
	}
	return c.First
}

func (m *Model) hold(c *Client, i int) {
	*c = Client{Phase: Holding, ID: c.ID, N: c.N, Token: c.Token, Open: c.Open, Credit: c.Credit, Guarded: c.Guarded}
	m.expire(c, i)
}

// idle ends whatever a client does. What it has seen of the lock is kept, and a guarded write stays on its way.
func (c *Client) idle() { *c = Client{Watch: c.Watch, Still: c.Still, Guarded: c.Guarded} }

// judge decides what follows from what is in the way: the next attempt, at once, or a look.
func (m *Model) judge(c *Client, i int, r Request) {
	c.Admit, c.Looks = Version{}, false
	switch saw := r.Saw; {
	case saw.Version.ID == c.ID: // the write finds out
	case !saw.Held():
		c.Admit = saw.Version
	default:
		if c.Watch != saw.Version {
			c.Watch, c.Still = saw.Version, 0
			if m.Break == WatchFromSend {
				c.Still = r.Age
			}
		}
		if c.Looks = !m.dead(i, c.Still); c.Looks {
			return
		}
		c.Admit = saw.Version
	}
	m.acquire(c, i)
}

// lose ends a tenure because the item says that it is over.
func (m *Model) lose(c *Client, saw Item) *Violation {
	if saw.Held() && saw.Version.ID == c.ID && saw.Token == c.Token {
		return &Violation{RuleTruth, fmt.Sprintf("it is lost, and the item is %s", saw)}
	}
	c.Over, c.Gone, c.Credit = true, true, 0
	return nil
}

// inDoubt tells a client that there will be no answer.
func (m *Model) inDoubt(c *Client, i int, r Request) {
	remember := func() {
		for j := range c.Open {
			if c.Open[j] == 0 && m.Break != ForgottenDoubt {
				c.Open[j] = c.N
				return
			}
		}
	}
	switch c.Phase {
	case Acquiring:
		c.remember(c.N, r.Age)
	case Confirming:
		remember()
		if m.trusted(i, c.Credit) {
			m.hold(c, i)
			return
		}
		c.remember(c.N, r.Age)
		c.Phase, c.Credit, c.Token, c.Open = Acquiring, 0, 0, [maxDoubt]uint8{}
		if c.Looks { // its own item: the next attempt, at once
			c.Looks, c.Admit = false, Version{}
			m.acquire(c, i)
		}
	case Holding:
		remember()
	case Releasing:
		remember()
		c.Unclear = true
	}
}

// guardedArrives has DynamoDB decide about the guarded write of a client. The answer, where it is a refusal, is there
// at once; that it is late or lost is as if the write had not arrived yet.
func (m *Model) guardedArrives(s *State, i int) *Violation {
	c := &s.Clients[i]
	g := c.Guarded
	c.Guarded = Guarded{}
	_, ok := m.decide(s.Item, Write{Kind: Check, Tenure: g.ID, Token: g.Token})
	switch {
	case ok:
		for j := range m.Rates {
			if other := &s.Clients[j].Guarded; other.ID != 0 {
				other.Stale = true
			}
		}
		if g.Stale {
			return &Violation{
				RuleUpdates,
				fmt.Sprintf("client %s of token %d overwrites an update that it has not seen", name(i), g.Token),
			}
		}
	case c.Phase == Holding && c.ID == g.ID && c.Token == g.Token:
		return m.lose(c, s.Item)
	}
	return nil
}

// stray leaves a request adrift.
func (s *State) stray(w Write) {
	for i := range s.Stray {
		if s.Stray[i].Kind == 0 {
			s.Stray[i] = w
			return
		}
	}
	panic("too many requests are adrift")
}

func name(i int) string { return string(rune('A' + i)) }

func (it Item) String() string {
	switch {
	case it.Version.ID == 0:
		return "not there"
	case it.Released:
		return fmt.Sprintf("free (%d-%d, token %d)", it.Version.ID, it.Version.N, it.Token)
	}
	return fmt.Sprintf("held (%d-%d, token %d)", it.Version.ID, it.Version.N, it.Token)
}
