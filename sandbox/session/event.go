package session

import (
	"encoding/json"
	"sync"
	"time"

	"enclave/wire/envelope"
)

// ProtocolVersion is the version of the events.
//
//	2  the one of the clients that this follows
const ProtocolVersion = 2

// CodeTokenGone is the code of the error that ends the streams of a token which is
// accepted no more.
const CodeTokenGone = "TOKEN_REMOVED"

var tokenGone = ErrorPayload{Code: CodeTokenGone,
	Message: "the token of this connection is accepted no more, and the runs that it started are cancelled; ask the server's operator for another"}

// Event is one line of a session's log.
type Event struct {
	Version int             `json:"protocolVersion"`
	Session string          `json:"sessionId"`
	Seq     uint64          `json:"seq"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload"`
}

// The types of events.
const (
	TypeInit      = "session_init"
	TypeStdout    = "stdout"
	TypeLog       = "log"
	TypeCall      = "tool_call"
	TypeProgress  = "tool_progress"
	TypeResult    = "tool_result_applied"
	TypeFinal     = "final"
	TypeHeartbeat = "heartbeat"
	TypeError     = "error"
	TypeDeadline  = "deadline_exceeded"
	TypePartial   = "partial_result"
	TypeCatalog   = "catalog_changed"
	TypeSealed    = "enc"
)

// CodeLost is the code of the error that tells a reader which events it has missed.
const CodeLost = "EVENTS_LOST"

// Log is the events of one session. Appending never waits; reading never loses without
// saying so. Old events go when the buffer is full, the last one never.
type Log struct {
	session string
	max     int              // events
	room    int              // bytes of payloads
	sealer  *envelope.Sealer // nil: in the clear; used under mu

	mu      sync.Mutex // guards what follows
	events  []Event    // the numbers are without gaps
	bytes   int
	next    uint64
	ended   bool
	changed chan struct{} // closed and replaced when something is appended
}

// NewLog makes a log; sealer may be nil.
func NewLog(session string, max, room int, sealer *envelope.Sealer) *Log {
	return &Log{session: session, max: max, room: room, sealer: sealer, next: 1, changed: make(chan struct{})}
}

// Append adds an event; after final there is none. With a sealer what is added is a
// sealed event with type and payload inside.
func (l *Log) Append(kind string, payload any) {
	text, err := json.Marshal(payload)
	if err != nil {
		text = json.RawMessage(`{}`) // our own types; they marshal
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	last := kind == TypeFinal
	if l.sealer != nil {
		inner, err := json.Marshal(struct {
			Type    string          `json:"type"`
			Payload json.RawMessage `json:"payload"`
		}{kind, text})
		if err != nil {
			return
		}
		box, seq, err := l.sealer.Seal(TypeSealed, inner)
		if err != nil || seq != l.next {
			l.ended = true // no reader can go on from here, and none may be told in the clear
			l.wake()
			return
		}
		if text, err = json.Marshal(box); err != nil {
			return
		}
		kind = TypeSealed
	}
	l.events = append(l.events, Event{ProtocolVersion, l.session, l.next, kind, text})
	l.next++
	l.bytes += len(text)
	for len(l.events) > 1 && (len(l.events) > l.max || l.bytes > l.room) {
		l.bytes -= len(l.events[0].Payload)
		l.events[0] = Event{}
		l.events = l.events[1:]
	}
	l.ended = last
	l.wake()
}

func (l *Log) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Read returns the events from a number on, at most a screenful of them, whether those
// are the last, and what to wait for when there are none. lost is the highest number
// that is wanted but gone, 0 when none is.
func (l *Log) Read(from uint64) (events []Event, lost uint64, ended bool, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from = max(from, 1)
	first := l.next - uint64(len(l.events))
	if from < first {
		lost, from = first-1, first
	}
	if from < l.next {
		events = l.events[from-first:]
		if len(events) > batch {
			return append([]Event(nil), events[:batch]...), lost, false, l.changed
		}
		events = append([]Event(nil), events...)
	}
	return events, lost, l.ended, l.changed
}

// batch is how many events are read at once.
const batch = 64

// Sealed reports whether events are sealed before they are kept.
func (l *Log) Sealed() bool { return l.sealer != nil }

// Last is the number of the newest event.
func (l *Log) Last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next - 1
}

