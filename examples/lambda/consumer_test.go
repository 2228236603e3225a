//go:build linux

package lambda_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/dynalock/dynalock/dynalock"
)

// queue is an SQS queue with the part of its service that the function calls: ChangeMessageVisibility.
type queue struct {
	*httptest.Server
	t          *testing.T
	visibility time.Duration // of a message that nobody hides

	mu       sync.Mutex
	messages []*message
	hidden   []int // visibility timeouts that the function asked for, in seconds
	refuse   bool  // it answers as if the 12 hours of a message were over
}

type message struct {
	id, body, handle string
	visible          time.Time
	received         int
}

func newQueue(t *testing.T, visibility time.Duration) *queue {
	t.Helper()
	q := &queue{t: t, visibility: visibility}
	q.Server = httptest.NewServer(http.HandlerFunc(q.serve))
	t.Cleanup(q.Close)
	return q
}

func (q *queue) url() string { return q.URL + "/123456789012/orders" }

func (q *queue) env() []string {
	return []string{"QUEUE_URL=" + q.url(), "AWS_ENDPOINT_URL_SQS=" + q.URL}
}

// serve answers as SQS does:
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html.
func (q *queue) serve(w http.ResponseWriter, r *http.Request) {
	var in struct {
		QueueURL          string `json:"QueueUrl"`
		ReceiptHandle     string
		VisibilityTimeout *int
	}
	fail := func(code, text string) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"__type":"com.amazonaws.sqs#%s","message":%q}`, code, text)
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil ||
		r.Header.Get("X-Amz-Target") != "AmazonSQS.ChangeMessageVisibility" || in.QueueURL != q.url() {
		q.t.Errorf("request %s %+v, %v", r.Header.Get("X-Amz-Target"), in, err)
		fail("InvalidAction", "no such action")
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if in.VisibilityTimeout == nil || *in.VisibilityTimeout < 0 || *in.VisibilityTimeout > 43200 {
		q.t.Errorf("visibility timeout %v", in.VisibilityTimeout)
		fail("InvalidParameterValue", "VisibilityTimeout")
		return
	}
	if q.refuse {
		fail("InvalidParameterValue", "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]")
		return
	}
	for _, m := range q.messages {
		if m.handle == in.ReceiptHandle {
			m.visible = time.Now().Add(time.Duration(*in.VisibilityTimeout) * time.Second)
			q.hidden = append(q.hidden, *in.VisibilityTimeout)
			fmt.Fprint(w, "{}")
			return
		}
	}
	fail("ReceiptHandleIsInvalid", "no such message")
}

func (q *queue) send(order string, amount int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	id := fmt.Sprintf("message-%d", len(q.messages))
	q.messages = append(q.messages, &message{id: id, body: fmt.Sprintf(`{"order":%q,"amount":%d}`, order, amount)})
}

// receive takes up to 10 visible messages, as the poller of an event source mapping does. left says how many there are
// in all.
func (q *queue) receive() (event events.SQSEvent, left int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for _, m := range q.messages {
		if m.visible.After(now) || len(event.Records) == 10 {
			continue
		}
		m.received++
		m.visible, m.handle = now.Add(q.visibility), fmt.Sprintf("%s/%d", m.id, m.received)
		event.Records = append(event.Records, events.SQSMessage{
			MessageId: m.id, ReceiptHandle: m.handle, Body: m.body, EventSource: "aws:sqs",
			EventSourceARN: "arn:aws:sqs:us-east-1:123456789012:orders",
			Attributes:     map[string]string{"ApproximateReceiveCount": strconv.Itoa(m.received)},
		})
	}
	return event, len(q.messages)
}

// settle deletes what the function has done; what it has named, or a function that failed, leaves comes back. keep says
// of a message that its deletion fails, so that it is delivered again.
func (q *queue) settle(event events.SQSEvent, o outcome, keep func(*message) bool) (failures []string) {
	q.t.Helper()
	var answer events.SQSEventResponse
	if o.Killed || o.Error != "" {
		return nil
	}
	must(q.t, json.Unmarshal(o.Payload, &answer))
	done := map[string]bool{}
	for _, r := range event.Records {
		done[r.MessageId] = true
	}
	for _, f := range answer.BatchItemFailures {
		check(q.t, done[f.ItemIdentifier], "it returned message %q, which it was not given", f.ItemIdentifier)
		done[f.ItemIdentifier] = false
		failures = append(failures, f.ItemIdentifier)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	rest := q.messages[:0]
	for _, m := range q.messages {
		if !done[m.id] || keep != nil && keep(m) {
			rest = append(rest, m)
		}
	}
	q.messages = rest
	return failures
}

func event(t *testing.T, e events.SQSEvent) string {
	t.Helper()
	b, err := json.Marshal(e)
	must(t, err)
	return string(b)
}

func TestPaymentsOfAnOrderAreAppliedOneAfterTheOtherAndOnceByAllInstances(t *testing.T) {
	p := newPlace(t)
	q := newQueue(t, 5*time.Second)
	const orders, payments, workers = 5, 20, 6
	random := rand.New(rand.NewPCG(3, 4))
	want := map[string]int{}
	for range payments {
		for o := range orders {
			order, amount := fmt.Sprintf("order-%d", o), 1+random.IntN(1000)
			want[order] += amount
			q.send(order, amount)
		}
	}
	random.Shuffle(len(q.messages), func(i, j int) { q.messages[i], q.messages[j] = q.messages[j], q.messages[i] })

	var mu sync.Mutex
	returned, twice := 0, map[string]bool{}
	keep := func(m *message) bool { // every tenth message comes once more although it is done
		if again := strings.HasSuffix(m.id, "7") && !twice[m.id]; again {
			twice[m.id] = true
			return true
		}
		return false
	}
	var wg sync.WaitGroup
	all := instances(p, "consumer", workers, q.env()...)
	for _, i := range all {
		wg.Go(func() {
			for {
				in, left := q.receive()
				if left == 0 || t.Context().Err() != nil {
					return
				}
				if len(in.Records) == 0 {
					time.Sleep(20 * time.Millisecond) // as the poller waits
					continue
				}
				o := i.invoke(event(t, in), 20*time.Second)
				check(t, !o.Killed && o.Error == "", "it answered %v", o)
				failures := q.settle(in, o, keep)
				mu.Lock()
				returned += len(failures)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for order, paid := range want {
		row := p.row("order", order)
		check(t, row["paid"] == strconv.Itoa(paid), "%s: %v, want %d", order, row, paid)
	}
	// A message that was received anew meanwhile cannot be hidden by its old receipt.
	check(t, returned > 0 && len(twice) > 0 && len(q.hidden) > 0 && len(q.hidden) <= returned,
		"%d messages returned, %d hidden, %d came twice: the test did not reach its cases", returned, len(q.hidden),
		len(twice))
	longest := 0
	for _, s := range q.hidden {
		longest = max(longest, s)
	}
	t.Logf("%d payments to %d orders by %d instances: every sum is right; %d messages came twice; %d were returned because their order was locked, hidden for 1 to %d s",
		orders*payments, orders, workers, len(twice), returned, longest)
}

func TestMessagesOfALockedOrderComeBackWhenItIsWorthAskingAgainAndTheOthersOfTheBatchAreDone(t *testing.T) {
	p := newPlace(t)
	q := newQueue(t, time.Minute)
	locks, err := dynalock.New(p.db, p.locks, func(o *dynalock.Options) { o.Namespace = "consumer/" })
	must(t, err)
	l, err := locks.Acquire(t.Context(), "busy",
		func(o *dynalock.AcquireOptions) { o.Lease, o.NoHeartbeat = time.Minute, true })
	must(t, err)
	i := p.instance("consumer", "a", q.env()...)
	for _, order := range []string{"busy", "free", "busy", ""} {
		q.send(order, 5)
	}
	in, _ := q.receive()
	failures := q.settle(in, i.invoke(event(t, in), 20*time.Second), nil)
	check(t, fmt.Sprint(failures) == "[message-3 message-0 message-2]", "returned %v", failures) // 3 is no payment
	check(t, p.row("order", "free")["paid"] == "5" && p.row("order", "busy") == nil, "%v, %v", p.row("order", "free"),
		p.row("order", "busy"))
	check(t, len(q.hidden) == 2 && q.hidden[0] >= 1 && q.hidden[0] <= 60 && q.hidden[1] == q.hidden[0], "hidden for %v s",
		q.hidden)
	free, err := locks.Get(t.Context(), "free")
	must(t, err)
	check(t, free.State == dynalock.Free, "the lock of the order that is done was not given back: %+v", free)

	q.refuse = true // a message that can be hidden no longer is returned all the same
	m := q.messages[0]
	m.visible = time.Time{}
	in, _ = q.receive()
	failures = q.settle(in, i.invoke(event(t, in), 20*time.Second), nil)
	check(t, len(in.Records) == 1 && len(failures) == 1, "of %d messages %v were returned", len(in.Records), failures)
	check(t, strings.Contains(i.log.String(), "message was not hidden"), "log %s", i.log.String())

	must(t, l.Release(t.Context()))
	q.refuse = false
	for _, m := range q.messages {
		m.visible = time.Time{}
	}
	in, _ = q.receive()
	failures = q.settle(in, i.invoke(event(t, in), 20*time.Second), nil)
	check(t, fmt.Sprint(failures) == "[message-3]" && p.row("order", "busy")["paid"] == "10", "returned %v, order %v",
		failures, p.row("order", "busy"))
	must(t, locks.Close(t.Context()))
}

// units is a number of units as the page writes it: none are left out.
func units(n float64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// spent is what the embedded server counts while an instance answers one invocation.
func (p *place) spent(i *instance, event string) (writes, reads float64) {
	p.Helper()
	p.server.ResetUsage()
	o := i.invoke(event, 20*time.Second)
	check(p.T, !o.Killed, "it answered %v", o)
	u := p.server.Usage()
	return u.WriteUnits, u.ReadUnits
}

func TestTheCostsInTheDocumentationAreThoseThatTheServerCounts(t *testing.T) {
	p := newPlace(t)
	if p.server == nil {
		t.Log("not checked: a server outside counts the requests of others, too")
		return
	}
	page, err := os.ReadFile("../../docs/lambda.md")
	must(t, err)
	said := func(what string, writes, reads float64) {
		t.Helper()
		row := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(what) +
			`.* \| (\d+) writes?(?:, ([0-9.]+) reads?)? \| ([0-9.]+) \|$`).FindStringSubmatch(string(page))
		if row == nil {
			t.Errorf("no row for %q, which costs %v and %v units", what, writes, reads)
			return
		}
		usd := fmt.Sprintf("%.2f", writes*0.625+reads*0.125+1e-9) // half a cent is a cent
		if row[1] != fmt.Sprint(writes) || row[2] != units(reads) || row[3] != usd {
			t.Errorf("%q, the server counts %v writes, %v reads: %s USD a million", row[0], writes, reads, usd)
		}
	}

	job := p.instance("job", "a")
	writes, reads := p.spent(job, tickEvent(1))
	said("a tick of the job", writes, reads)
	writes, reads = p.spent(job, tickEvent(1))
	said("another delivery of it", writes, reads)

	q := newQueue(t, time.Minute)
	i := p.instance("consumer", "b", q.env()...)
	q.send("order", 5)
	in, _ := q.receive()
	writes, reads = p.spent(i, event(t, in))
	said("a message of the consumer", writes, reads)
	locks, err := dynalock.New(p.db, p.locks, func(o *dynalock.Options) { o.Namespace = "consumer/" })
	must(t, err)
	_, err = locks.Acquire(t.Context(), "order", func(o *dynalock.AcquireOptions) { o.NoHeartbeat = true })
	must(t, err)
	writes, reads = p.spent(i, event(t, in))
	said("a message that is returned", writes, reads)
	must(t, locks.Close(t.Context()))
}
