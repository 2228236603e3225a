package dynalock_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/dynalock/dynalock/heartbeat"
)

// simWire is the network between one client and the server.
type simWire struct {
	w      *world
	client *simClient
	next   aws.HTTPClient // to the server, without time or faults
}

// request is one request on the wire.
type request struct {
	site    site
	op      string
	key     string
	version string   // that it writes
	seen    []string // versions that its condition admits
	id      string   // of the tenure that it is conditional on
	made    int64    // when it was made, by its client's idea of the service's time
	offered bool     // it takes up the offer of a holder of the same process
	header  http.Header
	body    []byte
	sentAt  heartbeat.Reading
	fate    fate
	call    *waitingCall // that it is part of
}

// siteTag is the key under which a context names the call site, where the request itself does not tell.
type siteTag struct{}

// wireItem is the part of a request's body that tells its site.
type wireItem struct {
	Key                       map[string]wireValue
	ConditionExpression       string
	UpdateExpression          string
	ExpressionAttributeValues map[string]wireValue
	ConsistentRead            bool
	TransactItems             []struct{ ConditionCheck *wireItem }
}

type wireValue struct{ S, N string }

func describe(ctx context.Context, r *http.Request, body []byte) request {
	q := request{header: r.Header, body: body, site: siteApp}
	_, q.op, _ = strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	var in wireItem
	if json.Unmarshal(body, &in) != nil {
		return q
	}
	tag, _ := ctx.Value(siteTag{}).(site)
	q.call, _ = ctx.Value(callTag{}).(*waitingCall)
	q.key = in.Key["key"].S
	q.made, _ = strconv.ParseInt(in.ExpressionAttributeValues[":made"].N, 10, 64) // 0 where there is none
	q.version, q.id = in.ExpressionAttributeValues[":next"].S, in.ExpressionAttributeValues[":id"].S
	for i := 0; ; i++ {
		v, ok := in.ExpressionAttributeValues[fmt.Sprintf(":seen%d", i)]
		if !ok {
			break
		}
		q.seen = append(q.seen, v.S)
	}
	has := func(name string) bool { return strings.Contains(in.UpdateExpression, name) }
	switch {
	case tag == siteApp:
	case q.op == "GetItem" && (tag == siteLeader || tag == siteObserve):
		q.site = tag
	case q.op == "GetItem" && isJob(q.key):
		q.site = siteLook
	case q.op == "GetItem" && in.ConsistentRead:
		q.site = siteGet
	case q.op == "GetItem":
		q.site = sitePoll
	case q.op == "Scan" && in.ExpressionAttributeValues[":prefix"].S != "":
		q.site = siteRuns
	case q.op == "Scan":
		q.site = siteList
	case q.op == "TransactWriteItems":
		q.site = siteTransact
		for _, it := range in.TransactItems {
			if it.ConditionCheck != nil {
				q.key = it.ConditionCheck.Key["key"].S
			}
		}
	case has("#paused = "):
		q.site = sitePause
	case has("REMOVE #paused"):
		q.site = siteUnpause
	case has("#started = "):
		q.site = siteStart
	case has("#finished = "):
		q.site = siteFinish
	case has("#result = "):
		q.site = siteGiveBack
	case has("#yielded = "):
		q.site = siteYield
	case has("#successor = "):
		q.site = siteSuccessor
	case has("#attempt = if_not_exists"):
		q.site, q.offered = siteClaim, has("#hold")
	case has("#releasedBy = "):
		q.site = siteForce
	case has("#released = ") && has("#hold"):
		q.site = siteRelease
	case has("#released = "):
		q.site = siteCleanUp
	case has("#token = :raised"):
		q.site = siteBeat
	case has("#token") && has("#hold"):
		q.site, q.offered = siteHandOver, true
	case has("#token") && strings.Contains(in.ConditionExpression, "#yielded = #version"):
		q.site = siteCampaign
	case has("#token") && !strings.Contains(in.ConditionExpression, "attribute_not_exists(#key)"):
		q.site = siteResume
	case has("#token") && len(q.seen) > 0:
		q.site = siteTakeOver
	case has("#token"):
		q.site = siteAcquire
	case has("#data"):
		q.site = siteSetData
	case tag == siteRenew:
		q.site = siteRenew
	default:
		q.site = siteBeat
	}
	return q
}