// Payloads of the events.
type (
	// InitPayload opens a session.
	InitPayload struct {
		CancelURL  string     `json:"cancelUrl"`
		ReplayURL  string     `json:"replayUrl"`
		ExpiresAt  time.Time  `json:"expiresAt"`
		Encryption Encryption `json:"encryption"`
		Run        string     `json:"run"`
	}
	// Encryption says whether the session is sealed.
	Encryption struct {
		Enabled bool   `json:"enabled"`
		KeyID   string `json:"keyId,omitempty"`
	}
	// StdoutPayload is a piece of the script's output.
	StdoutPayload struct {
		Chunk string `json:"chunk"`
	}
	// LogPayload is a line of console.warn or console.error.
	LogPayload struct {
		Level   string `json:"level"`
		Message string `json:"message"`
	}
	// CallPayload tells of a call before it is made.
	CallPayload struct {
		CallID string          `json:"callId"`
		Tool   string          `json:"toolName"`
		Args   json.RawMessage `json:"args"` // redacted
	}
	// ProgressPayload tells how far a call is: connecting, sending, processing, receiving.
	ProgressPayload struct {
		CallID   string `json:"callId"`
		Phase    string `json:"phase"`
		Elapsed  int64  `json:"elapsedMs"`               // of the session
		Received int64  `json:"bytesReceived,omitempty"` // of the answer so far
	}
	// ResultPayload tells of its end.
	ResultPayload struct {
		CallID   string `json:"callId"`
		OK       bool   `json:"ok"`
		Code     string `json:"code,omitempty"`
		Duration int64  `json:"durationMs"`
	}
	// PartialPayload tells what one call of a run came to, for who asked for it.
	PartialPayload struct {
		Path    []string        `json:"path"` // the tool, and the ID of the call
		Data    json.RawMessage `json:"data,omitempty"`
		Omitted int             `json:"omittedBytes,omitempty"` // of data that is too large for an event
		Error   *PathError      `json:"error,omitempty"`
		HasNext bool            `json:"hasNext"` // other calls are under way
	}
	// PathError is a call that failed.
	PathError struct {
		Code    string   `json:"code"`
		Message string   `json:"message"`
		Path    []string `json:"path"`
	}
	// CatalogPayload tells that later runs may call other tools.
	CatalogPayload struct {
		Version string   `json:"version"`
		Added   []string `json:"addedActions"`
		Removed []string `json:"removedActions"`
	}
	// ErrorPayload is a message about the stream itself.
	ErrorPayload struct {
		Code        string `json:"code"`
		Message     string `json:"message"`
		Recoverable bool   `json:"recoverable"`
		From        uint64 `json:"from,omitempty"` // the first and last number lost
		To          uint64 `json:"to,omitempty"`
	}
	// DeadlinePayload comes before the final event of a run that took too long.
	DeadlinePayload struct {
		Elapsed int64 `json:"elapsedMs"`
		Budget  int64 `json:"budgetMs"`
	}
	// HeartbeatPayload says that the stream lives; its event's number is the newest.
	HeartbeatPayload struct {
		At time.Time `json:"ts"`
	}
	// FinalPayload is the end.
	FinalPayload struct {
		OK       bool            `json:"ok"`
		Result   json.RawMessage `json:"result,omitempty"`
		Error    any             `json:"error,omitempty"`
		Errors   []PathError     `json:"errors,omitempty"` // of calls, for who asked for partial results
		Stats    FinalStats      `json:"stats"`
		Findings any             `json:"findings,omitempty"`
		Verdict  any             `json:"verdict,omitempty"`
	}
	// FinalStats is what a run used.
	FinalStats struct {
		Duration   int64 `json:"durationMs"`
		ToolCalls  int   `json:"toolCallCount"`
		Stdout     int64 `json:"stdoutBytes"`
		Iterations int64 `json:"iterationCount"`
		Memory     int64 `json:"memoryBytes"`
	}
)
