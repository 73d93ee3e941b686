// Package client runs scripts on a sandbox server and follows what they do.
//
// Run starts a session and returns its events in order, each once. A connection that
// drops is made again where it broke off; what the server no longer keeps is an error,
// never a silent gap. With a pinned Identity everything but the token is sealed from end
// to end (wire/envelope), and events that were changed, repeated or left out on the way
// are refused. The wire is docs/format/sandbox-session.md.
package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"enclave/wire/envelope"
)

// Limits of what a server can make a client hold, and of its patience.
const (
	maxEvent  = 48 << 20 // bytes of one event: a sealed value of the largest size
	maxAnswer = 1 << 20
	tries     = 5
	firstWait = time.Second
	maxWait   = 30 * time.Second
	silence   = 45 * time.Second // three heartbeats
	// cancelWait is what telling the server may take of somebody who has given up.
	cancelWait = 3 * time.Second
)

var (
	// ErrLost is returned when the server no longer keeps events that were not read yet.
	ErrLost = errors.New("events were lost: the stream was away for too long")
	// ErrProtocol is returned for a stream that is none.
	ErrProtocol = errors.New("the server's stream is malformed")
	// ErrFilter is returned for a filter on a sealed session, whose events nobody but the
	// client can read.
	ErrFilter = errors.New("a sealed session cannot be filtered by its server")
)

// Client calls one server. Fields are not changed after the first call.
type Client struct {
	URL      string            // http://127.0.0.1:8460
	Token    string            // of the server's token file
	Identity ed25519.PublicKey // of the server; nil leaves sessions unsealed
	HTTP     *http.Client      // nil is http.DefaultClient
}

// Request is a run. Only Code is needed.
type Request struct {
	Code   string   `json:"code"`
	Level  string   `json:"level,omitempty"`
	Join   bool     `json:"join,omitempty"`
	Tags   []string `json:"tags,omitempty"`
	Limits *Limits  `json:"limits,omitempty"`
	// Partial asks for partial_result events: what each call of a tool came to.
	Partial bool `json:"partial,omitempty"`
	// Filter says which events to send: types that are wanted (stdout,log), types that are
	// not (-tool_progress), or rules in JSON. Not for sealed sessions.
	Filter string `json:"-"`
}

// Limits make those of the server smaller.
type Limits struct {
	LifetimeMS int64 `json:"sessionTtlMs,omitempty"`
	TimeoutMS  int64 `json:"timeoutMs,omitempty"`
	ToolCalls  int   `json:"maxToolCalls,omitempty"`
	Stdout     int64 `json:"maxStdoutBytes,omitempty"`
	ToolMS     int64 `json:"toolTimeoutMs,omitempty"`
	ToolResult int64 `json:"maxToolResultBytes,omitempty"`
	FirstError bool  `json:"cancelOnFirstError,omitempty"`
}

// Event is one event of a session.
type Event struct {
	Version int             `json:"protocolVersion"`
	Session string          `json:"sessionId"`
	Seq     uint64          `json:"seq"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload"`
}

// Final is the payload of the last event.
type Final struct {
	OK       bool            `json:"ok"`
	Result   json.RawMessage `json:"result"`
	Error    *Failure        `json:"error"`
	Findings []Finding       `json:"findings"`
	Verdict  json.RawMessage `json:"verdict"` // of the scoring gate
}

// Finding is one reason not to run a script, at its place in the script's own text.
type Finding struct {
	Rule     string `json:"rule"`
	Code     string `json:"code"`
	Severity string `json:"severity"`
	Message  string `json:"message"`
	Line     int    `json:"line"`
	Column   int    `json:"column"`
}

// Failure says why a run failed.
type Failure struct {
	Code     string    `json:"code"`
	Message  string    `json:"message"`
	Name     string    `json:"name"` // of what the script threw
	Line     int       `json:"line"` // in the script's text, from 1; 0 when not known
	Column   int       `json:"column"`
	Findings []Finding `json:"-"` // all that is wrong with a script that was refused
}

func (f *Failure) Error() string {
	if f.Line > 0 {
		return fmt.Sprintf("%s: line %d, column %d: %s", f.Code, f.Line, f.Column, f.Message)
	}
	return f.Code + ": " + f.Message
}

