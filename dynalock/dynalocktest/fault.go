package dynalocktest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/engine"
)

// Kind is what a Fault does to a request.
type Kind string

// The kinds of faults. A request that gets no answer waits until its caller gives up. A request, or a copy of it, that
// arrives more than five minutes after it was signed is refused, whatever delayed it.
const (
	// SlowRequest applies the request Delay after it was sent, also when the caller has given up by then.
	SlowRequest Kind = "slow request"
	// SlowResponse applies the request and holds its answer back for Delay.
	SlowResponse Kind = "slow response"
	// LostRequest never applies the request and never answers. With a Client it cuts that client off: a partition.
	LostRequest Kind = "lost request"
	// LostResponse applies the request after Delay and never answers.
	LostResponse Kind = "lost response"
	// TimedOut tells the caller at once that the request timed out, and applies it Delay later. Over HTTP it breaks the
	// connection.
	TimedOut Kind = "timed out"
	// Duplicated applies and answers the request, and applies it again Delay later. With another fault that loses or
	// refuses the request, only the late copy is applied.
	Duplicated Kind = "duplicated"
	// ErrorBefore answers with the error Code, after Delay, and does not apply the request.
	ErrorBefore Kind = "error before"
	// ErrorAfter applies the request, and answers with the error Code after Delay, as a proxy that repeats requests may
	// do: the first request is applied, and its repetition is refused.
	ErrorAfter Kind = "error after"
	// StrangerBefore has a stranger answer after Delay, such as a proxy or a captive portal: with Status, with Body as
	// text/html, with a Date that is DateOffset apart from the server's, and without the headers X-Amzn-Requestid and
	// X-Amz-Crc32. The request is not applied.
	StrangerBefore Kind = "stranger before"
	// StrangerAfter applies the request, and has a stranger answer after Delay.
	StrangerAfter Kind = "stranger after"
	// Stripped removes the headers X-Amzn-Requestid and X-Amz-Crc32 from the server's answer, as some proxies do, and sets
	// its Date DateOffset apart. Delay is not used.
	Stripped Kind = "stripped"
	// ResetBefore breaks the connection after Delay; the request is not applied.
	ResetBefore Kind = "reset before"
	// ResetAfter applies the request and breaks the connection after Delay.
	ResetAfter Kind = "reset after"
	// Throttled is ErrorBefore with Code ProvisionedThroughputExceededException.
	Throttled Kind = "throttled"
	// Conflict is ErrorBefore with the error of a concurrent transaction: TransactionConflictException, and for a
	// transaction itself a TransactionCanceledException that names the matching items.
	Conflict Kind = "conflict"
)

var kinds = []Kind{
	SlowRequest, SlowResponse, LostRequest, LostResponse, TimedOut, Duplicated, ErrorBefore, ErrorAfter,
	StrangerBefore, StrangerAfter, Stripped, ResetBefore, ResetAfter, Throttled, Conflict,
}

// Fault says what goes wrong with which requests. If several faults match one request, their delays add up, and the
// first one injected that decides its outcome does so alone.
type Fault struct {
	Kind Kind // one of the constants; there is no default

	// The requests that are hit. Empty fields match all. Key is the partition key's value as text. If a request is on
	// several items, one that matches Table and Key is enough. Match, if set, must agree, too; it sees the request before
	// it is applied.
	Operation string // "UpdateItem"
	Table     string
	Key       string
	Client    string // the name given to ClientFor, or the access key id on a socket
	Match     func(Request) bool

	// How many of those are hit. The first Skip of them pass unharmed, then at most Times (0: all) are hit, each with
	// Probability (0: always).
	Skip        int
	Times       int
	Probability float64

	// Delay means what the Kind says. A random time of up to Jitter is added to it.
	Delay  time.Duration
	Jitter time.Duration

	// Code of ErrorBefore and ErrorAfter, any code that DynamoDB has. Default InternalServerError.
	Code string
	// Status is the HTTP status of an answer. Default of ErrorBefore and ErrorAfter: 500 for InternalServerError, 503 for
	// ServiceUnavailable, 400 for all others. Default of a stranger's answer: 502.
	Status int
	// Body of a stranger's answer. Default empty.
	Body string
	// DateOffset is added to the Date of a stranger's or stripped answer.
	DateOffset time.Duration
}

// injected is a fault with its counters, guarded by Server.mu.
type injected struct {
	Fault
	seen, hit int
}

// Inject lets f happen from now on, until remove is called or f.Times is used up. Requests that it has already hit go
// their way. It panics if f.Kind is none of the kinds: that is a mistake in the test, which would otherwise prove
// something else.
func (s *Server) Inject(f Fault) (remove func()) {
	if !slices.Contains(kinds, f.Kind) {
		panic(fmt.Sprintf("dynalocktest: Fault.Kind is %q, want one of %q", f.Kind, kinds))
	}
	in := &injected{Fault: f}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, in)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.faults = slices.DeleteFunc(s.faults, func(other *injected) bool { return other == in })
	}
}

// plan is what happens to one request.
type plan struct {
	before, after time.Duration
	apply         bool
	again         bool // a second time, delay after the first
	delay         time.Duration
	outcome       outcome
	code          string // of the error answered instead of the true answer
	status        int    // of that error, if not the code's own, or of the stranger's answer
	stranger      bool   // answers instead, with body
	body          string
	stripped      bool
	date          time.Duration // apart from the server's
	conflicts     []bool        // by target, with Code TransactionConflictException
	decided       bool
}

// immediate reports that there is no delay and no fault.
func (p plan) immediate() bool { return p.before == 0 && p.after == 0 && p.outcome == answered }

