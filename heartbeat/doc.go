// Package heartbeat keeps leases alive, and says at any instant whether they may still be relied on.
//
// A lease is a right that a store grants for a limited time. Its holder renews it, and others may take it when the
// holder has not renewed it for that time. A [Scheduler] keeps any number of leases. Of each it knows only a function
// that renews it. It does not know the store.
//
// # How long a lease is trusted
//
// The holder counts from the instant before the acknowledged request was sent, because the store may have begun to
// count at any time after that. It trusts the lease for [Config].Trust and no longer, whatever errors a renewal
// returns. Only an acknowledgement extends that time, and one that arrives after the deadline does not revive the
// lease. Trust should be shorter than the time that the store grants, by the worst ratio of two clocks' rates, because
// others count on clocks of their own.
//
// Three clocks are read, and the one that says that most time has passed decides, because each of them can miss some:
//
//   - The monotonic clock is never set, but it stands still while the machine is suspended or its virtual machine
//     is paused. Timers run on it, so they are late by as much.
//   - The boot-time clock counts suspension. It stands still when a hypervisor pauses the machine without telling it.
//   - The wall clock is corrected over the network sooner or later, also after such a pause. It may be set back at any
//     time, and a clock that is set back proves nothing.
//
// When the boot-time or the wall clock has run ahead of the monotonic one by more than slewing explains (an eighth of
// the time and 50 ms), the machine was suspended, and it is not certain for how long. [Lease.Valid] is then false, even
// if Trust is not used up, until a renewal that was sent after that has been acknowledged.
//
// # What is promised
//
//   - [Lease.Valid] is true only within Trust after the send of an acknowledged renewal. It waits for nothing.
//   - The loss is announced (Ended) at the deadline by the clocks, also while a renewal hangs or waits for its turn.
//     After a suspension it is announced when the scheduler next looks at the clocks: within a second.
//   - Renewals are spread over the period. Their number in flight is bounded, each has a timeout of its own, and a
//     failed one is retried within the lease. Those with the earliest deadline come first. A renewal that hangs
//     occupies one slot until its timeout.
//   - A lease costs no goroutine and no timer. There are two goroutines for all of them (one of them only while
//     losses are announced), one for each of at most Parallelism renewals in flight, and one for each renewal
//     that has not returned though its context was cancelled: at most one a lease.
//   - [Lease.Stop] and [Scheduler.Close] return when what they stopped has returned.
//
// # What is not promised
//
// No clock shows everything. A process that is descheduled, or a machine that is paused and whose three clocks all
// stand still, may act on a Valid that was true when it was asked, and is not true any more. A request that reaches the
// store late is applied when the lease has passed to another holder. Only the store or the resource can reject that,
// with a fencing token that grows from holder to holder. A lease tells its holder when to stop, and cannot stop it.
package heartbeat
