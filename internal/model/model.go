package model

import "fmt"

// Times are in hundredths of a tick of a clock that runs true. The lease is one that makes the library's default ratio
// of 1.25 just enough for clocks at 90 and 110: in whole ticks, a holder at 90 trusts its lease through age 4, and a
// waiter at 110 takes it at age 5. With a margin of a sixth instead of a fifth they meet.
const (
	Lease  = 545
	Margin = Lease / 5
)

// Model is what to search.
type Model struct {
	Rates     []uint8 // of the clients' clocks, in percent; one for each client
	Faults    uint8   // requests that are given up on, or come twice
	Crashes   uint8
	Operators uint8 // releases by an operator
	Attempt   uint8 // ticks that a client waits for an answer at most
	Guarded   bool  // writes guarded by the lock are modelled, too
	Break     Breakage
	Decisions map[Decision]int // where it is not nil, Search counts how often which item and write met
}

// Decision is an item and a write that met, with ids, counters and tokens renamed.
type Decision struct {
	Item  Item
	Write Write
}

// Breakage is a mistake in the protocol.
type Breakage uint8

// The mistakes.
const (
	Sound            Breakage = iota
	CreditFromAnswer          // the lease is trusted from the answer on
	CreditFromRetry           // after a lost answer, from the attempt that found out
	WatchFromSend             // a version is seen standing still from the sending of the look on
	NoMargin                  // the lease is trusted for all of it
	SmallMargin               // or for five sixths
	ImpatientWaiter           // a lock is taken over after the time that its holder trusts it
	ForgottenDoubt            // only the acknowledged version is remembered
	BlindBeat                 // a heartbeat is sent without a condition on the version
	BlindRelease              // and so is a release, nor on the token
	Again                     // an acquire takes what was released after it was sent, whatever it has done before
	SameToken                 // a take-over does not count the token on
	Unguarded                 // a write under the lock is sent without its condition check
)

// rate of a client's clock; the check of the models is in Search.
func (m *Model) rate(client int) int { return int(m.Rates[client]) }

// trusted reports whether a lease is trusted that was sent for so many ticks ago.
func (m *Model) trusted(client int, age uint8) bool {
	trust := Lease - Margin
	switch m.Break {
	case NoMargin:
		trust = Lease
	case SmallMargin:
		trust = Lease - Lease/6
	}
	return m.rate(client)*int(age) < trust
}

// late reports whether less than half of the trust is left.
func (m *Model) late(client int, age uint8) bool {
	return m.rate(client)*int(age) > (Lease-Margin)/2
}

// dead reports whether a version has stood still for the lease.
func (m *Model) dead(client int, still uint8) bool {
	wait := Lease
	if m.Break == ImpatientWaiter {
		wait = Lease - Margin
	}
	return m.rate(client)*int(still) >= wait
}

// longest is the age in ticks from which on nothing changes: the slowest clock has counted a lease.
func (m *Model) longest() uint8 {
	slowest := 255
	for i := range m.Rates {
		slowest = min(slowest, m.rate(i))
	}
	return uint8((Lease + slowest - 1) / slowest)
}

// Decide is DynamoDB: what a conditional write makes of the item, and whether it is applied. The tests of package
// dynalock compare it with the library's expressions.
func (m *Model) Decide(it Item, w Write) (Item, bool) {
	next := Item{Version: w.Version, Token: it.Token, Released: it.Released}
	ours := it.Version.ID == w.Version.ID && it.Version.ID != 0
	known := ours && contains(w.Open, it.Version.N)
	same := it.Token == w.Token
	switch w.Kind {
	case Acquire:
		next.Released = false
		if m.Break != SameToken || it.Token == 0 {
			next.Token++
		}
		late := (w.Used || w.Old) && m.Break != Again
		return next, it.Version.ID == 0 || it.Released && !late || w.Admit.ID != 0 && it.Version == w.Admit
	case Beat:
		return next, (known || m.Break == BlindBeat && it.Version.ID != 0) && same
	case Release:
		next.Released = true
		return next, known && same || m.Break == BlindRelease && it.Version.ID != 0
	case CleanUp:
		next.Released = true
		return next, ours && !it.Released
	case Check:
		return it, m.Break == Unguarded || it.Version.ID == w.Tenure && !it.Released && it.Token == w.Token
	case Force:
		next.Released = true
		return next, it.Version.ID == w.Tenure && !it.Released
	}
	panic(fmt.Sprintf("no decision for %v", w))
}

// decide is Decide, and takes note of what was decided.
func (m *Model) decide(it Item, w Write) (Item, bool) {
	if m.Decisions != nil {
		m.Decisions[decision(it, w)]++
	}
	return m.Decide(it, w)
}

func contains(open [maxDoubt]uint8, n uint8) bool {
	for _, o := range open {
		if o == n && n != 0 {
			return true
		}
	}
	return false
}
