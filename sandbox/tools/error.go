package tools

import (
	"errors"
	"fmt"
	"strings"
)

// Code is the stable code of a failed call, as the script and the client see it.
type Code string

// The codes. Those with TOOL_BRIDGE or REFERENCE in their name are of the bridge whose
// language we follow; the others name what it told as one general failure.
const (
	UnknownTool      Code = "UNKNOWN_TOOL"
	InvalidArgs      Code = "INVALID_TOOL_ARGS"
	RequestTooLarge  Code = "TOOL_BRIDGE_REQUEST_TOO_LARGE"
	TooManyCalls     Code = "MAX_TOOL_CALLS_EXCEEDED"
	NoHandler        Code = "NO_TOOL_HANDLER"
	Forbidden        Code = "TOOL_DENIED"
	RateLimited      Code = "TOOL_RATE_LIMIT"
	SequenceRefused  Code = "TOOL_SEQUENCE"
	TimedOut         Code = "TOOL_TIMEOUT"
	Failed           Code = "TOOL_CALL_FAILED"
	ResultNotJSON    Code = "TOOL_RESULT_NOT_JSON"
	ResultNotSafe    Code = "TOOL_RESULT_NOT_SAFE"
	ResponseTooLarge Code = "TOOL_BRIDGE_RESPONSE_TOO_LARGE"
	RefLimit         Code = "REFERENCE_RESOLUTION_LIMIT"
	RefFailed        Code = "REFERENCE_RESOLUTION_FAILED"
	SecretFailed     Code = "SECRET_ERROR"
	Aborted          Code = "EXECUTION_ABORTED"
	AuditFailed      Code = "AUDIT_FAILED"
)

// maxMessage bounds the sentence that a script sees of a failure; mistakes of arguments
// beyond maxSummary are counted.
const (
	maxMessage = 600
	maxSummary = 400
)

// Error is a failed call. Message is written here, for the script; cause is for the
// operator's log and never leaves the host.
type Error struct {
	Code    Code
	Message string
	cause   error
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Unwrap returns what happened, for logs.
func (e *Error) Unwrap() error { return e.cause }

func failure(code Code, cause error, format string, args ...any) *Error {
	m := fmt.Sprintf(format, args...)
	if len(m) > maxMessage {
		m = strings.ToValidUTF8(m[:maxMessage], "")
	}
	return &Error{Code: code, Message: m, cause: cause}
}

// maxTold bounds what a script is told of a service's own words.
const maxTold = 400

// teller makes what a script is told of the words of t's service: nothing unless its
// operator wants that. Secrets go before the text is cut: what is left of one that was
// cut in two looks like nothing that is known.
func (r *Registry) teller(t *tool) func(string) string {
	if !t.rules.TellErrors {
		return func(string) string { return "" }
	}
	return func(text string) string { return told(r.redact.edge(r.redact.text(text))) }
}

// told is what a service said of a failure, in one line, as the end of a sentence.
func told(text string) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, ""), func(r rune) bool { return r <= ' ' || r == 0x7f }), " ")
	if len(text) > maxTold {
		text = strings.ToValidUTF8(text[:maxTold], "") + "…"
	}
	if text == "" {
		return ""
	}
	return ": " + text
}

// asError makes any error one that may cross; what is not an Error is hidden behind
// the general code.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return failure(Failed, err, "the tool failed")
}
