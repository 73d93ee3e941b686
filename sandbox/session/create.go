package session

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"enclave/sandbox"
	"enclave/sandbox/script"
	"enclave/sandbox/tools"
	"enclave/wire"
	"enclave/wire/envelope"
)

// Create is the body of POST /sessions: a request, or a sealed one.
type Create struct {
	Code   string        `json:"code,omitempty"`
	Level  string        `json:"level,omitempty"`
	Limits *CreateLimits `json:"limits,omitempty"`
	Tags   []string      `json:"tags,omitempty"`
	Join   bool          `json:"join,omitempty"`
	// Partial asks for an event with what each call of a tool came to.
	Partial bool           `json:"partial,omitempty"`
	Sealed  *SealedRequest `json:"sealed,omitempty"`
}

// CreateLimits make a session's limits smaller; none makes one larger.
type CreateLimits struct {
	LifetimeMS int64 `json:"sessionTtlMs,omitempty"`
	TimeoutMS  int64 `json:"timeoutMs,omitempty"`
	ToolCalls  int   `json:"maxToolCalls,omitempty"`
	Stdout     int64 `json:"maxStdoutBytes,omitempty"`
	ToolMS     int64 `json:"toolTimeoutMs,omitempty"`      // of one call
	ToolResult int64 `json:"maxToolResultBytes,omitempty"` // of one call
	FirstError bool  `json:"cancelOnFirstError,omitempty"` // end with the first call that fails
}

// maxMS is the longest time that a limit can name: a day.
const maxMS = 24 * 60 * 60 * 1000

// SealedRequest carries a sealed Create for a session that a handshake opened.
type SealedRequest struct {
	Session string       `json:"sessionId"`
	Seq     uint64       `json:"seq"`
	Box     envelope.Box `json:"payload"`
}

// maxBody is the most bytes of a request's body: a source, escaped and sealed.
const maxBody = 4 * sandbox.MaxSource

func readBody(w http.ResponseWriter, r *http.Request, v any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return &refusal{http.StatusUnsupportedMediaType, "BAD_REQUEST", "want a body of type application/json, and the header that says so: Content-Type: application/json"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return &refusal{http.StatusRequestEntityTooLarge, "TOO_LARGE", fmt.Sprintf("the body has more than %d bytes; what a script works on comes by its tools", maxBody)}
	}
	if err != nil {
		return bad("the body did not come whole: send it within a minute")
	}
	if err := wire.Unmarshal(body, v); err != nil {
		return bad("the body is not as GET /openapi.json tells: %v", err)
	}
	return nil
}

// create starts a session and streams it, or, for a caller that accepts JSON only, says
// where it is.
func (s *Server) create(w http.ResponseWriter, r *http.Request, by *bearer) error {
	var c Create
	if err := readBody(w, r, &c); err != nil {
		return err
	}
	id, sealer, err := "s_"+newUUID(), (*envelope.Sealer)(nil), error(nil)
	if c.Sealed != nil {
		sealed := c.Sealed
		id = sealed.Session
		if c, sealer, err = s.unseal(by, sealed); err != nil {
			return err
		}
	} else if s.cfg.Sealed {
		return &refusal{http.StatusForbidden, "ENCRYPTION_REQUIRED", "this server takes sealed sessions only: begin with POST /handshake"}
	}
	req, life, err := s.request(&c, by.who)
	if err != nil {
		return err
	}
	f, err := s.filter(r, sealer != nil)
	if err != nil {
		return err
	}
	silent := accepts(r, "application/json") && !accepts(r, kindLines) && !accepts(r, kindEvents)
	if !silent { // before it is started: who cannot be told must not have to guess
		leave, err := s.reads(by.who.Tenant)
		if err != nil {
			return err
		}
		defer leave()
	}
	l, err := s.start(id, &c, by, req, life, sealer)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/sessions/"+l.id)
	if silent {
		return answer(w, http.StatusCreated, l.info())
	}
	return s.stream(w, r, by, l, 1, f)
}

// request makes a run of a body, within what the operator allows.
func (s *Server) request(c *Create, who tools.Caller) (Request, time.Duration, error) {
	lim := s.cfg.Limits
	level := s.cfg.Level
	if c.Level != "" {
		asked, err := script.ParseLevel(c.Level)
		if err != nil {
			return Request{}, 0, bad("level: %v", err)
		}
		all := script.Levels()
		if slices.Index(all, asked) > slices.Index(all, s.cfg.Level) {
			return Request{}, 0, &refusal{http.StatusForbidden, "LEVEL_NOT_ALLOWED", fmt.Sprintf("this server runs nothing below %s", s.cfg.Level)}
		}
		level = asked
	}
	if strings.TrimSpace(c.Code) == "" {
		return Request{}, 0, bad("code: is empty")
	}
	for _, tag := range c.Tags {
		if _, err := wire.ParseTag(tag); err != nil {
			return Request{}, 0, bad("tags: %v", err)
		}
		if s.cfg.Tags != nil && !slices.Contains(s.cfg.Tags, tag) {
			return Request{}, 0, &refusal{http.StatusForbidden, "TAG_NOT_ALLOWED", fmt.Sprintf("this server gives no run the tag %s", tag)}
		}
	}
	if len(c.Tags) > wire.MaxTagsPerSystem {
		return Request{}, 0, bad("tags: more than %d", wire.MaxTagsPerSystem)
	}
	l := sandbox.LimitsOf(level)
	l.ToolCalls = min(l.ToolCalls, lim.ToolCalls)
	l.OutputBytes = min(l.OutputBytes, lim.Stdout)
	life := lim.Lifetime
	var bounds tools.Bounds
	if o := c.Limits; o != nil {
		if o.LifetimeMS < 0 || o.TimeoutMS < 0 || o.ToolCalls < 0 || o.Stdout < 0 || o.ToolMS < 0 || o.ToolResult < 0 {
			return Request{}, 0, bad("limits: below zero")
		}
		if max(o.LifetimeMS, o.TimeoutMS, o.ToolMS) > maxMS {
			return Request{}, 0, bad("limits: a time of more than %d ms", int64(maxMS))
		}
		life = less(life, time.Duration(o.LifetimeMS)*time.Millisecond)
		l.Timeout = less(l.Timeout, time.Duration(o.TimeoutMS)*time.Millisecond)
		l.ToolCalls = less(l.ToolCalls, o.ToolCalls)
		l.OutputBytes = less(l.OutputBytes, o.Stdout)
		bounds = tools.Bounds{Deadline: time.Duration(o.ToolMS) * time.Millisecond, ResultBytes: o.ToolResult}
	}
	l.Timeout = min(l.Timeout, life)
	return Request{ID: NewRunID(), Caller: who, Join: c.Join || s.cfg.Join, Tags: c.Tags, Call: bounds,
		Spec: sandbox.Spec{Source: c.Code, Level: level, Limits: l}}, life, nil
}

// less takes what was asked for where that is less; 0 asks for nothing.
func less[T int | int64 | time.Duration](have, asked T) T {
	if asked > 0 && asked < have {
		return asked
	}
	return have
}
