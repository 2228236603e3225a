package main

// What operators read: the log, and what the tool says.
var wordMutants = []mutant{
	{
		name: "candidate-logs-as-its-client", file: "dynalock/observer.go", ref: "ElectionOptions.Candidate",
		old: "\tif label, ok := ctx.Value(labelKey{c, key}).(string); ok {\n",
		new: "\tif label, ok := ctx.Value(labelKey{c, \"\"}).(string); ok {\n",
		bug: "A candidate's records bear the label of its client, which no other machine's log has.",
	},
	{
		name: "freed-lock-is-held-by-its-loser", file: "dynalock/observer.go", ref: "Observer",
		old: "\tcase e.By.State == Held, e.Kind",
		new: "\tcase e.By.State != Foreign, e.Kind",
		bug: "The log says of a lock that an operator freed that its loser holds it, and not who freed it.",
	},
	{
		name: "operator-logs-the-holder-as-himself", file: "dynalock/records.go", ref: "Client.ForceRelease",
		old: "\"owner\", c.opt.Owner, \"heldBy\", r.Owner,\n\t\t\t\"heldByToken\"",
		new: "\"owner\", r.Owner, \"heldBy\", r.Owner, \"heldByToken\"",
		bug: "The record of a forced release does not say who did it.",
	},
	{
		name: "dead-static-lease-burns-receives", file: "dynalock/wait.go", ref: "HeldError",
		old: "if left <= 0 && a.c.opt.MaxClockSkew > 0 &&",
		new: "if left <= 0 && a.c.opt.MaxClockSkew < 0 &&",
		bug: "A queue's consumer asks every second for a dead holder's lock until the clocks' skew is over.",
	},
	{
		name: "throttled-heartbeats-in-silence", file: "dynalock/lock.go", ref: "Observer",
		old: "if l.Err() == nil { // else a release has cancelled it",
		new: "if l.Err() == nil && a.verdict == inDoubt { // else a release has cancelled it",
		bug: "A holder whose heartbeats are throttled tells nobody before its lock is lost.",
	},
}
