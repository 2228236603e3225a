package main

// strangerMutants are bugs with what others wrote, with code of the caller that panics, with handles of elsewhere, with a
// caller that waits for itself, and with what is told of all that.
var strangerMutants = []mutant{
	{
		name: "reason-as-it-was-stored", file: "dynalock/errors.go", ref: "HeldError",
		old: "printable(e.Record.Reason)",
		new: "e.Record.Reason",
		bug: "The reason that somebody stored reaches a terminal with its escape sequences.",
	},
	{
		name: "pause-as-it-was-stored", file: "dynalock/job.go", ref: "Client.Pause",
		old: "printable(p.str(attrPaused))",
		new: "p.str(attrPaused)",
		bug: "The reason of a pause reaches a terminal with its escape sequences.",
	},
	{
		name: "broken-bytes-are-printable", file: "dynalock/text.go", ref: "HeldError",
		old: " && (r != utf8.RuneError || n > 1)",
		new: "",
		bug: "Bytes that are no UTF-8 become something else in the text of an error.",
	},
	{
		name: "handle-of-any-table", file: "dynalock/resume.go", ref: "Client.Resume",
		old: "h.Table != \"\" && !sameTable(h.Table, c.store.table)",
		new: "false",
		bug: "A handle of another table is told to be of a lost lock.",
	},
	{
		name: "handle-of-any-account", file: "dynalock/table.go", ref: "Client.Resume",
		old: " && (account == otherAccount || account == \"\" || otherAccount == \"\")",
		new: " && len(account)+len(otherAccount) >= 0",
		bug: "A table of the same name in another account is taken for that of the handle.",
	},
	{
		name: "handle-without-a-table-is-refused", file: "dynalock/resume.go", ref: "Client.Resume",
		old: "h.Table != \"\" && h.Sort != c.opt.SortValue",
		new: "h.Sort != c.opt.SortValue",
		bug: "A handle of an older version is refused for the sort value that it does not name.",
	},
	{
		name: "handle-of-a-run-is-resumed", file: "dynalock/resume.go", ref: "Client.Resume",
		old: "if h.Run {",
		new: "if false {",
		bug: "The run of a period is resumed elsewhere, and never finished.",
	},
	{
		name: "hint-blames-the-next-item", file: "dynalock/transact.go", ref: "Lock.Transact",
		old: "case i < len(g.items):",
		new: "case i < len(g.items)-1:",
		bug: "The last item of the caller's is taken for the lock's own check.",
	},
	{
		name: "missing-table-is-waited-for", file: "dynalock/transact.go", ref: "Lock.Transact",
		old: "return now-g.strange >= g.l.timing.lease",
		new: "return now < g.strange",
		bug: "A transaction with a table that does not exist is repeated for as long as the lock is held.",
	},
	{
		name: "panic-of-a-heartbeat-is-a-failure", file: "dynalock/lock.go", ref: "PanicError",
		old: "if a.crash != nil {\n\t\treturn l.revoke(a.crash, nil)\n\t}\n",
		new: "",
		bug: "A heartbeat whose store panics is only tried again.",
	},
	{
		name: "goexit-in-a-heartbeat-is-a-failure", file: "dynalock/lock.go", ref: "PanicError",
		old: "func(p *PanicError) { err = l.revoke(p, nil) }",
		new: "nil",
		bug: "A heartbeat whose Observer panics, or whose store leaves by Goexit, is only tried again.",
	},
	{
		name: "goexit-leaves-the-caller-waiting", file: "dynalock/tasks.go", ref: "PanicError",
		old: "}, func(p *PanicError) { done <- answer{err: p, crash: p} }) {",
		new: "}, nil) {",
		bug: "A caller whose store leaves by Goexit, as a mock that fails a test does, waits for ever.",
	},
	{
		name: "panic-of-a-store-is-an-answer", file: "dynalock/tasks.go", ref: "PanicError",
		old: "\tcase a := <-done:\n\t\ta.crash.raise()\n\t\treturn a\n\tcase <-ctx.Done():",
		new: "\tcase a := <-done:\n\t\treturn a\n\tcase <-ctx.Done():",
		bug: "A caller whose store panics gets an error, and the request is repeated.",
	},
	{
		name: "panic-keeps-the-lock", file: "dynalock/giveback.go", ref: "Observer",
		old: "\tcase a.won != nil:\n\t\ta.won.startRelease()\n",
		new: "\tcase a.won != nil:\n",
		bug: "A lock whose acquisition an Observer ends by a panic is renewed for ever, and nobody has it.",
	},
	{
		name: "only-the-innermost-lock-is-nested", file: "dynalock/nested.go", ref: "NestedError",
		old: "n != nil; n = n.up {",
		new: "n != nil; n = nil {",
		bug: "A call waits for itself when it holds another lock in between.",
	},
	{
		name: "nested-in-a-lock-that-is-over", file: "dynalock/nested.go", ref: "NestedError",
		old: " && l.Err() == nil {",
		new: " {",
		bug: "A caller whose lock is over may not acquire it anew.",
	},
	{
		name: "refusal-is-a-wait", file: "dynalock/wait.go", ref: "EventKind",
		old: "\tif a.patient {\n",
		new: "\tif true {\n",
		bug: "A refused TryAcquire is told to wait.",
	},
	{
		name: "wait-without-an-end", file: "dynalock/acquire.go", ref: "EventKind",
		old: "\ta.over = true\n\tif err != nil {\n",
		new: "\ta.over = true\n\tif err != nil && !a.patient {\n",
		bug: "An Acquire that ends without a lock says nothing, and a gauge of those who wait leaks.",
	},
	{
		name: "wait-in-the-process-is-silent", file: "dynalock/wait.go", ref: "EventKind",
		old: "if by, behind := a.c.line.before(w); behind {",
		new: "if by, behind := a.c.line.before(w); behind && by == nil && a.tries > 0 {",
		bug: "A wait for another goroutine of the process is no event.",
	},
	{
		name: "tenure-ends-twice", file: "dynalock/observer.go", ref: "EventKind",
		old: "late := n.ended",
		new: "late := false",
		bug: "A tenure that is released after its loss ends with two events.",
	},
	{
		name: "tenure-of-nobody-speaks", file: "dynalock/observer.go", ref: "EventKind",
		old: "\tif !late && !n.begun {\n\t\tn.untold = append(n.untold, *e)\n\t}\n\treturn !late && n.begun",
		new: "\treturn !late",
		bug: "A tenure that was won after its caller had gone is told to be released, and never to have begun.",
	},
	{
		name: "loss-without-duration", file: "dynalock/observer.go", ref: "EventKind",
		old: "e.Duration = l.c.now() - l.began.Mono",
		new: "_ = l.began",
		bug: "The event that ends a tenure does not say how long it was held.",
	},
	{
		name: "panic-of-a-renewal-ends-the-process", file: "heartbeat/scheduler.go", ref: "heartbeat.Config",
		old: "\t\tif v := recover(); v != nil {\n\t\t\terr = &PanicError{Value: v, Stack: debug.Stack()}\n\t\t}\n",
		new: "",
		bug: "A Renew that panics ends the process.",
	},
}
