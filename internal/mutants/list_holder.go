package main

// holderMutants are bugs of a tenure: its heartbeats, the account of its versions, its release and its resumption.
var holderMutants = []mutant{
	{
		name: "version-dropped-from-the-condition", file: "dynalock/lock.go", ref: "Heartbeats",
		old: "cond: condVersion(len(named)) + condToken,",
		new: "cond: \"attribute_exists(#version)\" + condToken,",
		bug: "A holder's writes do not ask whether the version is still one of its own.",
	},
	{
		name: "token-dropped-from-the-condition", file: "dynalock/lock.go", ref: "What is not promised",
		old: "cond: condVersion(len(named)) + condToken,",
		new: "cond: condVersion(len(named)),",
		bug: "A holder that an operator has freed believes in a late copy of its own acquire, which others' tokens have passed.",
	},
	{
		name: "lost-heartbeat-forgotten", file: "dynalock/lock.go", ref: "peer 1",
		old: "l.open = append(l.open, next)\n",
		new: "",
		bug: "A heartbeat whose answer was lost is forgotten: the next one is refused by its version, and a healthy lock dropped.",
	},
	{
		name: "unavailable-is-lost", file: "dynalock/lock.go", ref: "Heartbeats",
		old: "return l.c.storeError(\"heartbeat\", l.key, a.err)",
		new: "return fmt.Errorf(\"%w: %w\", heartbeat.ErrGone, a.err)",
		bug: "A 503, a timeout, a throttled or conflicting heartbeat is a loss.",
	},
	{
		name: "missing-item-is-created-again", file: "dynalock/lock.go", ref: "Heartbeats",
		old: "w.update = updRenew\n",
		new: "w.update, w.cond = updRenew, condNew+\" OR \"+w.cond\n",
		bug: "A heartbeat creates an item that was deleted, without its token.",
	},
	{
		name: "held-waits-for-the-heartbeat", file: "dynalock/lock.go", ref: "peer 4",
		old: "func (l *Lock) Held() bool { return l.lease.Valid() }",
		new: "func (l *Lock) Held() bool { l.turn <- struct{}{}; defer l.give(); return l.lease.Valid() }",
		bug: "Held waits for the heartbeat in flight.",
	},
	{
		name: "set-data-trusts-from-the-answer", file: "dynalock/lock.go", ref: "How long a lock is trusted",
		old: "l.lease.Acknowledge(a.sent)",
		new: "l.lease.Acknowledge(a.got)",
		bug: "Renew and SetData extend the lease from the moment when the answer came in.",
	},
	{
		name: "empty-data-is-not-stored", file: "dynalock/lock.go", ref: "Lock.SetData",
		old: "data = append([]byte{}, data...)",
		new: "data = slices.Clone(data)",
		bug: "SetData of nil leaves the payload as it was.",
	},
	{
		name: "release-on-the-callers-context", file: "dynalock/release.go", ref: "peer 16",
		old: "r := l.startRelease()\n\tselect {",
		new: "if err := ctx.Err(); err != nil {\n\t\treturn err\n\t}\n\tr := l.startRelease()\n\tselect {",
		bug: "A deferred release with the cancelled context of its function is not sent and leaves the lock held for a lease.",
	},
	{
		name: "failed-release-cannot-be-repeated", file: "dynalock/release.go", ref: "peer 7",
		old: "if retry {\n",
		new: "if retry && l.rel == nil {\n",
		bug: "The outcome of a failed release is kept: the lock is marked as released before it is.",
	},
	{
		name: "average-of-the-last-alone", file: "dynalock/release.go", ref: "Waiting",
		old: "average = (4*l.hold + held) / 5",
		new: "average = held",
		bug: "The usual hold time is that of the last tenure.",
	},
	{
		name: "close-stops-at-the-first-failure", file: "dynalock/client.go", ref: "peer 7",
		old: "err := context.Cause(ctx)\n\t\t\t\tif err == nil {",
		new: "mu.Lock()\n\t\t\t\tfailed := len(errs) > 0\n\t\t\t\tmu.Unlock()\n\t\t\t\tif failed {\n\t\t\t\t\tcontinue\n\t\t\t\t}\n\t\t\t\terr := context.Cause(ctx)\n\t\t\t\tif err == nil {",
		bug: "Close leaves the rest held after the first release that failed.",
	},
	{
		name: "close-without-bound", file: "dynalock/client.go", ref: "Client.Close",
		old: "for range min(len(held), 64) {",
		new: "for range len(held) {",
		bug: "Close releases all locks at once, however many.",
	},
	{
		name: "operator-loses-to-the-heartbeat", file: "dynalock/client.go", ref: "Client.ForceRelease",
		old: "w.cond, w.values[\":id\"] = condTenure, str(seen+\"-\")",
		new: "w.cond, w.values[\":seen0\"] = \"#version = :seen0\", str(r.Version)",
		bug: "A forced release asks for the version, which a live holder changes with every heartbeat.",
	},
	{
		name: "operator-frees-the-owners-next-tenure", file: "dynalock/client.go", ref: "peer 12",
		old: "w.cond, w.values[\":id\"] = condTenure, str(seen+\"-\")",
		new: "w.cond, w.values[\":seenOwner\"] = \"NOT #released = :one AND #owner = :seenOwner\", str(r.Owner)",
		bug: "A forced release asks for the owner's name, and frees another tenure of the same name.",
	},
	{
		name: "lost-forced-release-is-a-change", file: "dynalock/client.go", ref: "Client.ForceRelease",
		old: "if now.id() == id { // an attempt whose answer was lost",
		new: "if now.id() == id && false {",
		bug: "A forced release whose answer was lost is reported as too late.",
	},
	{
		name: "old-handle-goes-on", file: "dynalock/resume.go", ref: "Client.Resume",
		old: "old := c.tenure(h.ID); old != nil {",
		new: "old := c.tenure(h.ID); old != nil && c == nil {",
		bug: "The copy of a lock that was resumed in the same client is held until its next heartbeat.",
	},
	{
		name: "resume-forgets-the-lease", file: "dynalock/resume.go", ref: "Client.Resume",
		old: "o.Lease, o.DeleteOnRelease = time.Duration(h.Lease)*time.Millisecond, h.Delete",
		new: "o.DeleteOnRelease = h.Delete",
		bug: "A resumed lock has the lease of the client, not that of the handle.",
	},
}