// plan decides what happens to m, by the latency and the faults that match.
func (s *Server) plan(m *message) plan {
	p := plan{apply: true}
	matching := s.matching(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	p.before = s.opts.Latency/2 + s.jitter(s.opts.Jitter)
	p.after = s.opts.Latency - s.opts.Latency/2 + s.jitter(s.opts.Jitter)
	for _, f := range matching {
		if f.use(s.random) {
			p.suffer(f, m, f.Delay+s.jitter(f.Jitter))
		}
	}
	return p
}

func (s *Server) jitter(limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	return time.Duration(s.random.Int64N(int64(limit) + 1))
}

// matching lists the faults that fit m. Match runs outside the lock, so that it may use the server.
func (s *Server) matching(m *message) []*injected {
	s.mu.Lock()
	faults := slices.Clone(s.faults)
	s.mu.Unlock()
	return slices.DeleteFunc(faults, func(f *injected) bool {
		return f.Operation != "" && f.Operation != m.name ||
			f.Client != "" && f.Client != m.client ||
			!slices.Contains(f.items(m), true) ||
			f.Match != nil && !f.Match(m.request(""))
	})
}

// items reports which of the request's items match. A request on no item matches only a fault without Table and Key.
func (f Fault) items(m *message) []bool {
	if len(m.targets) == 0 {
		return []bool{f.Table == "" && f.Key == ""}
	}
	match := make([]bool, len(m.targets))
	for i, t := range m.targets {
		match[i] = (f.Table == "" || f.Table == t.Table) && (f.Key == "" || f.Key == t.Key)
	}
	return match
}

// use counts a matching request, and reports whether it is hit.
func (f *injected) use(random *rand.Rand) bool {
	f.seen++
	if f.seen <= f.Skip || f.Times > 0 && f.hit >= f.Times {
		return false
	}
	if f.Probability > 0 && random.Float64() >= f.Probability {
		return false
	}
	f.hit++
	return true
}

// suffer adds a fault to the plan.
func (p *plan) suffer(f *injected, m *message, delay time.Duration) {
	switch f.Kind {
	case SlowRequest:
		p.before += delay
		return
	case SlowResponse:
		p.after += delay
		return
	case Duplicated:
		p.again, p.delay = true, delay
		return
	case Stripped:
		p.stripped = true
		p.date += f.DateOffset
		return
	}
	if p.decided {
		return
	}
	p.decided = true
	switch f.Kind {
	case LostRequest:
		p.apply, p.outcome = false, lost
	case LostResponse:
		p.before += delay
		p.outcome = lost
	case TimedOut:
		p.apply, p.outcome = false, timedOut
		p.again, p.delay = true, delay
	case ResetBefore:
		p.before += delay
		p.apply, p.outcome = false, reset
	case ResetAfter:
		p.after += delay
		p.outcome = reset
	case ErrorAfter:
		p.after += delay
		p.code, p.status = f.Code, f.Status
	case ErrorBefore, Throttled, Conflict:
		p.before += delay
		p.apply, p.code, p.status = false, f.Code, f.Status
	case StrangerBefore, StrangerAfter:
		if p.apply = f.Kind == StrangerAfter; p.apply {
			p.after += delay
		} else {
			p.before += delay
		}
		p.status = cmp.Or(f.Status, http.StatusBadGateway)
		p.stranger, p.code, p.body = true, fmt.Sprintf("HTTP %d", p.status), f.Body
		p.date += f.DateOffset
	}
	switch {
	case f.Kind == Throttled:
		p.code = "ProvisionedThroughputExceededException"
	case f.Kind == Conflict:
		p.code, p.conflicts = "TransactionConflictException", f.items(m)
	case p.outcome == answered && p.code == "":
		p.code = "InternalServerError"
	}
}

var failureTexts = map[string]string{
	"InternalServerError":                    "Internal server error",
	"ServiceUnavailable":                     "The service is currently unavailable or busy.",
	"ProvisionedThroughputExceededException": "The level of configured provisioned throughput for the table was exceeded. Consider increasing your provisioning level with the UpdateTable API.",
	"ThrottlingException":                    "Rate of requests exceeds the allowed throughput.",
	"RequestLimitExceeded":                   "Throughput exceeds the current throughput limit for your account.",
	"TransactionConflictException":           "Transaction is ongoing for the item",
	"TransactionInProgressException":         "The transaction with the given request token is already in progress.",
	"ResourceNotFoundException":              "Requested resource not found",
	"AccessDeniedException":                  "User is not authorized to perform this action",
	"ExpiredTokenException":                  "The security token included in the request is expired",
	"UnrecognizedClientException":            "The security token included in the request is invalid.",
	"MissingAuthenticationTokenException":    "Request must contain a valid (registered) AWS Access Key ID.",
	"IncompleteSignatureException":           "The request signature does not conform to AWS standards.",
	"InvalidSignatureException": "The request signature we calculated does not match the signature you provided. " +
		"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
}

// failure is the injected answer.
func (m *message) failure() (int, []byte) {
	e := &engine.Error{Status: 400, Code: m.plan.code, Message: failureTexts[m.plan.code]}
	switch m.plan.code {
	case "InternalServerError":
		e.Status = 500
	case "ServiceUnavailable":
		e.Status = 503
	}
	if m.plan.conflicts != nil && strings.HasPrefix(m.name, "Transact") {
		e = engine.Conflict(m.plan.conflicts)
	}
	e.Status = cmp.Or(m.plan.status, e.Status)
	return e.Status, e.Body()
}
