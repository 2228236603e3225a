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
		name: "token-restarts", file: "dynalock/store.go", ref: "peer 18",
		old: "return max(s.micros(local), s.tokens[key])",
		new: "return s.tokens[key]",
		bug: "The token of an item that was deleted starts at a counter of the process.",
	},
	{
		name: "guard-without-the-id", file: "dynalock/transact.go", ref: "Guarded writes",
		old: "w := &write{cond: condTenure + condToken, values",
		new: "w := &write{cond: \"NOT #released = :one\" + condToken, values",
		bug: "A guarded write asks for the token alone, which dynamolock copies into its own tenure.",
	},
	{
		name: "guard-without-the-token", file: "dynalock/transact.go", ref: "Guarded writes",
		old: "w := &write{cond: condTenure + condToken, values",
		new: "w := &write{cond: condTenure, values",
		bug: "A guarded write is good again after a late copy of the acquire of a tenure that an operator ended.",
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
		old: "if err := l.Err(); err != nil && !doubt {",
		new: "if err := l.Err(); err != nil {",
		bug: "A transaction of unknown outcome is reported as lost, and so as not written.",
	},
	{
		name: "own-tokens-forgotten", file: "dynalock/store.go", ref: "Tokens",
		old: "return max(s.micros(local), s.tokens[key])",
		new: "return s.micros(local)",
		bug: "A client gives a smaller token than before when its clock is set back and the item is deleted.",
	},
	{
		name: "tokens-of-the-local-clock", file: "dynalock/store.go", ref: "Tokens",
		old: "local.Add(s.low+(s.high-s.low)/2).UnixMicro()",
		new: "local.UnixMicro()",
		bug: "The service's own time is not used, so machines' clocks decide after a deletion.",
	},
	{
		name: "answers-do-not-narrow-the-time", file: "dynalock/store.go", ref: "Tokens",
		old: "s.low, s.high = max(s.low, low), min(s.high, high)",
		new: "s.low, s.high = low, high",
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
		new: "for n := 1; ; n++ {\n\t\ttoken = newID()\n",
		bug: "Every attempt of a transaction has a client token of its own.",
	},
	{
		name: "own-tokens-remembered-late", file: "dynalock/queue.go", ref: "Lock.Token",
		old: "c.service.saw(l.key, l.token)\n",
		new: "",
		bug: "A client gives a token below that of a tenure which it has not ended.",
	},
	{
		name: "seen-tokens-forgotten", file: "dynalock/queue.go", ref: "Lock.Token",
		old: "c.service.saw(r.Key, r.Token)\n",
		new: "",
		bug: "A client gives a token below one that it has seen another client hold.",
	},
}
