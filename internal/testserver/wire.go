package testserver

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// Kind is what a [Fault] does to a request. The zero Kind lets it pass, for faults that only delay.
type Kind int

// The kinds of faults.
const (
	Pass           Kind = iota
	LoseRequest         // the server never sees it; the caller sees a broken connection
	LoseResponse        // the server applies it; the caller sees a broken connection
	HangBefore          // the server never sees it; the caller hears nothing until its context ends
	HangAfter           // the server applies it; the caller hears nothing until its context ends
	FailBefore          // the server never sees it; the caller gets Status and Type
	FailAfter           // the server applies it; the caller gets Status and Type
	StrangerBefore      // the server never sees it; somebody else answers with Status, Body and a Date of its own
	StrangerAfter       // the server applies it; somebody else answers
	Strip               // it passes, and the answer comes without the headers that only DynamoDB gives
	KeepRequest         // the caller sees a broken connection; Deliver brings the request to the server later
	KeepCopy            // it passes, and Deliver brings it to the server once more
)

// Fault hits the requests of a [Wire] that match.
type Fault struct {
	Kind  Kind
	Op    string                            // such as "UpdateItem"; empty: every operation
	Match func(op string, body []byte) bool // nil: every request of Op; called one at a time, must not use the Wire
	Skip  int                               // so many matching requests pass unharmed first
	Times int                               // so many are hit; 0: all, until the fault is removed
	Delay time.Duration                     // before anything else; ended early by the request's context

	// The answer of FailBefore and FailAfter: 500 and "InternalServerError" where empty. A stranger's: 502 where empty.
	Status int
	Type   string
	// Body of a stranger's answer, and how far its Date is ahead.
	Body string
	Date time.Duration
}

// Wire counts the requests of a client and breaks those that a [Fault] hits, on the client's side and so on any server.
// It starts no goroutine and waits only in the caller's, until the request's context ends, so it may be used inside a
// testing/synctest bubble. Where several faults match a request, the one injected first hits it.
type Wire struct {
	next aws.HTTPClient

	mu     sync.Mutex
	counts map[string]int
	faults []*Fault
	kept   []*http.Request
	cut    bool
}

// Tap returns a client like db whose requests run through the Wire, and the Wire.
func Tap(db *dynamodb.Client) (*dynamodb.Client, *Wire) {
	w := &Wire{next: db.Options().HTTPClient, counts: make(map[string]int)}
	return dynamodb.New(db.Options(), func(o *dynamodb.Options) { o.HTTPClient = w }), w
}

// Count returns how many requests the client has sent, lost ones included: of the operations named, or of all.
func (w *Wire) Count(ops ...string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for op, count := range w.counts {
		if len(ops) == 0 || slices.Contains(ops, op) {
			n += count
		}
	}
	return n
}

// Counts returns how many requests the client has sent of each operation, lost ones included.
func (w *Wire) Counts() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.counts)
}

// Inject puts a fault on the wire. remove, which may be called twice, takes it off; requests that it holds stay held.
func (w *Wire) Inject(f Fault) (remove func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, &f)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.faults = slices.DeleteFunc(w.faults, func(other *Fault) bool { return other == &f })
	}
}

// Cut has the client hear nothing any more, as if its process had died: the server sees none of its requests, and the
// answers of those that are under way do not arrive.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	w.faults = []*Fault{{Kind: HangBefore}}
}

func (w *Wire) isCut() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cut
}

// Deliver brings the kept requests to the server, in the order in which they were sent, and forgets them. It returns
// the HTTP status of each answer, which no caller sees any more.
func (w *Wire) Deliver(ctx context.Context) ([]int, error) {
	w.mu.Lock()
	kept := w.kept
	w.kept = nil
	w.mu.Unlock()
	statuses := make([]int, 0, len(kept))
	for _, req := range kept {
		resp, err := w.next.Do(req.WithContext(ctx))
		if err != nil {
			return statuses, err
		}
		discard(resp)
		statuses = append(statuses, resp.StatusCode)
	}
	return statuses, nil
}

// Do implements [aws.HTTPClient].
func (w *Wire) Do(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		var err error
		body, err = io.ReadAll(req.Body)
		_ = req.Body.Close()
		if err != nil {
			return nil, err
		}
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	_, op, _ := strings.Cut(req.Header.Get("X-Amz-Target"), ".")

	f := w.hit(op, body)
	ctx := req.Context()
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if f.Kind == KeepRequest || f.Kind == KeepCopy {
		w.keep(req, body)
	}
	switch f.Kind {
	case Pass, KeepCopy, Strip:
		resp, err := w.next.Do(req)
		if err == nil && f.Kind == Strip {
			resp.Header.Del("X-Amzn-Requestid")
			resp.Header.Del("X-Amz-Crc32")
		}
		if !w.isCut() {
			return resp, err
		}
		if err == nil {
			discard(resp)
		}
		f.Kind = HangAfter
	case LoseResponse, HangAfter, FailAfter, StrangerAfter:
		resp, err := w.next.Do(req)
		if err != nil {
			return nil, err
		}
		discard(resp)
	}
	switch f.Kind {
	case HangBefore, HangAfter:
		<-ctx.Done()
		return nil, ctx.Err()
	case FailBefore, FailAfter:
		return failure(req, f), nil
	case StrangerBefore, StrangerAfter:
		return stranger(req, f), nil
	}
	return nil, fmt.Errorf("injected: %w", syscall.ECONNRESET)
}

// hit counts the request and returns the fault that hits it, or the zero Fault, which lets it pass.
func (w *Wire) hit(op string, body []byte) Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[op]++
	for i, f := range w.faults {
		if f.Op != "" && f.Op != op || f.Match != nil && !f.Match(op, body) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		if f.Times == 1 {
			w.faults = slices.Delete(w.faults, i, i+1)
		}
		if f.Times > 1 {
			f.Times--
		}
		return *f
	}
	return Fault{}
}

func (w *Wire) keep(req *http.Request, body []byte) {
	kept := req.Clone(context.WithoutCancel(req.Context()))
	kept.Body = io.NopCloser(bytes.NewReader(body))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept = append(w.kept, kept)
}

// failure is an answer as DynamoDB gives it to requests that it refuses.
func failure(req *http.Request, f Fault) *http.Response {
	if f.Status == 0 {
		f.Status = http.StatusInternalServerError
	}
	if f.Type == "" {
		f.Type = "InternalServerError"
	}
	header := http.Header{"Content-Type": {"application/x-amz-json-1.0"}, "Date": {date(0)}}
	if f.Status != http.StatusOK { // success without the server is a stranger's
		header.Set("X-Amzn-Requestid", "INJECTED")
	}
	body := fmt.Sprintf(`{"__type":"com.amazonaws.dynamodb.v20120810#%s","message":"injected"}`, f.Type)
	return answer(req, f.Status, header, body)
}

// stranger is an answer that nothing says is DynamoDB's.
func stranger(req *http.Request, f Fault) *http.Response {
	header := http.Header{"Content-Type": {"text/html"}, "Date": {date(f.Date)}}
	return answer(req, cmp.Or(f.Status, http.StatusBadGateway), header, f.Body)
}

func date(ahead time.Duration) string { return time.Now().Add(ahead).UTC().Format(http.TimeFormat) }

func answer(req *http.Request, status int, header http.Header, body string) *http.Response {
	return &http.Response{
		Status:        fmt.Sprintf("%d %s", status, http.StatusText(status)),
		StatusCode:    status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header,
		Body:          io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)),
		Request:       req,
	}
}

func discard(resp *http.Response) {
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}
