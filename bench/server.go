package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

const table = "locks"

// seen is what the server saw: the only side that no library can be wrong about.
type seen struct {
	mu       sync.Mutex
	requests map[string]int
	last     map[string]time.Time // when each key was last written
	gaps     []time.Duration      // between two writes of one key
}

func newSeen() *seen { return &seen{requests: map[string]int{}, last: map[string]time.Time{}} }

func (s *seen) observe(r dynalocktest.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests[r.Operation]++
	if len(r.Writes) == 0 || strings.HasPrefix(r.Key, "warm") {
		return
	}
	if last, ok := s.last[r.Key]; ok {
		s.gaps = append(s.gaps, r.At.Sub(last))
	}
	s.last[r.Key] = r.At
}

// tally is seen at one moment.
type tally struct {
	Requests map[string]int
	Gaps     []time.Duration
	CPU      time.Duration // of the server's process
}

func (t tally) total() int {
	n := 0
	for _, count := range t.Requests {
		n += count
	}
	return n
}

// take returns what was seen since the last take. A key that has been silent until now has a
// gap that is not over; it counts as far as it got.
func (s *seen) take() tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := tally{Requests: s.requests, Gaps: s.gaps}
	for _, last := range s.last {
		t.Gaps = append(t.Gaps, time.Since(last))
	}
	s.requests, s.gaps = map[string]int{}, nil
	return t
}

// serve is a process that is nothing but the server. It tells its address on its first line,
// its tally under /tally, and ends with its standard input.
func serve(args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	latency := flags.Duration("latency", 5*time.Millisecond, "added round trip of every request")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s := newSeen()
	server := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) {
		o.Latency, o.History, o.OnRequest = *latency, -1, s.observe
	})
	defer server.Close()
	mux := http.NewServeMux()
	mux.Handle("/", server)
	mux.HandleFunc("/tally", func(w http.ResponseWriter, _ *http.Request) {
		t := s.take()
		t.CPU = cpuTime()
		_ = json.NewEncoder(w).Encode(t)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", listener.Addr())
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString(0)
		_ = listener.Close()
	}()
	if err := http.Serve(listener, mux); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// serverProcess starts this program again as the server, so that CPU and heap of this process are
// the client's alone.
func serverProcess(latency time.Duration) (endpoint string, take func() (tally, error), stop func(), err error) {
	endpoint, stop, err = startSelf(withoutGOMAXPROCS(), "serve", "-latency", latency.String())
	if err != nil {
		return "", nil, nil, err
	}
	take = func() (tally, error) {
		var t tally
		response, err := http.Get(endpoint + "/tally")
		if err != nil {
			return t, err
		}
		err = json.NewDecoder(response.Body).Decode(&t)
		return t, errors.Join(err, response.Body.Close())
	}
	return endpoint, take, stop, nil
}

// newDB makes the SDK's client. All libraries get the same: the SDK's defaults, but for idle connections, of which the
// SDK keeps 10 a host, so that a burst would measure dialing. Its connections are its own.
func newDB(endpoint string, sent observer, optFns ...func(*dynamodb.Options)) *dynamodb.Client {
	transport := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = 128
	})
	return dynamodb.New(dynamodb.Options{
		Region: "us-west-2", BaseEndpoint: &endpoint, HTTPClient: observed{transport, sent},
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	}, optFns...)
}

// observer hears of every HTTP request of a client, retries included.
type observer interface {
	sent(operation string, took time.Duration)
}

// trips is how long requests took, as the client saw it: the server's added latency, and what a
// machine that has too few CPUs adds to it.
type trips struct {
	mu   sync.Mutex
	took []time.Duration
}

func (t *trips) sent(_ string, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.took = append(t.took, took)
}

func (t *trips) take() []time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	took := t.took
	t.took = nil
	return took
}

type observed struct {
	*awshttp.BuildableClient
	to observer
}

func (c observed) Do(r *http.Request) (*http.Response, error) {
	began := time.Now()
	response, err := c.BuildableClient.Do(r)
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	c.to.sent(operation, time.Since(began))
	return response, err
}

func createTable(ctx context.Context, db *dynamodb.Client) error {
	_, err := db.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName: aws.String(table), BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{
			AttributeName: aws.String("key"),
			AttributeType: types.ScalarAttributeTypeS,
		}},
		KeySchema: []types.KeySchemaElement{{AttributeName: aws.String("key"), KeyType: types.KeyTypeHash}},
	})
	return err
}
