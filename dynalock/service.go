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

// copyLife is how long a copy of a request can still apply: DynamoDB refuses an older signature. An item that keeps
// such a copy from applying stays for three times as long, to allow for the clients' clocks and for that of the TTL.
const (
	copyLife  = 5 * time.Minute
	tombstone = 3 * copyLife
)

// serverTime is DynamoDB's own time, which each of its answers carries in whole seconds. It is zero if the answer has
// none, or is not DynamoDB's.
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

// misdated reports whether DynamoDB refused a request for the time in its signature. Either a clock is wrong, or the
// Date of a stranger was, which the SDK believes like any other. The SDK marks such an error, and signs correctly from
// then on.
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

// serviceClock estimates DynamoDB's time from the local wall clock. Each answer bounds the offset between the two from
// both sides, and the bounds of many answers narrow it. The clock also remembers what the client has seen of each key,
// so that the client's own tokens and stamps of a key never go back.
type serviceClock struct {
	mu   sync.Mutex
	now  bounds // the offset, DynamoDB's time minus the local one, lies within
	odd  bounds // those of an answer that contradicted now by far: believed when the next answer agrees
	keys map[string]seen
}

type bounds struct {
	known     bool
	low, high time.Duration
}

// apart is how far the two contradict each other; 0 if they agree.
func (b bounds) apart(o bounds) time.Duration {
	return max(b.low-o.high, o.low-b.high, 0)
}

// seen is the largest token of a key, the acquisition that has this token, and the latest stamp of the key.
type seen struct {
	token uint64
	by    string
	stamp int64
}

// maxSeen bounds the memory for what a client has seen of keys.
const maxSeen = 10_000

// maxStep is how far one answer may move the estimate. A larger step has to be confirmed by a second answer.
const maxStep = time.Minute

// observe takes note of an answer that DynamoDB stamped with t, in whole seconds. sure says that DynamoDB refused the
// request for the time in its signature: its clock and the local one are known to differ.
func (s *serviceClock) observe(sent, got, t time.Time, sure bool) {
	if t.IsZero() {
		return
	}
	sent, got = sent.Round(0), got.Round(0)
	b := bounds{true, t.Sub(got), t.Add(time.Second).Sub(sent)}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now
	if !now.known { // DynamoDB refuses a request if the clock that signed it is further off
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

// offset is the estimate. It is 0 as long as the local clock may be right, which it mostly is to a few milliseconds;
// else it is the middle of the bounds.
func (s *serviceClock) offset() time.Duration {
	if b := s.now; b.low > 0 || b.high < 0 {
		return b.low + (b.high-b.low)/2
	}
	return 0
}

// floor is the number at which the token of an item without one starts: DynamoDB's time in microseconds, which fits
// into 53 bits, and never below a token that this client has seen of the key.
func (s *serviceClock) floor(key string, local time.Time) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(uint64(s.micros(local)), s.keys[key].token)
}

// millis is DynamoDB's time in unix milliseconds, as well as it is known.
func (s *serviceClock) millis(local time.Time) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.micros(local) / 1000
}

// stamp is DynamoDB's time in unix milliseconds for a write of the key. It is never before least, nor before a stamp
// that this client has seen of the key.
func (s *serviceClock) stamp(key string, local time.Time, least int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.micros(local)/1000, s.keys[key].stamp, least)
}

func (s *serviceClock) micros(local time.Time) int64 {
	return max(0, local.Add(s.offset()).UnixMicro())
}

// outdone reports whether this client has seen a larger token of the key, or this token with another acquisition.
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

// earliest is DynamoDB's time, or a little before it: the earliest time that fits its answers. Before the first answer
// it is the local time.
func (s *serviceClock) earliest(local time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now.known {
		local = local.Add(s.now.low)
	}
	return local.Round(0)
}

// settled reports that no answer contradicts the estimate.
func (s *serviceClock) settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.odd.known
}
