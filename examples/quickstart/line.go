package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// line is one worker's connection. It counts what goes over it, and it can be cut: then nothing gets through and
// nobody is told, as with a network that has died or a process that has been stopped.
type line struct {
	next aws.HTTPClient

	mu       sync.Mutex
	dead     bool
	requests map[string]int // by operation, those that got through
	silence  int            // those that did not
	bill     bill
	lastSent time.Time // of the last write to the lock that got through
}

// bill is what DynamoDB charges for, in capacity units.
type bill struct{ reads, writes float64 }

// plug puts a line between a client and its server.
func plug(db *dynamodb.Client) (*dynamodb.Client, *line) {
	l := &line{next: db.Options().HTTPClient, requests: map[string]int{}}
	return dynamodb.New(db.Options(), func(o *dynamodb.Options) { o.HTTPClient = l }), l
}

func (l *line) cut(dead bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = dead
}

// Do implements aws.HTTPClient.
func (l *line) Do(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	_, op, _ := strings.Cut(req.Header.Get("X-Amz-Target"), ".")
	if !l.enter(op, body) {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	return l.next.Do(req)
}

// enter counts a request; false: the line is dead.
func (l *line) enter(op string, body []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		l.silence++
		return false
	}
	l.requests[op]++
	l.bill.add(op, body)
	if op == "UpdateItem" {
		l.lastSent = time.Now()
	}
	return true
}

// add charges a request on items of up to 1 KB, refused or not.
func (b *bill) add(op string, body []byte) {
	switch op {
	case "GetItem":
		b.reads += 0.5 // eventually consistent, as waiters read
		if bytes.Contains(body, []byte(`"ConsistentRead":true`)) {
			b.reads += 0.5
		}
	case "TransactWriteItems":
		var in struct{ TransactItems []json.RawMessage }
		if json.Unmarshal(body, &in) == nil {
			b.writes += 2 * float64(len(in.TransactItems))
		}
	default:
		b.writes++
	}
}

// usd is the bill at the on-demand prices of us-east-1, in US dollars a million units.
func (b bill) usd() float64 {
	const write, read = 0.625, 0.125
	return (b.writes*write + b.reads*read) / 1e6
}

// lastWrite is when the last write to a lock was sent that got through.
func (l *line) lastWrite() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lastSent
}
