package main

// waitMutants are bugs of the wait: what a waiter may conclude and when, what it costs, and the line of local waiters.
var waitMutants = []mutant{
	{
		name: "take-over-before-the-lease", file: "dynalock/acquire.go", ref: "Take-over",
		old: "if still >= r.Lease || expired {",
		new: "if still >= r.Lease-r.Lease/20 || expired {",
		bug: "A lock is taken over a twentieth of its lease too early.",
	},
	{
		name: "waiter-goes-by-its-own-lease", file: "dynalock/acquire.go", ref: "Take-over",
		old: "if still >= r.Lease || expired {",
		new: "if still >= a.timing.lease || expired {",
		bug: "A waiter counts its own lease in place of the one that is stored in the item.",
	},
	{
		name: "next-call-goes-by-its-own-lease", file: "dynalock/queue.go", ref: "Take-over",
		old: "c.now()-w.since >= w.record.Lease",
		new: "c.now()-w.since >= c.opt.Lease",
		bug: "The same for what an earlier call has seen.",
	},
	{
		name: "waiter-counts-from-the-send", file: "dynalock/acquire.go", ref: "How long a lock is trusted",
		old: "if next = a.judge(got.item, got.got); next == stepFail {",
		new: "if next = a.judge(got.item, got.sent); next == stepFail {",
		bug: "A waiter credits the holder from before it asked, not from after the answer.",
	},
	{
		name: "try-counts-from-the-send", file: "dynalock/acquire.go", ref: "How long a lock is trusted",
		old: "next := a.judge(out.item, out.got)",
		new: "next := a.judge(out.item, out.sent)",
		bug: "The same for TryAcquire.",
	},
	{
		name: "waiter-believes-timestamps", file: "dynalock/acquire.go", ref: "Options.MaxClockSkew",
		old: "expired := c.opt.MaxClockSkew > 0 && ",
		new: "expired := ",
		bug: "An expiry in the item decides, though MaxClockSkew is not set.",
	},
	{
		name: "skew-the-wrong-way", file: "dynalock/acquire.go", ref: "Options.MaxClockSkew",
		old: "got.Wall.Sub(r.ExpiresAt) > c.opt.MaxClockSkew",
		new: "got.Wall.Sub(r.ExpiresAt) > -c.opt.MaxClockSkew",
		bug: "The skew between clocks is taken from the expiry in place of added to it.",
	},
	{
		name: "observation-forgotten-between-calls", file: "dynalock/acquire.go", ref: "peer 14",
		old: "if w, dead := c.dead(key); dead {",
		new: "c.mu.Lock()\n\tdelete(c.watches, key)\n\tc.mu.Unlock()\n\tif w, dead := c.dead(key); dead {",
		bug: "What was seen of a holder is forgotten between calls, so a process whose calls are short never takes over.",
	},
	{
		name: "waiter-polls-by-writes", file: "dynalock/acquire.go", ref: "Waiting",
		old: "if o != nil || freed || next == stepWrite {",
		new: "if o != nil || freed || next != stepFail {",
		bug: "A waiter looks at the lock with conditional writes, which cost a write unit each.",
	},
	{
		name: "waiter-reads-at-twice-the-price", file: "dynalock/acquire.go", ref: "Waiting",
		old: "got = a.look(ctx, a.key, false)",
		new: "got = a.look(ctx, a.key, true)",
		bug: "A waiter polls with strongly consistent reads.",
	},
	{
		name: "waiters-look-in-step", file: "dynalock/acquire.go", ref: "Waiting",
		old: "a.retry = min(c.opt.MinPoll+rand.N(bound-c.opt.MinPoll+1), r.Lease-still)",
		new: "a.retry = min(max(bound, rand.N(bound+1)), r.Lease-still)",
		bug: "The wait between two looks has no jitter.",
	},
	{
		name: "wait-without-upper-bound", file: "dynalock/acquire.go", ref: "Options.MaxPoll",
		old: "return min(max(bound, c.opt.MinPoll), c.opt.MaxPoll)",
		new: "return max(bound, c.opt.MinPoll)",
		bug: "A waiter waits longer than MaxPoll between two looks.",
	},
	{
		name: "wait-without-lower-bound", file: "dynalock/acquire.go", ref: "Options.MinPoll",
		old: "return min(max(bound, c.opt.MinPoll), c.opt.MaxPoll)",
		new: "return min(bound+1, c.opt.MinPoll)",
		bug: "A waiter looks every MinPoll, whatever the lock's usual hold time.",
	},
	{
		name: "hand-over-without-bound", file: "dynalock/queue.go", ref: "Release and hand-over",
		old: "if q.streak++; q.streak > q.limit {",
		new: "if q.streak++; q.streak < 0 {",
		bug: "The goroutines of one process pass the lock among themselves for ever, and other processes starve.",
	},
	{
		name: "hand-over-gives-nobody-a-chance", file: "dynalock/queue.go", ref: "Release and hand-over",
		old: "at = q.notBefore\n",
		new: "at = min(at, q.notBefore)\n",
		bug: "After its hand-overs a process releases the lock and takes it again before others can look.",
	},
	{
		name: "offer-is-kept-by-who-leaves", file: "dynalock/queue.go", ref: "Release and hand-over",
		old: "w.offer.done <- declined\n",
		new: "",
		bug: "A waiter that gives up takes the lock that it was offered with it, and the release hangs.",
	},
	{
		name: "next-in-line-is-not-woken", file: "dynalock/queue.go", ref: "Waiting",
		old: "if len(q.waiting) > 0 {\n\t\tq.waiting[0].signal()\n\t} else if",
		new: "if len(q.waiting) > 0 {\n\t\t_ = q\n\t} else if",
		bug: "When the first in line gives up, nobody looks at the lock any more.",
	},
	{
		name: "loss-wakes-nobody", file: "dynalock/queue.go", ref: "Waiting",
		old: "q.freed = released\n\t\tq.waiting[0].signal()\n",
		new: "if q.freed = released; released {\n\t\t\tq.waiting[0].signal()\n\t\t}\n",
		bug: "When the local holder is lost, or its release fails, the next in line waits on for it.",
	},
	{
		name: "bookkeeping-by-key", file: "dynalock/queue.go", ref: "peer 8",
		old: "if c.holders[l.key] != l {\n\t\treturn\n\t}\n\tdelete(c.holders, l.key)",
		new: "delete(c.holders, l.key)",
		bug: "The end of an old tenure ends what the client knows of the new one of the same key.",
	},
	{
		name: "watches-without-bound", file: "dynalock/queue.go", ref: "Take-over",
		old: "if !ok && len(c.watches) >= maxWatches {",
		new: "if !ok && len(c.watches) < 0 {",
		bug: "The memory for locks that others hold grows with every key ever asked for.",
	},
	{
		name: "heartbeat-does-not-count", file: "dynalock/queue.go", ref: "Take-over",
		old: "if !ok || w.record.Version != r.Version {",
		new: "if !ok || w.record.tenure() != r.tenure() {",
		bug: "A tenure that is old is taken for dead, however often its version changes.",
	},
	{
		name: "crowd-does-not-count", file: "dynalock/acquire.go", ref: "Waiting",
		old: "* time.Duration(max(1, min(waiters, 1000)/2))",
		new: "* time.Duration(max(1, min(waiters, 1)))",
		bug: "A waiter looks as often among a thousand others as alone.",
	},
	{
		name: "dead-lock-is-seen-late", file: "dynalock/acquire.go", ref: "Waiting",
		old: "rand.N(bound-c.opt.MinPoll+1), r.Lease-still)",
		new: "rand.N(bound-c.opt.MinPoll+1), r.Lease)",
		bug: "A waiter does not look at the moment when a dead holder's lease is over.",
	},
	{
		name: "every-goroutine-looks", file: "dynalock/queue.go", ref: "Waiting",
		old: "ready := q.waiting[0] == w && c.holders[w.key] == nil",
		new: "ready := c.holders[w.key] == nil",
		bug: "Every goroutine of a process looks at the table, not only the first in line.",
	},
}
