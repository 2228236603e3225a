// Package dynalock takes locks in a DynamoDB table: lease-based, with fencing.
//
// A lock is one item, and whoever writes it under the right condition holds it. The holder renews its lease with
// heartbeats; when it falls silent for a whole lease, others may take over. [Client.Do] runs a function under a
// lock, [Client.Acquire] and [Client.TryAcquire] give a [Lock] to hold, [Lock.Transact] writes to DynamoDB only
// while it is held. [Client.Once] and [Client.Election] are built on it. What follows is how it works and what to
// rely on.
//
// # The item
//
// One item per key: the holder's label (ownerName), the lease (leaseDuration), a version (recordVersionNumber) that
// every write changes, whether it is free (isReleased "1"), a payload (data) and the fencing token (fencingToken).
// The first five are those of the AWS Labs Java client and of dynamolock. The version is "<acquisition
// id>-<counter>": a random id of 128 bits made for this one acquisition, which is what tells two tenures apart.
// Owner labels identify nothing and may collide.
//
// Statistics, the expiry and the reason are kept beside it and believed only in a row whose version this library
// wrote. An item that is not a lock (no version, no readable lease, a wrong type) is foreign: [ErrForeign], never
// treated as free, never overwritten. A released item stays, because the token lives in it.
//
// # Acquiring
//
// One conditional UpdateItem, and nothing is read first. It succeeds if the item does not exist, or is released, or
// has a version that this client has watched standing still for the whole lease stored in the item. A refusal
// carries the holder's item: it is the answer of TryAcquire ([HeldError]) and the first look of a waiter. So an
// uncontended lock and its release are two requests.
//
// # Waiting
//
// A waiter reads (eventually consistent, half a read unit) and writes only when the lock looks free, because a
// refused write costs a write unit and gets in the way of the holder. It looks again after a random time between
// MinPoll and a bound that grows with the lock's usual hold time, the age of the tenure and the number of waiters,
// at most MaxPoll, and in any case when a dead holder's lease would be over. Goroutines of one client that wait for
// one key are one waiter, served in order; while that client holds the lock itself none of them looks.
//
// # Heartbeats
//
// A heartbeat is one write that changes the version, on condition that the version is one of the holder's own.
// Throttling, errors and timeouts are no loss: it is tried again until the deadline. The item missing, released or
// taken is a loss at once. All locks of a client share one scheduler (package heartbeat) with a constant number of
// goroutines and at most 64 renewals in flight, those with the earliest deadline first.
//
// # How long a lock is trusted
//
// The holder counts from the moment before the acknowledged request was sent, for Lease - SafetyMargin, and only an
// acknowledgement extends that. Of the monotonic, the boot-time and the wall clock the one that says most time has
// passed decides. The waiter counts the whole lease from the moment after the first answer that shows the version,
// on its monotonic clock. So the holder stops first, as long as the rates of two clocks differ by less than Lease /
// (Lease - SafetyMargin): 1.25 by default, where clocks slewed in opposite directions at chrony's maximum differ by
// 1.18. No two machines need to agree on the time of day.
//
// When the clocks show that the machine was suspended or its wall clock set forward, [Lock.Held] is false until one
// heartbeat sent after that is acknowledged. Held, [Lock.Deadline], [Lock.Err] and [Lock.Done] wait for no request.
// Done closes, and the contexts of Do and [Lock.Context] are cancelled, at the deadline at the latest, also when a
// heartbeat hangs.
//
// # Lost answers
//
// A request without an answer may have been applied, or be applied later. The SDK's own retry would meet the
// condition that its first attempt has already changed, so lock requests run with the SDK's retries off and a
// timeout for each attempt. Every attempt of one acquisition carries the same id: a refusal that shows our own item
// is the missing answer, and the lease counts from the attempt that wrote it. A heartbeat or release names every
// version that may be in the item. An acquisition that its caller gives up while a request is in doubt is released
// in the background; what cannot be released ends with its lease.
//
// # Release and hand-over
//
// [Lock.Release] stops the heartbeat, waits for the one in flight, and marks the item as released, on condition that
// it is still ours. nil means that the lock is not held by this tenure. An error can be retried, a cancelled context
// does not keep the release from being sent, and a successor is never touched. Where goroutines of the same client
// wait, the first of them writes its tenure on condition of the old one's version: one request, and no poll. After
// at most 16 of those in a row (up to 1,024, where nobody else turns up) the lock is released for everybody. [Client.Close]
// releases all locks. [Client.Resume] carries a tenure into another process.
//
// # Take-over
//
// A holder that died is known by a version that stands still. What a client has watched is kept between calls: a
// process whose calls are shorter than a lease (a warm Lambda function) still takes over in the end. A process that
// lives shorter than that can only go by the stored expiry: with [Options].MaxClockSkew set, a lock whose expiry
// lies further back than that is taken at first sight. Without it no timestamp in the item decides anything.
//
// # Tokens
//
// While the item exists, each tenure's token is the one before plus one, and no clock matters. Where there is no
// token to count on from (a new key; an item deleted by an operator, by TTL or by DeleteOnRelease; a row that
// another library wrote anew) it starts at DynamoDB's time in microseconds, which grows faster than a lock changes
// hands. Then the order rests on how well that time is known, against the time between the two starts:
//
//   - The service's answers carry its time, in whole seconds. After one answered request a client knows it to half a
//     second and half a round trip, later better, whatever the machine's clock says (and until it is set). Tokens of
//     any two such clients are in order when the item was created 2 s or more after it was created the last time.
//   - Closer together than that, two clients may give tokens out of order. One client alone does not: it remembers
//     the largest token that it has seen of a key, for up to 10,000 keys. With more it forgets any one for each new
//     one; then the order of that key rests on the client's estimate of the time alone.
//   - The very first request of a process has only the machine's clock. It has to agree with the others better than
//     the time between the two creations.
//
// So keep the items, which is the default; they are small. [AcquireOptions].DeleteOnRelease and [Options].Retention
// are for keys that are not used again soon.
//
// # Guarded writes
//
// Held is an answer about the past: a process may freeze between asking and acting, and no lease can stop it. Only
// the resource can. Where it is DynamoDB, [Lock.Transact] writes together with [Lock.ConditionCheck], which DynamoDB
// evaluates at the commit: the lock is held by this acquisition, with this token. It is exact from the instant of a
// take-over or release, and no clock is involved. Elsewhere the resource has to remember the largest token that it
// has seen and refuse smaller ones: in SQL,
//
//	UPDATE account SET balance = $1, fence = $2 WHERE id = $3 AND fence <= $2
//
// # Sharing a table
//
// The AWS Labs client for Java, dynamolock and this library can lock the same keys of one table at the same time:
// each keeps the others out, and takes over from their dead holders after the lease in the item. Both forms of the
// lease ("10000" and "10s") are read, and an existing item keeps its own; dynamolock reads only the second, see
// [DialectDynamolock]. The others know no tokens: the Java client drops the token, dynamolock may write an older one
// back. So tokens order the tenures of a key only where this library alone locks it. Guarded writes ask for the
// acquisition id, too, and are exact in a mixed fleet. Options.Retention is not for tables shared with dynamolock,
// which copies the TTL into rows that it holds.
//
// # What is not promised
//
// It does not make it impossible for two processes to act at once. A process that was frozen, or that is slow
// between Held and its write, may act when its lease has passed on: only guarded writes cover that. Clocks that run
// at rates further apart than the safety margin allows break the lease, not the tokens and not the guarded writes.
//
// Locks are not reentrant: a goroutine that acquires a key twice waits for itself. Processes are not served in the
// order in which they came. A copy of an old acquire request that a network delivers late, after other tenures, can
// begin a tenure that nobody holds; it costs the others one lease of waiting. Where an item was deleted under its
// holder, such a copy makes it anew, and the tenure goes on. A global table in the eventually consistent mode decides
// in each Region on a copy of its own: use one Region, or the strongly consistent mode (where there are no
// transactions, so no Transact). Whoever may write to the table can break every lock in it.
//
// # Compatibility
//
// The item's format changes only with the major version, and two versions of one major version may lock the same
// table. Until version 1 a minor version may change the API. Errors match with errors.Is and errors.As; their texts,
// the order of observed events and the unnamed attributes of the item may change at any time.
//
// # Sources
//
// The item's format is that of the AWS Labs lock client for Java, and so is watching a version stand still. Checking
// the holder at the resource is Chubby's sequencer (Burrows, The Chubby lock service, OSDI 2006); the name fencing
// token and the paused process that shows its need are from Kleppmann, How to do distributed locking (2016). That a
// holder has to stop before its lease ends, by a margin for the clocks, is from Gray and Cheriton, Leases (SOSP
// 1989).
package dynalock