// Refused is an answer of the server that is no stream, or how it ended one before its
// time: with the Code TOKEN_REMOVED where the token is accepted no more.
type Refused struct {
	Status  int
	Code    string
	Message string
}

func (r *Refused) Error() string { return fmt.Sprintf("%s: %s (%d)", r.Code, r.Message, r.Status) }

// Session is a run that was started. It is not safe for concurrent use, except Cancel.
type Session struct {
	ID     string
	filter string // as it stands in a query, with its "&filter=" or nothing
	client *Client
	opener *envelope.Opener
	body   io.ReadCloser
	read   *bufio.Reader
	last   uint64
	done   bool
	cut    *time.Timer
}

// Eval runs code and decodes what it returned into v, which may be nil. When ctx ends
// before the run does, the run is cancelled.
func (c *Client) Eval(ctx context.Context, r Request, v any) error {
	s, err := c.Run(ctx, r)
	if err != nil {
		return err
	}
	defer s.Close()
	for {
		e, err := s.Next(ctx)
		if err != nil {
			if ctx.Err() != nil { // nobody else knows of this session, so nobody would come back to it
				under, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelWait)
				defer stop()
				s.Cancel(under) //nolint:errcheck // its life ends by itself
			}
			return err
		}
		if e.Type != "final" {
			continue
		}
		var f Final
		switch err := json.Unmarshal(e.Payload, &f); {
		case err != nil:
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		case f.Error != nil:
			f.Error.Findings = f.Findings
			return f.Error
		case !f.OK:
			return ErrProtocol
		case v != nil && len(f.Result) > 0:
			return json.Unmarshal(f.Result, v)
		}
		return nil
	}
}

// Run starts a session. A start is never repeated by itself: the script may have run.
func (c *Client) Run(ctx context.Context, r Request) (*Session, error) {
	s := &Session{client: c}
	var body any = r
	path := "/sessions"
	if r.Filter != "" {
		if c.Identity != nil {
			return nil, ErrFilter
		}
		s.filter = "&filter=" + url.QueryEscape(r.Filter)
		path += "?" + s.filter[1:]
	}
	if c.Identity != nil {
		sealed, err := s.greet(ctx, r)
		if err != nil {
			return nil, err
		}
		body = sealed
	}
	res, err := c.do(ctx, http.MethodPost, path, body, "application/x-ndjson")
	if err != nil {
		return nil, err
	}
	s.attach(res.Body)
	if s.ID == "" {
		id, ok := strings.CutPrefix(res.Header.Get("Location"), "/sessions/")
		if !ok || id == "" || strings.ContainsAny(id, "/?#") {
			s.Close()
			return nil, ErrProtocol
		}
		s.ID = id
	}
	return s, nil
}

// greet agrees on keys and seals the request.
func (s *Session) greet(ctx context.Context, r Request) (any, error) {
	h, err := envelope.NewClient()
	if err != nil {
		return nil, err
	}
	res, err := s.client.do(ctx, http.MethodPost, "/handshake", h.Hello, "application/json")
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var w envelope.Welcome
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&w); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	sealer, opener, err := h.Finish(&w, s.client.Identity)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	box, seq, err := sealer.Seal("enc", text)
	s.ID, s.opener = w.Session, opener
	return map[string]any{"sealed": map[string]any{"sessionId": w.Session, "seq": seq, "payload": box}}, err
}

func (s *Session) attach(body io.ReadCloser) {
	s.body, s.read = body, bufio.NewReaderSize(body, 64<<10)
	s.cut = time.AfterFunc(silence, func() { body.Close() })
}

func (s *Session) detach() {
	if s.body != nil {
		s.cut.Stop()
		s.body.Close()
		s.body = nil
	}
}

// Close lets go of the stream. The run goes on; Cancel ends it.
func (s *Session) Close() error {
	s.detach()
	s.done = true
	return nil
}

// Cancel ends the run; its final event says so.
func (s *Session) Cancel(ctx context.Context) error {
	res, err := s.client.do(ctx, http.MethodPost, "/sessions/"+s.ID+"/cancel", nil, "application/json")
	if err != nil {
		return err
	}
	return res.Body.Close()
}

