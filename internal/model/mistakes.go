package model

// Mistake is a broken variant of the protocol, the smallest scope in which that shows, and the rule that it breaks.
type Mistake struct {
	Name  string
	Model Model
	Rule  string
}

// Mistakes are those that the search must be able to find.
func Mistakes() []Mistake {
	worst := []uint8{90, 110} // a slow holder and a fast waiter
	one := []uint8{100}
	return []Mistake{
		{"the lease is trusted from the answer on", Model{Break: CreditFromAnswer, Rates: worst, Attempt: 1}, RuleExclusion},
		{
			"after a lost answer, the lease is trusted from the retry on",
			Model{Break: CreditFromRetry, Rates: worst, Faults: 1},
			RuleExclusion,
		},
		{
			"a waiter counts from the sending of its request on",
			Model{Break: WatchFromSend, Rates: worst, Attempt: 1},
			RuleTakeOver,
		},
		{"there is no safety margin", Model{Break: NoMargin, Rates: worst, Attempt: 1}, RuleExclusion},
		{"the safety margin is a sixth of the lease", Model{Break: SmallMargin, Rates: worst, Attempt: 1}, RuleExclusion},
		{"clocks run at 0.7 and 1.3", Model{Rates: []uint8{70, 130}, Attempt: 1}, RuleExclusion},
		{
			"a waiter waits no longer than the holder trusts",
			Model{Break: ImpatientWaiter, Rates: worst, Attempt: 1},
			RuleTakeOver,
		},
		{"versions in doubt are forgotten", Model{Break: ForgottenDoubt, Rates: one, Attempt: 1, Faults: 1}, RuleTruth},
		{"a heartbeat does not ask for the version", Model{Break: BlindBeat, Rates: one, Attempt: 1, Faults: 1}, RuleOver},
		{"a release asks for nothing", Model{Break: BlindRelease, Rates: worst, Attempt: 1}, RuleRelease},
		{
			"an acquire does not ask whether it is older than the release",
			Model{Break: Again, Rates: one, Attempt: 1, Faults: 1},
			RuleLate,
		},
		{"a take-over leaves the token as it is", Model{Break: SameToken, Rates: one, Attempt: 1}, RuleTokens},
		{
			"a write under the lock is not guarded",
			Model{Break: Unguarded, Rates: worst, Attempt: 1, Guarded: true},
			RuleUpdates,
		},
	}
}
