package main

// tokenMutants are bugs of the fencing token and of the writes that it guards.
var tokenMutants = []mutant{
	{
		name: "token-is-not-counted", file: "dynalock/expressions.go", ref: "Tokens",
		old: "#token = if_not_exists(#token, :floor) + :1,",
		new: "#token = if_not_exists(#token, :floor),",
		bug: "Two tenures have the same token.",
	},
	{
		name: "token-from-the-clock-alone", file: "dynalock/expressions.go", ref: "Tokens",
		old: "#token = if_not_exists(#token, :floor) + :1,",
		new: "#token = :floor + :1,",
		bug: "The token is a time, though the item exists, and clocks decide its order.",
	},
	{
		name: "token-restarts", file: "dynalock/service.go", ref: "peer 18",
		old: "return max(uint64(s.micros(local)), s.keys[key].token)",
		new: "return s.keys[key].token",
		bug: "The token of an item that was deleted starts at a counter of the process.",
	},
	{
		name: "guard-without-the-id", file: "dynalock/transact.go", ref: "Guarded writes",
		old: "w := &write{\n\t\tcond:   condTenure + condToken + more,\n\t\tvalues",
		new: "w := &write{cond: \"NOT #released = :one\" + condToken + more, values",
		bug: "A guarded write asks for the token alone, which dynamolock copies into its own tenure.",
	},
	{
		name: "guard-without-the-token", file: "dynalock/transact.go", ref: "Guarded writes",
		old: "w := &write{\n\t\tcond:   condTenure + condToken + more,\n\t\tvalues",
		new: "w := &write{cond: condTenure + more, values",
		bug: "A guarded write is good again after a late copy has made the item of its tenure anew, which was deleted.",
	},
	{
		name: "guard-after-the-release", file: "dynalock/expressions.go", ref: "Guarded writes",
		old: "condTenure = \"begins_with(#version, :id) AND NOT #released = :one\"",
		new: "condTenure = \"begins_with(#version, :id)\"",
		bug: "A guarded write commits after the release.",
	},
	{
		name: "conflict-is-an-error", file: "dynalock/transact.go", ref: "Lock.Transact",
		old: "case \"\", \"None\", \"TransactionConflict\", ",
		new: "case \"\", \"None\", ",
		bug: "A transaction that meets the lock's own heartbeat fails.",
	},
	{
		name: "unknown-is-nothing-written", file: "dynalock/transact.go", ref: "Lock.Transact",
		old: "if err := l.Err(); err != nil && !g.doubt {",
		new: "if err := l.Err(); err != nil {",
		bug: "A transaction of unknown outcome is reported as lost, and so as not written.",
	},
	{
		name: "own-tokens-forgotten", file: "dynalock/service.go", ref: "Tokens",
		old: "return max(uint64(s.micros(local)), s.keys[key].token)",
		new: "return uint64(s.micros(local))",
		bug: "A client gives a smaller token than before when its clock is set back and the item is deleted.",
	},
	{
		name: "tokens-of-the-local-clock", file: "dynalock/service.go", ref: "Tokens",
		old: "local.Add(s.offset()).UnixMicro()",
		new: "local.UnixMicro()",
		bug: "The service's own time is not used, so machines' clocks decide after a deletion.",
	},
	{
		name: "answers-do-not-narrow-the-time", file: "dynalock/service.go", ref: "Tokens",
		old: "s.now.low, s.now.high = max(s.now.low, b.low), min(s.now.high, b.high)",
		new: "s.now.low, s.now.high = b.low, b.high",
		bug: "Only the last answer counts for the service's time, which stays a second wide.",
	},
	{
		name: "guard-by-presence", file: "dynalock/expressions.go", ref: "peer 9",
		old: "condTenure = \"begins_with(#version, :id) AND NOT #released = :one\"",
		new: "condTenure = \"begins_with(#version, :id) AND attribute_not_exists(#released)\"",
		bug: "isReleased is read by its presence, so a lock that is marked \"0\" is neither held nor free.",
	},
	{
		name: "callers-condition-is-the-loss", file: "dynalock/transact.go", ref: "Lock.Transact",
		old: "if i == len(e.CancellationReasons)-1 {",
		new: "if i >= 0 {",
		bug: "A failed condition of the caller's own items is taken for the loss of the lock.",
	},
	{
		name: "transaction-applied-twice", file: "dynalock/transact.go", ref: "Lock.Transact",
		old: "for n := 1; ; n++ {\n",
		new: "for n := 1; ; n++ {\n\t\tagain := newID()\n\t\tg.in.ClientRequestToken = &again\n",
		bug: "Every attempt of a transaction has a client token of its own.",
	},
	{
		name: "own-tokens-remembered-late", file: "dynalock/attempt.go", ref: "Lock.Token",
		old: "c.store.service.saw(l.key, l.token, l.id(), l.stamped)\n",
		new: "_ = l.made\n",
		bug: "A client gives a token below that of a tenure which it has not ended.",
	},
	{
		name: "seen-tokens-forgotten", file: "dynalock/wait.go", ref: "Lock.Token",
		old: "c.store.service.saw(r.Key, r.Token, r.id(), r.stamp())\n",
		new: "_ = r.id()\n",
		bug: "A client gives a token below one that it has seen another client hold.",
	},
}