// Next returns the next event; after the final one it returns io.EOF.
func (s *Session) Next(ctx context.Context) (Event, error) {
	if s.done {
		return Event{}, io.EOF
	}
	wait := firstWait
	for try := 0; ; {
		if s.body == nil {
			err := s.resume(ctx)
			var r *Refused
			if errors.As(err, &r) && r.Status < 500 && r.Status != http.StatusTooManyRequests {
				return Event{}, err
			}
			if err != nil {
				if try++; try >= tries || ctx.Err() != nil {
					return Event{}, err
				}
				if err := pause(ctx, wait); err != nil {
					return Event{}, err
				}
				wait = min(2*wait, maxWait)
				continue
			}
		}
		e, err := s.event()
		if errors.Is(err, errDropped) {
			s.detach()
			if ctx.Err() != nil {
				return Event{}, ctx.Err()
			}
			if try++; try >= tries {
				return Event{}, err
			}
			continue
		}
		if err != nil {
			s.Close()
			return Event{}, err
		}
		s.cut.Reset(silence)
		if e.Type == "heartbeat" {
			continue
		}
		if e.Type == "final" {
			s.Close()
		}
		return e, nil
	}
}

// pause waits with 30 % of jitter.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(time.Duration(float64(d) * (0.85 + 0.3*rand.Float64())))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errDropped = errors.New("the connection dropped")

func (s *Session) resume(ctx context.Context) error {
	res, err := s.client.do(ctx, http.MethodGet, fmt.Sprintf("/sessions/%s/stream?fromSeq=%d%s", s.ID, s.last+1, s.filter), nil, "application/x-ndjson")
	if err == nil {
		s.attach(res.Body)
	}
	return err
}

// event reads one event that is new.
func (s *Session) event() (Event, error) {
	line, err := readLine(s.read)
	if err != nil {
		if errors.Is(err, ErrProtocol) {
			return Event{}, err
		}
		return Event{}, errDropped
	}
	var e Event
	if err := json.Unmarshal(line, &e); err != nil || e.Session != s.ID {
		return Event{}, ErrProtocol
	}
	switch {
	case e.Type == "heartbeat":
		return e, nil
	case e.Type == "error":
		return Event{}, ended(e.Payload)
	case e.Seq <= s.last || (e.Seq != s.last+1 && s.filter == ""):
		return Event{}, fmt.Errorf("%w: event %d after %d", ErrProtocol, e.Seq, s.last)
	case s.opener != nil:
		if e, err = s.open(e); err != nil {
			return Event{}, err
		}
	}
	s.last = e.Seq
	return e, nil
}

// ended is why the server sends no more of a stream.
func ended(payload json.RawMessage) error {
	var p struct{ Code, Message string }
	switch err := json.Unmarshal(payload, &p); {
	case err != nil:
		return ErrProtocol
	case p.Code == "TOKEN_REMOVED":
		return &Refused{http.StatusUnauthorized, p.Code, p.Message}
	}
	return ErrLost
}

func (s *Session) open(e Event) (Event, error) {
	var box envelope.Box
	if e.Type != "enc" || json.Unmarshal(e.Payload, &box) != nil {
		return Event{}, envelope.ErrSealed
	}
	text, err := s.opener.Open(box, e.Seq, "enc")
	if err != nil {
		return Event{}, err
	}
	var in struct {
		Type    string          `json:"type"`
		Payload json.RawMessage `json:"payload"`
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return Event{}, ErrProtocol
	}
	e.Type, e.Payload = in.Type, in.Payload
	return e, nil
}

func readLine(r *bufio.Reader) (line []byte, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxEvent {
			return nil, ErrProtocol
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// do makes a request whose answer is good, or a *Refused.
func (c *Client) do(ctx context.Context, method, path string, body any, accept string) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.URL, "/")+path, r)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	req.Header.Set("Accept", accept)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	h := c.HTTP
	if h == nil {
		h = http.DefaultClient
	}
	res, err := h.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode >= 200 && res.StatusCode <= 299 {
		return res, nil
	}
	defer res.Body.Close()
	var p struct {
		Error struct{ Code, Message string }
	}
	json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&p) //nolint:errcheck // the status says enough
	return nil, &Refused{res.StatusCode, p.Error.Code, p.Error.Message}
}
