package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"runtime/debug"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// mux is the only multiplexer of the API and the only door to it. It satisfies
// humago.Mux, so what huma registers passes here, too. The table is an argument so
// that a test can take an entry away.
type mux struct {
	http.ServeMux
	rules  map[string]*rule // by pattern
	routed map[string]bool
	orphan []string // patterns without an entry
	guard  func(*rule, http.Handler) http.Handler
}

func newMux(table []rule, guard func(*rule, http.Handler) http.Handler) *mux {
	m := &mux{rules: make(map[string]*rule), routed: make(map[string]bool), guard: guard}
	for i := range table {
		m.rules[table[i].pattern()] = &table[i]
	}
	return m
}

// HandleFunc registers a handler behind the guard of its rule.
func (m *mux) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	r := m.rules[pattern]
	if r == nil {
		m.orphan = append(m.orphan, pattern)
		return
	}
	m.routed[pattern] = true
	m.ServeMux.Handle(pattern, m.guard(r, http.HandlerFunc(h)))
}

// check compares the table with what was registered, in both directions.
func (m *mux) check() error {
	var errs []error
	for _, p := range m.orphan {
		errs = append(errs, fmt.Errorf("route %s has no entry in the authorisation table", p))
	}
	for p := range m.rules {
		if !m.routed[p] {
			errs = append(errs, fmt.Errorf("the authorisation table names %s, which has no handler", p))
		}
	}
	return errors.Join(errs...)
}

// ServeHTTP answers what fits no pattern with a problem, like everything else.
func (m *mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, pattern := m.Handler(r)
	if pattern != "" {
		m.ServeMux.ServeHTTP(w, r)
		return
	}
	var got status
	h.ServeHTTP(&got, r) // the mux's own 404, or 405 with Allow
	if allow := got.Header().Get("Allow"); allow != "" {
		w.Header().Set("Allow", allow)
		WriteProblem(w, NewProblem(http.StatusMethodNotAllowed, api.CodeBadRequest, "this path takes "+allow, ""))
		return
	}
	WriteProblem(w, NewProblem(http.StatusNotFound, api.CodeNotFound, "no such route", "GET "+Prefix+"/docs lists them"))
}

// status is a response writer that keeps the header alone.
type status struct{ header http.Header }

func (s *status) Header() http.Header {
	if s.header == nil {
		s.header = make(http.Header)
	}
	return s.header
}
func (s *status) Write(b []byte) (int, error) { return len(b), nil }
func (s *status) WriteHeader(int)             {}

// guarded puts everything that every route needs before the handler, in this order:
// cross-origin check, token, scope, body. Nothing is read from a caller who may not.
func (a *API) guarded(r *rule, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w = &prompt{w, http.NewResponseController(w)}
		defer a.recovered(w, req)
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "no-referrer")
		id := wire.NewID(requestIDLen)
		h.Set(RequestHeader, id)
		req = req.WithContext(context.WithValue(req.Context(), requestKey{}, id))
		if err := a.crossOrigin.Check(req); err != nil {
			WriteProblem(w, NewProblem(http.StatusForbidden, api.CodeForbidden, "cross-origin request refused", ""))
			return
		}
		if r.scope != Public {
			who, refusal := a.auth.identify(req)
			if refusal == nil && !who.May(r.scope) {
				refusal = NewProblem(http.StatusForbidden, api.CodeForbidden,
					fmt.Sprintf("this token may not: %s needs the scope %s", r.id, r.scope), "use a token with that scope")
			}
			if refusal != nil {
				a.deny(req, r, who, refusal)
				if refusal.Status == http.StatusUnauthorized {
					h.Set("WWW-Authenticate", `Bearer realm="enclave"`)
				}
				WriteProblem(w, refusal)
				return
			}
			req = req.WithContext(context.WithValue(req.Context(), principalKey{}, who))
		}
		// What cannot set a deadline, a recorder in a test, has no slow client either.
		slow := http.NewResponseController(w)
		_ = slow.SetReadDeadline(time.Now().Add(bodyTimeout))
		if refusal := strictBody(w, req, r.limit()); refusal != nil {
			WriteProblem(w, refusal)
			return
		}
		_ = slow.SetReadDeadline(time.Time{})
		next.ServeHTTP(w, req)
	})
}

// deny records a refusal. Whoever brings no token at all has asked for nothing that
// could be denied.
func (a *API) deny(req *http.Request, r *rule, who *Principal, refusal *api.Problem) {
	n := Denial{Action: "auth.deny", Object: "api:" + r.id, From: req.RemoteAddr, Request: requestID(req.Context()),
		Detail: map[string]any{"code": refusal.Code}}
	switch {
	case who != nil:
		n.Actor, n.Action, n.Detail["needs"] = "token:"+who.Name, "api.deny", r.scope
	case req.Header.Get("Authorization") == "" || refusal.Status == http.StatusServiceUnavailable:
		return
	}
	a.Denied(req.Context(), n)
}

// RequestHeader names a request, in the answer and in the audit records that it makes.
const RequestHeader = "Enclave-Request"

const requestIDLen = 16 // characters of 5 bits each

type requestKey struct{}

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// prompt gives each write of an answer a deadline of its own: a client that does not
// read would hold its handler, and what the handler has in memory, for ever. How long a
// handler may think is no matter of writing; some wait on purpose.
type prompt struct {
	http.ResponseWriter
	control *http.ResponseController
}

// writeTimeout is how long a client may take to read what fills its buffers.
const writeTimeout = 30 * time.Second

// Write implements http.ResponseWriter.
func (p *prompt) Write(b []byte) (int, error) {
	// What cannot set a deadline, a recorder in a test, has no slow client either.
	_ = p.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	return p.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController through.
func (p *prompt) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// bodyTimeout is how long a client may take to send a request body. A body that
// trickles would hold its handler for ever.
const bodyTimeout = 10 * time.Second

// strictBody reads the body within its limit and refuses what two JSON readers could
// read differently; then the handler reads it from memory.
func strictBody(w http.ResponseWriter, r *http.Request, limit int64) *api.Problem {
	if r.Method == http.MethodGet || r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return NewProblem(http.StatusRequestEntityTooLarge, api.CodeTooLarge, fmt.Sprintf("this request body has at most %d bytes", limit), "")
	case err != nil:
		return NewProblem(http.StatusBadRequest, api.CodeBadRequest, "the request body ended early", "")
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if len(body) == 0 {
		return nil
	}
	if ct, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || ct != "application/json" {
		return NewProblem(http.StatusUnsupportedMediaType, api.CodeBadRequest, "a request body is application/json", "")
	}
	if err := wire.CheckJSON(body); err != nil {
		p := NewProblem(http.StatusBadRequest, api.CodeBadRequest, "the request body is no acceptable JSON", "")
		p.Problems = []wire.Problem{asProblem(err)}
		return p
	}
	return nil
}

// recovered turns a panic into an answer and a log line; a client that went away is
// no panic of ours.
func (a *API) recovered(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler || r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	a.log.LogAttrs(r.Context(), slog.LevelError, "api handler panicked",
		slog.String("route", r.Pattern), slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
	WriteProblem(w, NewProblem(http.StatusInternalServerError, api.CodeInternal, "something went wrong here; the log has it", ""))
}
