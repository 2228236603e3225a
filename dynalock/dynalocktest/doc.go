// Package dynalocktest is an embedded DynamoDB for tests of code that holds locks, and for trying such code out. It
// speaks DynamoDB's JSON protocol, so the real SDK client talks to it: in process and without a socket, or over HTTP.
//
//	db := dynalocktest.Start(t, "locks").Client() // a *dynamodb.Client, of a server with a table for the locks of a test
//
// Start closes the server when the test ends, and fails a test that has forgotten to release a lock or to close its
// client. NewServer makes a server without a table, for programs that are not tests.
//
// # Virtual time
//
// In process the server runs inside a testing/synctest bubble. Make it there. Its time is the bubble's, also in the
// Date header from which the SDK reads the server's time, unless ServerOptions.ClockOffset sets the two apart. The
// server waits on channels and timers only, so the bubble's clock advances over latencies, leases and lost answers. A
// request goes its own way: if its caller gives up, it is still applied when its time comes, as on a real network.
// After Close, or when the bubble's time has passed over them, no goroutine of the server remains.
//
// # Faults
//
// Inject makes requests go wrong: slow, lost, duplicated and late requests, lost answers, broken connections, errors
// before or after the write was applied, throttling, conflicts, and answers of a proxy in between. A Fault says which
// requests it hits, by operation, table, key and client, and how many of them:
//
//	// The first heartbeat of worker-2 is applied, but its answer is lost.
//	server.Inject(dynalocktest.Fault{
//		Kind: dynalocktest.LostResponse, Operation: "UpdateItem", Client: "worker-2", Times: 1,
//	})
//
//	// worker-1 is cut off until heal is called.
//	heal := server.Inject(dynalocktest.Fault{Kind: dynalocktest.LostRequest, Client: "worker-1"})
//
//	// worker-1 gets no answers, but its writes arrive: a partition one way.
//	heal := server.Inject(dynalocktest.Fault{Kind: dynalocktest.LostResponse, Client: "worker-1"})
//
//	// A write is applied, and its repetition by a proxy is throttled. A copy of it arrives four minutes later.
//	server.Inject(dynalocktest.Fault{Kind: dynalocktest.ErrorAfter, Code: "ThrottlingException", Times: 1})
//	server.Inject(dynalocktest.Fault{Kind: dynalocktest.Duplicated, Delay: 4 * time.Minute, Times: 1})
//
// Clients are told apart by the name given to ClientFor, and over HTTP by the access key id with which they sign. In
// process a lost answer leaves the caller waiting until its context ends. Over HTTP the connection stays open until the
// client closes it, and a reset closes it at once. Everything random has a seed.
//
// # Proofs
//
// Requests and ServerOptions.OnRequest show every request with what it wrote, in the order in which requests were
// applied. Usage counts requests and capacity units, whether or not a request asked for its units.
//
// # What is faithful
//
//   - All operations apply one at a time: every history is linearizable, and a transaction is atomic.
//   - The expression grammar is DynamoDB's own, with all functions, document paths, reserved words, limits and type
//     rules. Numbers have 38 digits. Sizes and units are counted byte by byte.
//   - Answers, items, errors and their texts, units and the order in which mistakes are found are compared with
//     DynamoDB Local 3.3.1 over random operations (TestItemOperationsAnswerAsOnDynamoDBLocal and its sibling). Where
//     DynamoDB Local is known to differ from DynamoDB, for example in the units of a transaction and in the reasons for
//     its cancellation, the server does what DynamoDB does. The texts of validation messages are DynamoDB Local's,
//     which differ from DynamoDB's in places: match codes, not texts.
//   - A signed request that arrives more than five minutes from the time in its signature (X-Amz-Date), by the server's
//     clock, is refused with InvalidSignatureException and applies nothing. DynamoDB does so, DynamoDB Local does not.
//     So no copy of a request applies later than that. The SDK corrects the clock by the Date of that answer: within
//     the same call if its retries are on, otherwise from the client's next call on. A request without a signature or
//     without X-Amz-Date is accepted.
//   - A transaction with a ClientRequestToken applies once within ten minutes.
//
// Operations: CreateTable, DescribeTable, UpdateTable, DeleteTable, ListTables, UpdateTimeToLive, DescribeTimeToLive,
// UpdateContinuousBackups, DescribeContinuousBackups, TagResource, UntagResource, ListTagsOfResource, DescribeLimits,
// GetItem, PutItem, UpdateItem, DeleteItem, Query, Scan, BatchGetItem, BatchWriteItem, TransactGetItems and
// TransactWriteItems.
//
// # What is not
//
//   - Tables are active at once. Throughput is never exceeded, and transactions never conflict by themselves: the
//     faults Throttled and Conflict do that.
//   - There are no secondary indexes, streams, backups, global tables or PartiQL, and none of the parameters from
//     before expressions (Expected, AttributeUpdates, KeyConditions and their like). Each is refused with an error that
//     says so.
//   - Items expire only when ExpireItems is called.
//   - Of a signature only the time is checked. Permissions are not checked, nor that a transaction stays below 4 MB.
//   - Scans go through the partitions in an order that is stable, but not DynamoDB's.
//   - UPDATED_OLD and UPDATED_NEW return whole attributes if an update wrote into a list or map, as DynamoDB Local
//     does.
//   - Nothing is stored on disk.
package dynalocktest
