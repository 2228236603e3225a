// Package dynalock takes locks in a DynamoDB table: lease-based, with fencing.
//
// A lock is one item, and whoever writes it under the right condition holds it. The holder renews its lease with
// heartbeats; when it falls silent for a whole lease, others may take over. [Client.Do] runs a function under a
// lock, [Client.Acquire] and [Client.TryAcquire] give a [Lock] to hold, [Lock.Transact] writes to DynamoDB only
// while it is held. [Client.Once], [Client.Tick] and [Client.Election] are built on it. What follows is how it works
// and what to rely on.
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
// treated as free, never overwritten. A released item stays, because the token lives in it and because it refuses late
// copies of old requests.
//
// # Acquiring
//
// One conditional UpdateItem, and nothing is read first. It succeeds if the item does not exist, or was released before
// the request was made, or has a version that this client has watched standing still for the whole lease stored in the
// item. A refusal carries the holder's item: it is the answer of TryAcquire ([HeldError]) and the first look of a
// waiter. So an uncontended lock and its release are two requests. A client whose clock is behind the one that wrote
// the release may need a third: the refusal shows the released row, and the next attempt names its version.
//
// # Waiting
//
// A waiter reads (eventually consistent, half a read unit) and writes only when the lock looks free, because a
// refused write costs a write unit and gets in the way of the holder. It looks again after a random time between
// MinPoll and a bound that grows with the lock's usual hold time, the age of the tenure and the number of other
// processes that wait, at most MaxPoll, and in any case when a dead holder's lease would be over. Goroutines of one
// client that wait for one key are one waiter, served in order; while that client holds the lock itself none of them
// looks. The item counts turns: a process has its turn from the tenure that found the lock free to the release for
// everybody. The number of others is estimated as the number of turns that they had since the process's own last one.
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
// # States of a tenure
//
// A [Lock] is one tenure. It is in one of four states, as its holder has it:
//
//	         loss                Release               done
//	held ─────────▶ ended ─────────────▶ releasing ─────────▶ released
//	  │               ▲                   ▲     │
//	  │               └───────────────────│─────┘ the release failed
//	  └───────────────────────────────────┘
//	                 Release
//
// What its caller and the item see of each:
//
//   - held: Held may be true, Err is nil, Done is open, and heartbeats keep the lease.
//   - ended: Err is a [*LostError], or [ErrReleased] where a release failed. Done is closed. The item may still show
//     the tenure, until the lease has run out.
//   - releasing: Err is ErrReleased, or the LostError of before. The item is being freed or handed over.
//   - released: nobody writes to the item for this tenure any more.
//
// Release may be called in each of them, and again after an error. The states of the item itself are those of
// [State].
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
// # Late requests
//
// A network, a proxy or an SDK may deliver a request again, or for the first time, long after its caller has gone on.
// Such a copy changes nothing. What a holder writes names the versions and the token of its own tenure. An acquire
// takes a released row only if that was written before the request was made: each release is stamped later than every
// request that its tenure has sent, and each acquire no earlier than the row that it replaces. So a copy of a request
// that was applied is refused whatever any clock says. A request that was not, and arrives late for the first time, is
// refused where the clocks are right (they are corrected by DynamoDB's, to about a second); else it can begin a tenure
// that nobody holds, for one lease.
//
// DynamoDB refuses a request that is more than five minutes old, by its signature. A row that is to go after its
// release ([AcquireOptions].DeleteOnRelease, [Options].Retention, [OnceOptions].Keep) stays for 15 minutes at least.
//
// # Release and hand-over
//
// [Lock.Release] stops the heartbeat, waits for the one in flight, and marks the item as released, on condition that
// it is still ours. nil means that the lock is not held by this tenure. An error can be retried, a cancelled context
// does not keep the release from being sent, and a successor is never touched. Where goroutines of the same client
// wait, the first of them writes its tenure on condition of the old one's version: one request, and no poll. That ends
// with a release for everybody, and a pause in which each other process that waits looks once: after at least 16
// hand-overs in a row, and not before they have lasted 32 times as long as the pause. So a process that is alone leaves
// the lock free for about 3 % of the time, and another process waits for one such turn, however long the first was
// alone: 16 hand-overs of a lock that is held for 2 s or longer, 35 of one that is held for 20 ms, some 150 of one that
// is held for 1 ms. (By the request that a hand-over takes, here 2 ms, and with the defaults of MinPoll and MaxPoll.)
//
// [Client.Close] tells the functions of Do, Once and elections to stop, waits for them, and releases all locks.
// [Client.Resume] carries a tenure into another process.
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
// token to count on from (a new key; an item deleted by its TTL, by hand or by another library; a row that another
// library wrote anew) it starts at DynamoDB's time in microseconds, which grows faster than a lock changes hands. The
// answers carry that time, so a client knows it to a second, whatever the machine's clock says. A token that comes out
// more than half a second old, or not above the largest that the client has seen of the key, is raised by one more
// write before anybody gets it. So the tokens of one client never go back (it remembers 10,000 keys), and those of two
// are in order when 3 s or more lie between the two creations of the item. Only the very first request of a process
// rests on the machine's clock alone: its token is ahead by as much as that clock. Behind is only a token whose process
// dies before it hears the answer, and what counts on from it. After a deletion by the TTL, 15 minutes or more after
// the release, that decides nothing.
//
// # Guarded writes
//
// Held is an answer about the past: a process may freeze between asking and acting, and no lease can stop it. Only
// the resource can. Where it is DynamoDB, [Lock.Transact] writes together with [Lock.ConditionCheck], which DynamoDB
// evaluates at the commit: the lock is held by this acquisition, with this token. It is exact from the instant of a
// take-over or release, and no clock is involved. Where a condition of the caller's own refuses an attempt, an
// earlier one or a copy may still be under way: Transact has a heartbeat make these void before it returns the refusal.
// Elsewhere the resource has to remember the largest token that it has seen and refuse smaller ones: in SQL,
//
//	UPDATE account SET balance = $1, fence = $2 WHERE id = $3 AND fence <= $2
//
// # Sharing a table
//
// The AWS Labs client for Java, dynamolock and this library can lock the same keys of one table at the same time:
// each keeps the others out, and takes over from their dead holders after the lease in the item. Both forms of the
// lease ("10000" and "10s") are read, and an existing item keeps its own; dynamolock reads only the second, see
// [DialectDynamolock]. A row that another library has released costs one request more: it is looked at before it is
// taken. The others know no tokens: the Java client drops the token, dynamolock may write an older one back. So tokens
// order the tenures of a key only where this library alone locks it. Guarded writes ask for the acquisition id, too.
// They are exact in a mixed fleet as long as nobody deletes rows, as the Java client does with released ones by
// default. [Options].Retention and [AcquireOptions].DeleteOnRelease are not for tables shared with dynamolock, which
// copies the TTL into rows that it holds.
//
// # What is not promised
//
// It does not make it impossible for two processes to act at once. A process that was frozen, or that is slow
// between Held and its write, may act when its lease has passed on: only guarded writes cover that. Clocks that run
// at rates further apart than the safety margin allows break the lease, not the tokens and not the guarded writes.
//
// Locks are not reentrant: to acquire a key once more with a context of its holder is refused ([ErrNested]), and
// without one a goroutine waits for itself. Processes are not served in the order in which they came.
//
// Where an item was deleted by hand or by another library, copies of requests that are up to five minutes old may make
// it anew, or, stamped by a clock that was ahead, take it while it is free. One begins a tenure that nobody holds, for
// one lease. One of the acquire that had created the item brings back its very tenure, whose guarded writes then apply
// again. Tokens may go back.
//
// A global table in the eventually consistent mode decides in each Region on a copy of its own: use one Region, or the
// strongly consistent mode (where there are no transactions, so no Transact). Whoever may write to the table can break
// every lock in it.
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
