package dynalock

import (
	"errors"
	"sync"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
)

// copyLife is how long a copy of a request can still apply: DynamoDB refuses a signature that is older. Until then,
// and as long again for clocks and for the TTL's own clock, nothing vanishes that keeps such a copy from applying.
const (
	copyLife  = 5 * time.Minute
	tombstone = 3 * copyLife
)

// serverTime is DynamoDB's own time, which every answer of it carries in whole seconds; zero where the answer does
// not, or is not DynamoDB's.
func serverTime(meta middleware.Metadata, err error) time.Time {
	if err == nil {
		if isStranger(meta) {
			return time.Time{}
		}
		t, _ := awsmiddleware.GetServerTime(meta)
		return t
	}
	var resp *awshttp.ResponseError
	if !errors.As(err, &resp) || resp.Response == nil || resp.Response.Response == nil || isStrange(err) {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC1123, resp.Response.Header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return t
}

// misdated tells whether DynamoDB refused a request for the time in its signature: by a clock that is off, or by the
// Date of a stranger, which the SDK believes like any other. The SDK marks such a refusal, and signs right from then
// on.
func misdated(err error) bool {
	var probable interface {
		error
		RetryableError() bool
	}
	var api smithy.APIError
	return errors.As(err, &probable) && probable.RetryableError() && errors.As(err, &api) && skewCodes[api.ErrorCode()]
}

var skewCodes = map[string]bool{
	"RequestTimeTooSkewed": true, "RequestExpired": true, "RequestInTheFuture": true, "InvalidSignatureException": true,
	"SignatureDoesNotMatch": true, "AuthFailure": true, "AccessDeniedException": true,
}

// serviceClock estimates DynamoDB's time from the local wall clock. Each answer bounds the offset between the two
// from both sides; the bounds of many answers narrow it. It also remembers what the client has seen of each key, so
// that its own tokens and stamps of a key never go back.
type serviceClock struct {
	mu   sync.Mutex
	now  bounds // within which the offset, service minus local, lies
	odd  bounds // of an answer that contradicted it by far: believed when the next one agrees
	keys map[string]seen
}

type bounds struct {
	known     bool
	low, high time.Duration
}

// apart is how far the two contradict each other; 0 where they agree.
func (b bounds) apart(o bounds) time.Duration {
	return max(b.low-o.high, o.low-b.high, 0)
}

// seen is the largest token of a key, the acquisition that has it, and the latest stamp.
type seen struct {
	token uint64
	by    string
	stamp int64
}

// maxSeen bounds the memory for what a client has seen of keys.
const maxSeen = 10_000

// maxStep is how far one answer may move the estimate. Farther, a second one has to confirm it.
const maxStep = time.Minute

// observe takes note of an answer that the service stamped with t, in whole seconds. sure says that t is why the
// service refused the request: its clock and the local one are known to differ.
func (s *serviceClock) observe(sent, got, t time.Time, sure bool) {
	if t.IsZero() {
		return
	}
	sent, got = sent.Round(0), got.Round(0)
	b := bounds{true, t.Sub(got), t.Add(time.Second).Sub(sent)}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now
	if !now.known { // a request is not accepted whose signer's clock is further off
		now = bounds{low: -copyLife, high: copyLife}
	}
	switch apart := now.apart(b); {
	case apart == 0 && s.now.known:
		s.now.low, s.now.high = max(s.now.low, b.low), min(s.now.high, b.high)
		s.odd = bounds{}
	case apart <= maxStep, sure, s.odd.known && s.odd.apart(b) == 0: // the first one, or a clock was set
		s.now, s.odd = b, bounds{}
	default:
		s.odd = b
	}
}

// offset is the estimate: none as long as the local clock may be right, which it mostly is to a few milliseconds; else
// the middle.
func (s *serviceClock) offset() time.Duration {
	if b := s.now; b.low > 0 || b.high < 0 {
		return b.low + (b.high-b.low)/2
	}
	return 0
}

// floor is what the token of an item without one starts at: the service's time in microseconds, which fits 53 bits,
// and never below a token that this client has seen of the key.
func (s *serviceClock) floor(key string, local time.Time) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(uint64(s.micros(local)), s.keys[key].token)
}

// millis is the service's time in unix milliseconds, as well as it is known.
func (s *serviceClock) millis(local time.Time) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.micros(local) / 1000
}

// stamp is the service's time in unix milliseconds for a write of the key: never before least, nor before a stamp
// that this client has seen of the key.
func (s *serviceClock) stamp(key string, local time.Time, least int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.micros(local)/1000, s.keys[key].stamp, least)
}

func (s *serviceClock) micros(local time.Time) int64 {
	return max(0, local.Add(s.offset()).UnixMicro())
}

// outdone tells whether this client has seen a larger token of the key, or this one with another acquisition.
func (s *serviceClock) outdone(key string, token uint64, by string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.keys[key]
	return token < was.token || token == was.token && by != was.by
}

// saw remembers the token of an acquisition and the stamp of a row.
func (s *serviceClock) saw(key string, token uint64, by string, stamp int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = map[string]seen{}
	}
	if _, known := s.keys[key]; !known && len(s.keys) >= maxSeen {
		for other := range s.keys { // any
			delete(s.keys, other)
			break
		}
	}
	was := s.keys[key]
	was.stamp = max(was.stamp, stamp)
	if token > was.token {
		was.token, was.by = token, by
	}
	s.keys[key] = was
}

// earliest is the service's time, or a little before it: the earliest that fits its answers. Where there was none it is
// the local time.
func (s *serviceClock) earliest(local time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now.known {
		local = local.Add(s.now.low)
	}
	return local.Round(0)
}

// settled tells that no answer contradicts the estimate.
func (s *serviceClock) settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.odd.known
}
