package main

// itemMutants are bugs of the item: what is written into it, what is asked of it, and what is read out of it.
var itemMutants = []mutant{
	{
		name: "ttl-on-a-held-item", file: "dynalock/expressions.go", ref: "Options.Retention",
		old: "REMOVE #released, #ttl, ",
		new: "REMOVE #released, ",
		bug: "A lock that is taken again keeps its TTL, and DynamoDB deletes it under its holder.",
	},
	{
		name: "released-mark-left-behind", file: "dynalock/expressions.go", ref: "peer 9",
		old: "REMOVE #released, #ttl, ",
		new: "REMOVE #ttl, ",
		bug: "A take-over leaves isReleased in the item.",
	},
	{
		name: "free-by-presence", file: "dynalock/expressions.go", ref: "peer 9",
		old: "condReleased = \"#released = :one AND ",
		new: "condReleased = \"attribute_exists(#released) AND ",
		bug: "A lock that is marked \"0\" is taken as if it were free.",
	},
	{
		name: "row-without-a-version-is-new", file: "dynalock/expressions.go", ref: "peer 13",
		old: "condNew = \"attribute_not_exists(#key)\"",
		new: "condNew = \"attribute_not_exists(#version)\"",
		bug: "A row of something else under the key is overwritten.",
	},
	{
		name: "release-keeps-the-version", file: "dynalock/expressions.go", ref: "peer 11",
		old: "updRelease       = \"SET #released = :one, #version = :next, #stamp = :next,",
		new: "updRelease       = \"SET #released = :one, #stamp = :next,",
		bug: "A release leaves the version as it was, and what is still under way is applied after it.",
	},
	{
		name: "stood-down-in-another-version", file: "dynalock/election.go", ref: "Election.HandOver",
		old: "(#successor = :candidate AND #yielded = #version AND \"",
		new: "(#successor = :candidate AND attribute_exists(#yielded) AND \"",
		bug: "A candidate takes a live lock of another library, which has copied an old leader's attributes.",
	},
	{
		name: "finished-run-is-repeated", file: "dynalock/once.go", ref: "Client.Once",
		old: "condRepeat = \"#attempt < :max AND attribute_not_exists(#finished) AND \"",
		new: "condRepeat = \"#attempt < :max AND \"",
		bug: "A period that has run runs again.",
	},
	{
		name: "one-attempt-too-many", file: "dynalock/once.go", ref: "OnceOptions.MaxAttempts",
		old: "condRepeat = \"#attempt < :max AND ",
		new: "condRepeat = \"#attempt <= :max AND ",
		bug: "A period is begun once more than allowed.",
	},
	{
		name: "lease-of-nothing", file: "dynalock/item.go", ref: "peer 13",
		old: "if lease < minLease || lease > maxLease {",
		new: "if lease < 0 || lease > maxLease {",
		bug: "A lease of 0 is read as one, and such a row taken at once.",
	},
	{
		name: "namespace-not-added", file: "dynalock/requests.go", ref: "Options.Namespace",
		old: "str(s.opt.Namespace + key)}",
		new: "str(key)}",
		bug: "Two namespaces share their locks.",
	},
	{
		name: "keys-joined", file: "dynalock/requests.go", ref: "peer 10",
		old: "k := item{s.opt.PartitionKey: str(s.opt.Namespace + key)}\n\tif s.opt.SortKey != \"\" {\n\t\tk[s.opt.SortKey] = str(s.opt.SortValue)",
		new: "k := item{s.opt.PartitionKey: str(s.opt.Namespace + key + s.opt.SortValue)}\n\tif s.opt.SortKey != \"\" {\n\t\tk[s.opt.SortKey] = str(\"lock\")",
		bug: "Partition and sort key are joined into one text, and two locks collide.",
	},
	{
		name: "own-dialect-always", file: "dynalock/item.go", ref: "Sharing a table",
		old: "if dialect == DialectDynamolock {\n\t\treturn d.String()",
		new: "if dialect == DialectDynamolock && d < 0 {\n\t\treturn d.String()",
		bug: "The lease is always written in milliseconds, which dynamolock does not read.",
	},
	{
		name: "data-of-another-type-is-overwritten", file: "dynalock/expressions.go", ref: "peer 13",
		old: "\" AND (attribute_not_exists(#data) OR attribute_type(#data, :B))\" +\n",
		new: "\"\" +\n",
		bug: "A released row whose data is no lock's is taken unseen.",
	},
	{
		name: "stamp-of-another-row", file: "dynalock/expressions.go", ref: "Sharing a table",
		old: "#released = :one AND #stamp = #version AND \" + condBefore",
		new: "#released = :one AND attribute_exists(#stamp) AND \" + condBefore",
		bug: "A row of ours that another library changed is taken unseen, though it is no lock any more.",
	},
	{
		name: "dialect-not-asked-for", file: "dynalock/expressions.go", ref: "Sharing a table",
		old: "\"NOT contains(#lease, :unit) AND size(#lease) >= :3",
		new: "\"size(#lease) >= :3",
		bug: "An existing item does not keep its dialect.",
	},
	{
		name: "heartbeat-keeps-the-version", file: "dynalock/expressions.go", ref: "Heartbeats",
		old: "updRenew = \"SET #version = :next, #stamp = :next, ",
		new: "updRenew = \"SET #stamp = :next, ",
		bug: "A heartbeat leaves the version as it was, so a waiter takes a live lock.",
	},
	{
		name: "heartbeat-keeps-the-expiry", file: "dynalock/expressions.go", ref: "Options.MaxClockSkew",
		old: "#lease = :lease, #renewed = :now, #expires = :expires\"\n\n\t// updRelease",
		new: "#lease = :lease, #renewed = :now\"\n\n\t// updRelease",
		bug: "A heartbeat does not move the stored expiry, so who goes by it takes a live lock.",
	},
	{
		name: "stood-down-for-anybody", file: "dynalock/election.go", ref: "Election.HandOver",
		old: "(#successor = :candidate AND #yielded = #version AND \"",
		new: "(#yielded = #version AND \"",
		bug: "Any candidate takes the lock of a leader that stood down in favour of one.",
	},
	{
		name: "last-start-does-not-count", file: "dynalock/job.go", ref: "OnceOptions.AtLeast",
		old: "#started <= :limit OR",
		new: "#started <= :now OR",
		bug: "A job starts however short a time after its last start.",
	},
	{
		name: "own-start-counts", file: "dynalock/job.go", ref: "OnceOptions.AtLeast",
		old: "#started <= :limit OR #period = :period)",
		new: "#started <= :limit)",
		bug: "A start whose answer was lost is too recent for itself, and its period never runs.",
	},
	{
		name: "pause-does-not-count", file: "dynalock/job.go", ref: "Client.Pause",
		old: "condSpaced = condJob +\n\t\t\" AND attribute_not_exists(#paused) AND (",
		new: "condSpaced = condJob + \" AND (",
		bug: "With AtLeast set, a job that is paused starts.",
	},
	{
		name: "released-by-presence", file: "dynalock/item.go", ref: "peer 9",
		old: "if released != \"1\" {",
		new: "if released == \"\" {",
		bug: "A lock that is marked \"0\" is shown, and waited for, as free.",
	},
	{
		name: "attributes-of-another-tenure", file: "dynalock/item.go", ref: "Sharing a table",
		old: "ok && stamp.Value == r.Version {",
		new: "ok && stamp.Value != \"\" {",
		bug: "Our old expiry is believed in a row that dynamolock holds.",
	},
	{
		name: "token-beyond-a-number", file: "dynalock/item.go", ref: "peer 13",
		old: "if r.Token > math.MaxInt64 {",
		new: "if r.Token == math.MaxUint64 {",
		bug: "A token near the end of its range is believed, and the next one does not fit.",
	},
}
