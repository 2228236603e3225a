package main

// roleMutants are bugs of what is built on the lock: Once and Election.
var roleMutants = []mutant{
	{
		name: "run-forgotten-at-once", file: "dynalock/once.go", ref: "OnceOptions.Keep",
		old: "run.FinishedAt.Add(keep).Unix()",
		new: "run.FinishedAt.Unix()",
		bug: "A finished run is deleted by its TTL in place of kept for Keep.",
	},
	{
		name: "panic-not-reported", file: "dynalock/once.go", ref: "Client.Once",
		old: "if v := recover(); v != nil {",
		new: "if v := any(nil); v != nil {",
		bug: "A function that panics takes the process with it, and its run is repeated.",
	},
	{
		name: "guarded-context-outlives-the-lock", file: "dynalock/once.go", ref: "Client.Do",
		old: "stop := context.AfterFunc(l.ctx, func() { cancel(context.Cause(l.ctx)) })",
		new: "stop := func() bool { return l.ctx == nil }",
		bug: "The context of a function that runs under the lock is not cancelled when the lock is lost.",
	},
	{
		name: "lock-given-up-before-the-leader-stops", file: "dynalock/election.go", ref: "Election.Run",
		old: "err = lead(tctx, l)\n",
		new: "led := make(chan error, 1)\n\tgo func() { led <- lead(tctx, l) }()\n\tselect {\n\tcase err = <-led:\n\tcase <-tctx.Done():\n\t}\n",
		bug: "Run gives the lock up when the term ends, though its function still runs.",
	},
	{
		name: "leader-shows-its-predecessors-value", file: "dynalock/election.go", ref: "ElectionOptions.Value",
		old: "if e.opt.Value == nil {",
		new: "if e.opt.Value == nil && e.c == nil {",
		bug: "A leader without a value is shown with the address of the leader before.",
	},
	{
		name: "two-runs-of-a-candidate", file: "dynalock/election.go", ref: "Election.Run",
		old: "again := e.running\n",
		new: "again := false\n",
		bug: "A second Run of a candidate is not refused.",
	},
	{
		name: "old-term-is-handed-over", file: "dynalock/election.go", ref: "Election.HandOver",
		old: "w := &write{cond: condTenure, update: updSuccessor,",
		new: "w := &write{cond: \"begins_with(#version, :id) OR attribute_exists(#version)\", update: updSuccessor,",
		bug: "A hand-over asks the next leader to stand down that was meant for the one before.",
	},
	{
		name: "run-not-recorded", file: "dynalock/once.go", ref: "Client.Once",
		old: "w.update = updRelease + setResult + updReleaseRemove",
		new: "w.update = updRelease + updReleaseRemove",
		bug: "A run that returned is not recorded as finished, and is repeated.",
	},
	{
		name: "jobs-joined", file: "dynalock/once.go", ref: "peer 10",
		old: "url.PathEscape(job)",
		new: "url.PathEscape(\"\") + job",
		bug: "Two pairs of job and period meet in one key.",
	},
	{
		name: "late-copy-is-a-start", file: "dynalock/once.go", ref: "OnceOptions.AtLeast",
		old: "if len(a.item) > 0 { // a period",
		new: "if len(a.item) < 0 { // a period",
		bug: "A period that has run and is delivered late again counts as the job's last start.",
	},
	{
		name: "loser-waits-though-told-not-to", file: "dynalock/once.go", ref: "OnceOptions.NoWait",
		old: "if o.NoWait {",
		new: "if !o.NoWait {",
		bug: "NoWait waits, and who wants to wait does not.",
	},
	{
		name: "hand-over-to-whoever-comes", file: "dynalock/election.go", ref: "Election.HandOver",
		old: "if to := t.successor(); to != \"\" {",
		new: "if to := t.successor(); to == \"nobody\" {",
		bug: "A leader that hands over releases the lock to whoever looks first.",
	},
	{
		name: "unhealthy-candidate-campaigns", file: "dynalock/election.go", ref: "ElectionOptions.Health",
		old: "for e.opt.Health != nil {",
		new: "for e.opt.Health == nil && ctx == nil {",
		bug: "A candidate that is not healthy campaigns.",
	},
	{
		name: "unhealthy-leader-stays", file: "dynalock/lock.go", ref: "ElectionOptions.Health",
		old: "l.options.unhealthy(err)\n",
		new: "",
		bug: "A leader that is not healthy leads until its lease is over, and is then lost.",
	},
	{
		name: "leader-goes-first-again", file: "dynalock/election.go", ref: "Election.Resign",
		old: "e.c.rest(ctx, 2*e.c.opt.MaxPoll)",
		new: "e.c.rest(ctx, 0)",
		bug: "A leader that resigned campaigns before others can look.",
	},
	{
		name: "lock-is-claimed-for-ever", file: "dynalock/acquire.go", ref: "Client.Once",
		old: "case a.options.claim > 0 && len(it) > 0 && r.attempt == 0:",
		new: "case a.options.claim < 0 && len(it) > 0 && r.attempt == 0:",
		bug: "Once writes to the item of a lock, which refuses it, again and again.",
	},
	{
		name: "pause-seen-late", file: "dynalock/once.go", ref: "Client.Pause",
		old: "a := c.look(ctx, jobKey(job), true)",
		new: "a := c.look(ctx, jobKey(job), false)",
		bug: "A job starts though Pause has returned.",
	},
	{
		name: "lost-run-has-an-end", file: "dynalock/once.go", ref: "Run.FinishedAt",
		old: "if errors.Is(ended, ErrLost) || errors.Is(ended, ErrStore) {",
		new: "if ended != nil && l.c == nil {",
		bug: "A run whose lock was lost is told as finished.",
	},
	{
		name: "close-waits-for-a-hand-over", file: "dynalock/election.go", ref: "Client.Close",
		old: "if e.c.rest(ctx, e.c.opt.MaxPoll) != nil {\n",
		new: "if e.c.sleep(ctx, e.c.opt.MaxPoll) != nil {\n",
		bug: "Close waits for a hand-over that the end of the term has overtaken.",
	},
	{
		name: "candidate-outlives-its-client", file: "dynalock/client.go", ref: "Election.Run",
		old: "case <-closing:\n\t\treturn ErrClosed\n",
		new: "",
		bug: "A candidate that is not healthy waits on after Close.",
	},
}
