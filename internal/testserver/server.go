package testserver

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"go.uber.org/goleak"

	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// chosen is made once per test binary, by the first test that needs a server.
var chosen struct {
	once sync.Once
	backend
	err error
}

// Main runs the tests of a package, for its TestMain. It stops the server that they used, and exits with 1 if they pass
// but leave a goroutine, or if the server cannot be stopped.
func Main(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	code := m.Run()
	if chosen.stop != nil {
		if err := chosen.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "testserver: the container was not stopped:", err)
			code = max(code, 1)
		}
	}
	if code == 0 {
		http.DefaultClient.CloseIdleConnections()
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "testserver: the tests passed, but left something behind:", err)
			code = 1
		}
	}
	return code
}

// Server is one test's view of the server. Whatever the test does to it, other tests do not notice.
type Server struct {
	endpoint string
	embedded *dynalocktest.Server
	http     *http.Client
}

// New returns the server for a test, and fails the test if there is none. It is given back when the test ends.
func New(tb testing.TB) *Server {
	tb.Helper()
	chosen.once.Do(func() {
		var line string
		chosen.backend, line,
			chosen.err = chooser{os.Getenv, answers, dockerAnswers, startContainer}.choose(context.Background())
		if chosen.err == nil {
			fmt.Fprintln(os.Stderr, "testserver:", line)
		}
	})
	if chosen.err != nil {
		tb.Fatalf("no server to test on: %v", chosen.err)
	}
	// A transport for each test, so that no connection outlives it.
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	s := &Server{endpoint: chosen.endpoint, http: &http.Client{Transport: transport}}
	if s.endpoint == "" {
		// A server for each test: faults that one test injects must not hit another one.
		s.embedded = dynalocktest.NewServer()
		listener := httptest.NewServer(s.embedded)
		tb.Cleanup(listener.Close)
		tb.Cleanup(s.embedded.Close) // first, for it ends the requests that it holds
		s.endpoint = listener.URL
	} else {
		tb.Logf("%s runs on %s", tb.Name(), s.endpoint) // .ci/suite counts them
	}
	tb.Cleanup(transport.CloseIdleConnections)
	return s
}

// Endpoint returns the server's URL, for other processes.
func (s *Server) Endpoint() string { return s.endpoint }

// Embedded returns the server if it is the embedded one, and nil otherwise. It serves this test alone.
func (s *Server) Embedded() *dynalocktest.Server { return s.embedded }

// Client returns a new client of the SDK.
func (s *Server) Client(optFns ...func(*dynamodb.Options)) *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(s.endpoint),
		HTTPClient:   s.http,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		}),
	}, optFns...)
}

// process and tables make the names of tables unique on a server that other processes use too.
var (
	process = strings.ToLower(rand.Text()[:10])
	tables  atomic.Int64
)

// Table creates a table for the test, with string keys of these names (no sort key if sortKey is empty), and deletes it
// when the test ends. It returns the table's name.
func (s *Server) Table(tb testing.TB, partitionKey, sortKey string) string {
	tb.Helper()
	name := fmt.Sprintf("test-%s-%d", process, tables.Add(1))
	in := &dynamodb.CreateTableInput{TableName: &name, BillingMode: types.BillingModePayPerRequest}
	addKey := func(attribute string, keyType types.KeyType) {
		in.AttributeDefinitions = append(in.AttributeDefinitions, types.AttributeDefinition{
			AttributeName: &attribute, AttributeType: types.ScalarAttributeTypeS,
		})
		in.KeySchema = append(in.KeySchema, types.KeySchemaElement{AttributeName: &attribute, KeyType: keyType})
	}
	addKey(partitionKey, types.KeyTypeHash)
	if sortKey != "" {
		addKey(sortKey, types.KeyTypeRange)
	}

	db := s.Client()
	if _, err := db.CreateTable(tb.Context(), in); err != nil {
		tb.Fatalf("create table %s: %v", name, err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 30*time.Second)
		defer cancel()
		if _, err := db.DeleteTable(ctx, &dynamodb.DeleteTableInput{TableName: &name}); err != nil {
			tb.Errorf("delete table %s: %v", name, err)
		}
	})
	active := dynamodb.NewTableExistsWaiter(db, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 50*time.Millisecond, time.Second
	})
	if err := active.Wait(tb.Context(), &dynamodb.DescribeTableInput{TableName: &name}, time.Minute); err != nil {
		tb.Fatalf("table %s: %v", name, err)
	}
	return name
}
