package dynalocktest

import (
	"fmt"
	"net/http"
	"time"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/engine"
)

// signatureLife is how far the time of a signature and the server's clock may lie apart, either way.
const signatureLife = 5 * time.Minute

// signature is when a request says that it was signed; the zero signature says nothing, and is good for ever.
type signature struct{ at time.Time }

const signatureTime = "20060102T150405Z"

func signatureOf(h http.Header) signature {
	at, err := time.Parse(signatureTime, h.Get("X-Amz-Date"))
	if err != nil || h.Get("Authorization") == "" {
		return signature{}
	}
	return signature{at}
}

// check refuses a signature of another time, as DynamoDB does. The times of both are in whole seconds.
func (s signature) check(now time.Time) *engine.Error {
	now = now.UTC().Truncate(time.Second)
	oldest, newest := now.Add(-signatureLife), now.Add(signatureLife)
	var text string
	switch {
	case s.at.IsZero():
		return nil
	case s.at.Before(oldest):
		text = fmt.Sprintf("Signature expired: %s is now earlier than %s (%s - 5 min.)",
			s.at.Format(signatureTime), oldest.Format(signatureTime), now.Format(signatureTime))
	case s.at.After(newest):
		text = fmt.Sprintf("Signature not yet current: %s is still later than %s (%s + 5 min.)",
			s.at.Format(signatureTime), newest.Format(signatureTime), now.Format(signatureTime))
	default:
		return nil
	}
	return &engine.Error{Status: http.StatusBadRequest, Code: "InvalidSignatureException", Message: text}
}