// Do sends a request. As on a real network it goes on its way when its context ends first.
func (x *simWire) Do(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	ctx := r.Context()
	q := describe(ctx, r, body)
	q.sentAt = x.client.clock.Now()
	if !x.client.clock.awake(ctx) {
		return nil, ctx.Err()
	}
	x.w.send(x.client, &q)
	answer := make(chan *http.Response, 1) // nil: the connection broke
	x.w.underway.Go(func() {
		if a, ok := x.carry(&q); ok {
			answer <- a
		}
	})
	select {
	case a := <-answer:
		if a == nil {
			return nil, &net.OpError{Op: "read", Net: "simulated", Err: syscall.ECONNRESET}
		}
		x.w.answered(x.client, &q, a)
		a.Request = r
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// carry takes the request to the server and the answer back; false: there is none.
func (x *simWire) carry(q *request) (*http.Response, bool) {
	c, f := x.client, q.fate
	time.Sleep(f.there)
	switch f.fault {
	case lostRequest, cutOff, dead:
		return nil, false
	case resetBefore:
		return nil, true
	case errorBefore, unavailable, throttled, conflicting, denied, estranged:
		return x.back(q, failure(q))
	case stale:
		if a := x.w.staleAnswer(q); a != nil {
			return x.back(q, a)
		}
	}
	a := x.apply(q)
	if f.fault == duplicated {
		x.w.underway.Go(func() {
			time.Sleep(f.again)
			x.w.note(c.name, q.key, "%s %s arrives once more", q.site, q.version)
			x.apply(q)
		})
	}
	switch f.fault {
	case lostAnswer:
		return nil, false
	case resetAfter:
		return nil, true
	case errorAfter, misanswered:
		a = failure(q)
	}
	return x.back(q, a)
}

func (x *simWire) apply(q *request) *http.Response {
	r := &http.Request{Method: http.MethodPost, Header: q.header, Body: io.NopCloser(bytes.NewReader(q.body))}
	a, err := x.next.Do(r)
	if err != nil {
		x.w.t.Errorf("the server: %v", err)
		return failure(q)
	}
	return a
}

// back takes the answer to the client, if that is there to hear it.
func (x *simWire) back(q *request, a *http.Response) (*http.Response, bool) {
	time.Sleep(q.fate.back)
	x.client.clock.awake(context.Background())
	if f := x.client.unreachable(x.w.now()); f != healthy {
		x.w.lost(x.client, q, f)
		return nil, false
	}
	return a, true
}

// failure is the answer that a fault gives in place of the server's.
func failure(q *request) *http.Response {
	status, code, more := 500, "InternalServerError", ""
	switch q.fate.fault {
	case unavailable:
		status, code = 503, "ServiceUnavailable"
	case throttled:
		status, code = 400, "ProvisionedThroughputExceededException"
	case denied:
		status, code = 400, "AccessDeniedException"
	case misanswered:
		status, code = 400, q.fate.code
	case estranged:
		a := response(503, []byte("<html>down for maintenance</html>"))
		a.Header = http.Header{
			"Content-Type": {"text/html"},
			"Date":         {time.Now().Add(q.fate.off).UTC().Format(http.TimeFormat)},
		}
		return a
	case conflicting:
		status, code = 400, "TransactionConflictException"
		if q.op == "TransactWriteItems" {
			code, more = "TransactionCanceledException",
				`,"CancellationReasons":[{"Code":"None"},{"Code":"TransactionConflict"}]`
		}
	}
	return response(status,
		fmt.Appendf(nil, `{"__type":"com.amazonaws.dynamodb.v20120810#%s","message":"simulated"%s}`, code, more))
}

func response(status int, body []byte) *http.Response {
	return &http.Response{
		Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Content-Type": {"application/x-amz-json-1.0"}, "X-Amzn-Requestid": {"SIMULATED"},
			"Date": {time.Now().UTC().Format(http.TimeFormat)},
		},
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
}
