// Package dynalock takes locks in a DynamoDB table: lease-based, with fencing.
//
// A lock is one item in the table. A client that writes the item under the right condition holds the lock. The holder
// renews its lease with heartbeats. When it has sent none for a whole lease, another client may take the lock over.
//
// The calls:
//
//   - [Client.Do] runs a function under a lock.
//   - [Client.Acquire] and [Client.TryAcquire] give a [Lock] to hold by hand.
//   - [Lock.Transact] writes to DynamoDB only while the lock is held.
//   - [Client.Resume] goes on with a lock in another process.
//   - [Client.Once], [Client.Tick] and [Client.Election] run jobs and elect leaders with such locks.
//
// The sections below say how a lock works, and what it promises.
//
// # The item
//
// Each key has one item:
//
//   - ownerName: the holder's label. It identifies nothing, and two holders may have the same.
//   - leaseDuration: the lease.
//   - recordVersionNumber: the version, which every write changes.
//   - isReleased: "1" if the lock is free.
//   - data: the payload.
//   - fencingToken: the fencing token.
//
// The first five are those of the AWS Labs lock client for Java and of dynamolock. The version is "<acquisition
// id>-<counter>". The acquisition id is 128 random bits, made for one acquisition: it tells two tenures apart.
//
// Statistics, the expiry and the reason are stored beside these. They are believed only in a row whose version this
// library wrote. An item that is not a lock (it has no version, no readable lease, or a wrong type) is foreign:
// [ErrForeign]. It is never treated as free, and never overwritten. A released item stays in the table, for two
// reasons: the token lives in it, and it rejects late copies of old requests.
//
// # Acquiring
//
// To acquire a lock is one conditional UpdateItem, and nothing is read first. It succeeds if one of these holds:
//
//   - The item does not exist.
//   - The item was released before the request was made.
//   - The item has a version that this client has watched standing still for the whole lease stored in the item.
//
// Otherwise DynamoDB rejects the write and returns the holder's item. That is the answer of TryAcquire ([HeldError])
// and the first look of a waiter. So an uncontended lock and its release are two requests. A client whose clock is
// behind that of the client which wrote the release may need a third one: the rejected write shows the released row,
// and the next attempt names its version.
//
// # Waiting
//
// A waiter polls: it reads (eventually consistent, half a read unit), and writes only when the lock looks free. A
// rejected write costs a write unit and gets in the way of the holder. The time to the next look is random, from
// MinPoll up to a bound. The bound is at most MaxPoll, and grows with
//
//   - the time that the lock is usually held,
//   - the age of the present tenure,
//   - the number of other processes that wait.
//
// In any case the waiter looks when a dead holder's lease would be over.
//
// Goroutines of one client that wait for one key are one waiter, and are served in the order in which they came. While
// their own client holds the lock, none of them looks. The item counts turns: a process has its turn from the tenure
// that found the lock free to the release for everybody. The number of other waiters is estimated as the number of
// turns that other processes have had since this process had its last one.
//
// # Heartbeats
//
// A heartbeat is one write that changes the version, on condition that the version is one of the holder's own. What it
// learns:
//
//   - Throttling, an error or a timeout is no loss. The heartbeat is retried until the deadline.
//   - The item is missing, released or taken over: the lock is lost at once.
//
// All locks of a client share one scheduler (package heartbeat) with a constant number of goroutines. At most 64
// heartbeats are in flight. Those with the earliest deadline come first.
//
// # How long a lock is trusted
//
// The holder counts from the moment before the acknowledged request was sent, and stops after Lease - SafetyMargin.
// Only an acknowledgement extends that. Three clocks are read, the monotonic, the boot-time and the wall clock, and the
// one that says that most time has passed decides. The waiter counts the whole lease on its monotonic clock, from the
// moment after the first answer that shows the version. So the holder stops first, as long as the rates of the two
// clocks differ by less than Lease / (Lease - SafetyMargin). That is 1.25 by default. Two clocks that chrony slews in
// opposite directions, as fast as it may, differ by 1.18. No two machines need to agree on the time of day.
//
// When the clocks show that the machine was suspended, or that its wall clock was set forward, [Lock.Held] is false
// until a heartbeat that was sent after that is acknowledged. Held, [Lock.Deadline], [Lock.Err] and [Lock.Done] wait
// for no request. At the deadline at the latest, Done is closed and the contexts of Do and [Lock.Context] are
// cancelled, also when a heartbeat hangs.
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
//   - ended: Err is a [*LostError], or [ErrReleased] if a release failed. Done is closed. The item may still show the
//     tenure, until the lease has expired.
//   - releasing: Err is ErrReleased, or the earlier LostError. The item is being freed or handed over.
//   - released: the holder sends no request for this tenure any more.
//
// Release may be called in each of them, and again after an error. The states of the item itself are those of
// [State].
//
// # Lost answers
//
// A request without an answer is in doubt: it may have been applied, or be applied later.
//
//   - The SDK's retries are off for lock requests, because a retry would meet the condition that the first attempt has
//     already changed. Each attempt has a timeout of its own.
//   - Every attempt of one acquisition carries the same id. A rejected write that shows our own item is the missing
//     answer, and the lease counts from the attempt that wrote it.
//   - A heartbeat or a release names every version that may be in the item.
//   - An acquisition whose caller gives up while a request is in doubt is released in the background. If that fails,
//     the lock ends with its lease.
//
// # Late requests
//
// A network, a proxy or an SDK may deliver a request again, or for the first time, long after its caller has gone on.
// Such a copy changes nothing:
//
//   - What a holder writes names the versions and the token of its own tenure.
//   - An acquire takes a released row only if the row was written before the request was made. Each release is stamped
//     later than every request that its tenure has sent, and each acquire no earlier than the row that it replaces.
//   - So a copy of a request that was applied is rejected, whatever any clock says.
//   - A request that was not applied, and arrives late for the first time, is rejected where the clocks are right. They
//     are corrected by DynamoDB's, to about a second. Where they are wrong, it can begin a tenure that nobody holds,
//     for one lease.
//
// DynamoDB rejects a request that is more than five minutes old, by its signature. A row that is to be deleted after
// its release ([AcquireOptions].DeleteOnRelease, [Options].Retention, [OnceOptions].Keep) stays for at least 15
// minutes.
//
// # Release and hand-over
//
// [Lock.Release] stops the heartbeats, waits for the one in flight, and marks the item as released, on condition that
// it is still ours. nil means that this tenure does not hold the lock any more. After an error the call may be
// repeated. A cancelled context does not keep the release from being sent, and a successor is never touched.
//
// Where goroutines of the same client wait for the key, the release hands the lock over: the first of them writes its
// own tenure on condition of the old one's version. That is one request instead of two, and no poll.
//
// Hand-overs end with a release for everybody, and a pause in which each other process that waits looks once. That
// comes after at least 16 hand-overs in a row, and not before they have lasted 32 times as long as the pause. So a
// process that is alone leaves the lock free for about 3 % of the time. Another process waits for one such turn,
// however long the first one was alone. With the defaults of MinPoll and MaxPoll, and a hand-over that takes 2 ms, a
// turn is
//
//   - 16 hand-overs of a lock that is held for 2 s or longer,
//   - 35 hand-overs of a lock that is held for 20 ms,
//   - some 150 hand-overs of a lock that is held for 1 ms.
//
// [Client.Close] tells the functions of Do, Once and elections to stop, waits for them, and releases all locks.
// [Client.Resume] carries a tenure into another process.
//
// # Take-over
//
// A client knows a dead holder by its version, which stands still. A client remembers between calls what it has
// watched. So a process whose calls are shorter than a lease (a warm Lambda function) still takes over in the end.
//
// A process that lives shorter than a lease can only believe the stored expiry. With [Options].MaxClockSkew set, a lock
// whose expiry passed longer ago than that is taken at first sight. Without it no timestamp in the item decides
// anything.
//
// # Tokens
//
// While the item exists, each tenure's token is the previous one plus one, and no clock matters.
//
// There is no token to count on from in three cases: the key is new; the item was deleted, by its TTL, by hand or by
// another library; another library wrote the row. Then the token starts at DynamoDB's time in microseconds, which grows
// faster than a lock changes hands. DynamoDB's answers carry that time, so a client knows it to a second, whatever the
// machine's clock says. A token that is more than half a second old when the answer comes, or not above the largest
// that the client has seen of the key, is raised by one more write before the caller gets it. So
//
//   - the tokens of one client never go back (it remembers 10,000 keys),
//   - the tokens of two clients are in order if 3 s or more lie between the two creations of the item.
//
// Two cases are left:
//
//   - The very first request of a process rests on its machine's clock alone. If that clock is ahead, the token is
//     ahead by as much.
//   - A process dies before it hears the answer. Then its token may be too small, and so may those that count on from
//     it. After a deletion by the TTL, 15 minutes or more after the release, that decides nothing.
//
// # Guarded writes
//
// Held is an answer about the past. A process may freeze between asking and writing, and no lease can prevent that.
// Only the resource can.
//
// Where the resource is in DynamoDB, [Lock.Transact] sends the writes together with [Lock.ConditionCheck]. DynamoDB
// evaluates the check at the commit: this acquisition, with this token, holds the lock. The check is exact from the
// instant of a take-over or release, and no clock is involved. If a condition of the caller's own rejects an attempt,
// an earlier attempt or a copy may still be under way. Transact then makes these void with a heartbeat before it
// returns the error.
//
// Any other resource has to remember the largest token that it has seen, and to reject smaller ones. In SQL:
//
//	UPDATE account SET balance = $1, fence = $2 WHERE id = $3 AND fence <= $2
//
// # Sharing a table
//
// The AWS Labs client for Java, dynamolock and this library can lock the same keys of one table at the same time. Each
// keeps the others out, and takes over from their dead holders after the lease in the item.
//
//   - Both forms of the lease ("10000" and "10s") are read, and an existing item keeps its own. dynamolock reads only
//     the second form; see [DialectDynamolock].
//   - A row that another library has released costs one request more, because it is read before it is taken.
//   - The others know no tokens: the Java client drops the token, and dynamolock may write an older one back. So tokens
//     order the tenures of a key only where this library alone locks it.
//   - Guarded writes check the acquisition id, too. They are exact in a mixed fleet as long as no program deletes rows,
//     as the Java client by default does with released ones.
//   - [Options].Retention and [AcquireOptions].DeleteOnRelease are not for tables shared with dynamolock, which copies
//     the TTL into the rows of locks that it holds.
//
// # What is not promised
//
// Two processes can act at once:
//
//   - A process that was frozen, or that is slow between Held and its write, may act after its lease has passed to
//     another. Only guarded writes cover that.
//   - Clocks whose rates differ by more than the safety margin allows break the lease. They do not break the tokens,
//     nor the guarded writes.
//
// Locks are not reentrant. To acquire a key again with a context of its holder is refused ([ErrNested]). Without such a
// context a goroutine that acquires a key twice waits for itself.
//
// Processes are not served in the order in which they came.
//
// Where an item was deleted by hand or by another library, a copy of a request that is up to five minutes old may
// create it again. A copy whose stamp comes from a clock that was ahead may take it while it is free. Such a copy
// begins a tenure that nobody holds, for one lease. A copy of the acquire that had created the item brings back that
// very tenure, and its guarded writes apply again. Tokens may go back.
//
// A global table in the eventually consistent mode decides in each Region on a copy of its own. Use one Region, or the
// strongly consistent mode, in which there are no transactions, and so no Transact.
//
// Every program that may write to the table can break every lock in it.
//
// # Compatibility
//
//   - The item's format changes only with the major version. Two versions of one major version may lock the same table.
//   - Until version 1 a minor version may change the API.
//   - Errors match with errors.Is and errors.As.
//   - The texts of errors, the order of observed events and the attributes of the item that are not named here may
//     change at any time.
//
// # Sources
//
//   - The item's format, and watching a version stand still, are those of the AWS Labs lock client for Java.
//   - Checking the holder at the resource is Chubby's sequencer (Burrows, The Chubby lock service, OSDI 2006).
//   - The name fencing token, and the paused process that shows the need for one, are from Kleppmann, How to do
//     distributed locking (2016).
//   - That a holder has to stop before its lease ends, by a margin for the clocks, is from Gray and Cheriton, Leases
//     (SOSP 1989).
package dynalock
