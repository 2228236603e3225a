package main

// storeMutants are bugs of the requests: what an answer or its absence means, and how long it is waited for.
var storeMutants = []mutant{
	{
		name: "sdk-retries", file: "dynalock/store.go", ref: "Lost answers",
		old: "o.Retryer = aws.NopRetryer{}",
		new: "_ = aws.NopRetryer{}",
		bug: "The SDK repeats lock requests by itself, and the retry of an applied write is refused.",
	},
	{
		name: "error-5xx-is-not-applied", file: "dynalock/store.go", ref: "Lost answers",
		old: "return fatal\n\t}\n\treturn inDoubt\n}",
		new: "return fatal\n\t}\n\treturn rejected\n}",
		bug: "A 500 is taken for a write that was not applied.",
	},
	{
		name: "attempt-timeout-ignored", file: "dynalock/store.go", ref: "Options.AttemptTimeout",
		old: "ctx, cancel := context.WithTimeout(ctx, timeout)",
		new: "ctx, cancel := context.WithTimeout(ctx, 1000*timeout)",
		bug: "One request may take as long as it likes.",
	},
	{
		name: "stamped-after-the-send", file: "dynalock/store.go", ref: "peer 3",
		old: "a.got = s.opt.clock.Now()\n",
		new: "a.got = s.opt.clock.Now()\n\ta.sent = a.got\n",
		bug: "The time from which a lease counts is taken after the request, not before it.",
	},
	{
		name: "margin-dropped", file: "dynalock/options.go", ref: "How long a lock is trusted",
		old: "trust: lease - margin,",
		new: "trust: lease,",
		bug: "The holder trusts the whole lease, and two clocks of different rates make two holders.",
	},
	{
		name: "get-is-not-consistent", file: "dynalock/records.go", ref: "Client.Get",
		old: "a := c.store.look(ctx, key, true)",
		new: "a := c.store.look(ctx, key, false)",
		bug: "Get may show a record of before the last write.",
	},
	{
		name: "indexes-not-seen", file: "dynalock/table.go", ref: "CheckTable",
		old: "len(desc.GlobalSecondaryIndexes) + len(desc.LocalSecondaryIndexes)",
		new: "len(desc.GlobalSecondaryIndexes)",
		bug: "CheckTable is blind to local secondary indexes.",
	},
	{
		name: "last-writer-wins-not-seen", file: "dynalock/table.go", ref: "CheckTable",
		old: "if len(desc.Replicas) > 0 && desc.MultiRegionConsistency != types.MultiRegionConsistencyStrong {",
		new: "if len(desc.Replicas) > 0 && desc.MultiRegionConsistency == types.MultiRegionConsistencyEventual {",
		bug: "CheckTable takes a global table for safe whose mode is not said.",
	},
	{
		name: "ttl-being-enabled-not-seen", file: "dynalock/table.go", ref: "CreateTable",
		old: "|| ttl.TimeToLiveStatus == types.TimeToLiveStatusEnabling",
		new: "",
		bug: "A TTL that is being enabled is taken for one that is off.",
	},
	{
		name: "conflict-is-fatal", file: "dynalock/store.go", ref: "Heartbeats",
		old: "case \"TransactionConflictException\", \"TransactionInProgressException\",",
		new: "case \"TransactionInProgressException\",",
		bug: "A write that meets a transaction on its item is not repeated.",
	},
	{
		name: "throttling-is-fatal", file: "dynalock/store.go", ref: "Heartbeats",
		old: "\"ProvisionedThroughputExceededException\", \"ThrottlingException\",",
		new: "\"ThrottlingException\",",
		bug: "A throttled write is not repeated.",
	},
	{
		name: "silence-is-not-applied", file: "dynalock/store.go", ref: "Lost answers",
		old: "if !errors.As(err, &api) {\n\t\treturn inDoubt",
		new: "if !errors.As(err, &api) {\n\t\treturn rejected",
		bug: "A request without an answer is taken for one that was not applied.",
	},
	{
		name: "waiter-stamped-before-the-answer", file: "dynalock/store.go", ref: "How long a lock is trusted",
		old: "a.got = s.opt.clock.Now()\n",
		new: "a.got = a.sent\n",
		bug: "The time from which a waiter counts is taken before the request, not after its answer.",
	},
	{
		name: "ttl-on-held-locks-not-seen", file: "dynalock/table.go", ref: "CheckTable",
		old: "case on && name != attrTTL && reservedAttributes[name]:",
		new: "case !on && name != attrTTL && reservedAttributes[name]:",
		bug: "CheckTable does not see that DynamoDB deletes held locks.",
	},
}
