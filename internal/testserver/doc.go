// Package testserver chooses the DynamoDB that the tests of what a lock does to a table run on, so that each of them is
// proven on all of these:
//
//   - endpoint: what DYNALOCK_TEST_ENDPOINT names, if it is set;
//   - container: DynamoDB Local in Docker, through testcontainers-go, if a Docker daemon answers;
//   - embedded: package dynalocktest, which needs nothing.
//
// The first that is available is used. DYNALOCK_TEST_SERVER=endpoint, container or embedded asks for one of them, and
// the test fails if that one is not available. One line of standard error says which one it is, and why, and every test
// on a server that is not embedded logs it.
//
// A package uses it so:
//
//	func TestMain(m *testing.M) { testserver.Main(m) }
//
//	func TestSomething(t *testing.T) {
//		server := testserver.New(t)
//		table := server.Table(t, "key", "")
//		db, wire := testserver.Tap(server.Client())
//		wire.Inject(testserver.Fault{Kind: testserver.LoseResponse, Times: 1})
//		...
//	}
//
// Tests with virtual time (testing/synctest) run on the embedded server itself, whatever is chosen and without a
// socket; [Tap] works there too.
package testserver
