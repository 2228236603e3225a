package engine

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
)

// Error is an answer other than 200.
type Error struct {
	Status  int
	Code    string
	Message string
	Item    attr.Item // with ConditionalCheckFailedException, when asked for
	Reasons []Reason  // with TransactionCanceledException
}

// Reason is why one item of a transaction was refused; Code is "None" for those that were not.
type Reason struct {
	Code    string
	Message string    `json:",omitempty"`
	Item    attr.Item `json:",omitempty"`
}

func (e *Error) Error() string { return e.Message }

// Body is the error as JSON.
func (e *Error) Body() []byte {
	prefix := "com.amazonaws.dynamodb.v20120810#"
	switch e.Code {
	case "ValidationException":
		prefix = "com.amazon.coral.validate#"
	case "SerializationException", "InvalidSignatureException", "IncompleteSignatureException",
		"MissingAuthenticationTokenException", "UnrecognizedClientException", "ExpiredTokenException",
		"AccessDeniedException":
		prefix = "com.amazon.coral.service#"
	}
	body, _ := json.Marshal(struct { // strings and items always marshal
		Type                string `json:"__type"`
		Message             string
		Item                attr.Item `json:",omitempty"`
		CancellationReasons []Reason  `json:",omitempty"`
	}{prefix + e.Code, e.Message, e.Item, e.Reasons})
	return body
}

func validation(format string, args ...any) *Error {
	return serviceError("ValidationException", format, args...)
}

func serviceError(code, format string, args ...any) *Error {
	return &Error{Status: 400, Code: code, Message: fmt.Sprintf(format, args...)}
}

var errNoTable = serviceError("ResourceNotFoundException", "Cannot do operations on a non-existent table")

const (
	codeConditionFailed = "ConditionalCheckFailedException"
)

// Conflict is the refusal of a transaction whose items, where conflicts is true, another transaction is writing.
func Conflict(conflicts []bool) *Error {
	reasons := make([]Reason, len(conflicts))
	for i, conflict := range conflicts {
		if reasons[i].Code = "None"; conflict {
			reasons[i] = Reason{Code: "TransactionConflict", Message: "Transaction is ongoing for the item"}
		}
	}
	return canceled(reasons)
}

// canceled is the refusal of a transaction for the reasons of its items.
func canceled(reasons []Reason) *Error {
	codes := make([]string, len(reasons))
	for i, r := range reasons {
		codes[i] = r.Code
	}
	e := serviceError("TransactionCanceledException",
		"Transaction cancelled, please refer cancellation reasons for specific reasons [%s]", strings.Join(codes, ", "))
	e.Reasons = reasons
	return e
}
