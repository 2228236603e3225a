package engine

import (
	"encoding/json"
	"fmt"

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

func (e *Error) Error() string { return e.Code + ": " + e.Message }

const (
	servicePrefix    = "com.amazonaws.dynamodb.v20120810#"
	validationPrefix = "com.amazon.coral.validate#"
	serializePrefix  = "com.amazon.coral.service#"
)

// Body is the error as JSON.
func (e *Error) Body() []byte {
	prefix := servicePrefix
	switch e.Code {
	case "ValidationException":
		prefix = validationPrefix
	case "SerializationException", "UnknownOperationException":
		prefix = serializePrefix
	}
	body, _ := json.Marshal(struct { // only strings and items, which always marshal
		Type                string    `json:"__type"`
		Message             string    `json:"message"`
		Item                attr.Item `json:",omitempty"`
		CancellationReasons []Reason  `json:",omitempty"`
	}{prefix + e.Code, e.Message, e.Item, e.Reasons})
	return body
}

func validation(format string, args ...any) *Error {
	return &Error{Status: 400, Code: "ValidationException", Message: fmt.Sprintf(format, args...)}
}

func serviceError(code, format string, args ...any) *Error {
	return &Error{Status: 400, Code: code, Message: fmt.Sprintf(format, args...)}
}
