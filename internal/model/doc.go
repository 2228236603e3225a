// Package model is the lock protocol as a state machine that is small enough to be searched to its end, and the
// search. It is a document as much as a test: what a client does is in steps.go, what DynamoDB decides in
// [Model.Decide], and what must hold beside the step that could break it.
//
// # What is modelled
//
// One key and up to three clients. A client acquires, with one acquisition id over many attempts: writes while the
// lock looks free or dead, looks while it does not. It sends heartbeats at any time or never, writes guarded by the
// lock's condition check, releases, drops a lost lock, gives up an acquisition and cleans up after it. A client
// keeps what the library keeps: the counter of the last version sent, attempts in doubt with the instants of their
// sending, the versions that the item may have, what it is credited for, and the version that it watches.
//
// Every write is three steps that anything may come between: it is sent, it arrives, its answer arrives. A number of
// them meet a fault: the client gives up on one (it may still arrive, at any time or never; or it has, and the answer
// is lost), or a copy of one stays behind and arrives later. A number of clients crash, with their last request on its
// way. An operator frees a held lock a number of times.
//
// Time passes in ticks, for each client at the rate of its own clock. Only ages are kept, and none beyond the point
// where it decides something, and ids, counters and tokens are renamed by their order (see [State.canonical]). So the
// reachable states are finite although clients go on forever, and a search that ends has seen all behaviours within the
// numbers of faults, crashes and operators, however long.
//
// # What is not
//
// Two calls of one process at a time (they are two clients with equal clocks, but for the hand-over between them); a
// call that returns while its request is under way (to the lock that is a client that gives up on the request);
// suspension and steps of clocks, expiry by timestamps, deletion of the item, rows of other libraries; batches,
// Resume, elections and runs of periods; progress. Simulations test these. A look is one step, and consistent: what
// a stale or late one shows, the late refusal of an acquire shows, too. An answer comes within a number of ticks.
//
// # What does not hold
//
// An acquire that its caller gave up on, and that arrives late and for the first time, when the lock is free, begins a
// tenure that nobody holds: [Result] counts these ghosts. Each request may meet clocks by which it is older than the
// release before it, and clocks by which it is not: what the search shows rests on no clock but those of the leases.
//
// # How it is tied to the code
//
// The tests of package dynalock evaluate the conditions of the library on every item and write that a search met, and
// replay paths of the model on its clients. The searches of this package's tests show that broken variants of the
// protocol are found out.
package model
