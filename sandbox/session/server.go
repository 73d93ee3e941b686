package session

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"enclave/sandbox"
	"enclave/sandbox/script"
	"enclave/sandbox/tools"
	"enclave/wire"
	"enclave/wire/envelope"
)

// Config is what a server needs. Zero limits are those of Defaults.
type Config struct {
	Host     *Host
	Tokens   *Tokens
	Level    sandbox.Level      // the least strict a caller may ask for; empty is STANDARD
	Identity ed25519.PrivateKey // proves the server to clients that seal; nil refuses sealing
	Sealed   bool               // every session has to be sealed
	Tags     []string           // tags that callers may ask for; nil lets the key decide alone
	Join     bool               // every run joins the overlay
	Origins  []string           // whose pages may call; nil: none
	Limits   Limits
	TLS      *tls.Config  // nil serves plain HTTP
	Logger   *slog.Logger // nil discards
}

// Limits bound what callers can make a server hold.
type Limits struct {
	Lifetime   time.Duration // of a session, queue included
	Retention  time.Duration // of its log after its end
	Heartbeat  time.Duration
	ToolCalls  int
	Stdout     int64 // bytes
	Sessions   int   // held at once, ended ones included
	PerTenant  int   // the same, of one tenant
	Running    int   // at once
	TenantRuns int   // at once, of one tenant
	Waiting    int   // of one tenant
	Events     int   // kept for replay, of one session
	EventBytes int
}

// Defaults are the limits of the reference where it has them.
func Defaults() Limits {
	return Limits{Lifetime: 60 * time.Second, Retention: 60 * time.Second, Heartbeat: 15 * time.Second, ToolCalls: 50, Stdout: 256 << 10,
		Sessions: 100, PerTenant: 50, Running: 8, TenantRuns: 4, Waiting: 16, Events: 1000, EventBytes: 8 << 20}
}

func (l Limits) filled() Limits {
	d := Defaults()
	or(&l.Lifetime, d.Lifetime)
	or(&l.Retention, d.Retention)
	or(&l.Heartbeat, d.Heartbeat)
	or(&l.ToolCalls, d.ToolCalls)
	or(&l.Stdout, d.Stdout)
	or(&l.Sessions, d.Sessions)
	or(&l.PerTenant, d.PerTenant)
	or(&l.Running, d.Running)
	or(&l.TenantRuns, d.TenantRuns)
	or(&l.Waiting, d.Waiting)
	or(&l.Events, d.Events)
	or(&l.EventBytes, d.EventBytes)
	return l
}

func or[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Server serves sessions.
type Server struct {
	cfg   Config
	log   *slog.Logger
	queue *Queue
	work  sync.WaitGroup

	mu       sync.Mutex // guards what follows
	sessions map[string]*live
	hands    map[string]*handshake
	down     bool
	under    context.Context // of all runs
	stop     context.CancelCauseFunc
}

// New makes a server.
func New(cfg Config) *Server {
	cfg.Limits = cfg.Limits.filled()
	if cfg.Level == "" {
		cfg.Level = sandbox.Standard
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, log: cfg.Logger, sessions: make(map[string]*live), hands: make(map[string]*handshake),
		queue: &Queue{All: cfg.Limits.Running, Tenant: cfg.Limits.TenantRuns, Waiting: cfg.Limits.Waiting}}
	s.under, s.stop = context.WithCancelCause(context.Background())
	return s
}

// Handler serves the routes; Run serves them on a listener.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, map[string]bool{"ok": true}) })
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(openAPI)
	})
	mux.HandleFunc("POST /handshake", s.known(s.handshake))
	mux.HandleFunc("GET /tools", s.known(func(w http.ResponseWriter, _ *http.Request, who tools.Caller) error {
		r := s.cfg.Host.Current()
		return answer(w, http.StatusOK, map[string]any{"version": r.Version(), "tools": r.List(who)})
	}))
	mux.HandleFunc("POST /sessions", s.known(s.create))
	mux.HandleFunc("GET /sessions", s.known(s.list))
	mux.HandleFunc("GET /sessions/{id}", s.one(func(w http.ResponseWriter, _ *http.Request, l *live) error { return answer(w, http.StatusOK, l.info()) }))
	mux.HandleFunc("GET /sessions/{id}/stream", s.one(s.replay))
	mux.HandleFunc("POST /sessions/{id}/cancel", s.one(s.cancel))
	mux.HandleFunc("DELETE /sessions/{id}", s.one(s.cancel))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { refuse(w, errNoRoute) })
	return origins(s.cfg.Origins, mux)
}

// Run serves until ctx ends; it returns when every run has ended too.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	srv := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 60 * time.Second, IdleTimeout: 120 * time.Second,
		MaxHeaderBytes: 32 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.sweep(ctx)
	}()
	stop := context.AfterFunc(ctx, func() {
		s.Close() // ends the streams, so that the server's own end has nothing to wait for
		under, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if srv.Shutdown(under) != nil {
			srv.Close()
		}
	})
	defer stop()
	if s.cfg.TLS != nil {
		l = tls.NewListener(l, s.cfg.TLS)
	}
	err := srv.Serve(l)
	if ctx.Err() == nil {
		s.Close()
		return err
	}
	<-done
	s.Close()
	return nil
}

// Close cancels all runs and waits for them. Nothing is started after it.
func (s *Server) Close() error {
	s.mu.Lock()
	s.down = true
	s.mu.Unlock()
	s.stop(errShutdown)
	s.work.Wait()
	return nil
}

// sweep forgets sessions whose log nobody may want any more.
func (s *Server) sweep(ctx context.Context) {
	tick := time.NewTicker(min(s.cfg.Limits.Retention, 10*time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.forget(now)
		}
	}
}

func (s *Server) forget(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, l := range s.sessions {
		if at := l.endedAt(); !at.IsZero() && now.Sub(at) >= s.cfg.Limits.Retention {
			delete(s.sessions, id)
		}
	}
	for id, h := range s.hands {
		if now.After(h.until) {
			delete(s.hands, id)
		}
	}
}

// refusal is an error that is an answer.
type refusal struct {
	status  int
	code    string
	message string
}

func (e *refusal) Error() string { return e.message }

var (
	errNoRoute  = &refusal{http.StatusNotFound, "NOT_FOUND", "no such route"}
	errNoToken  = &refusal{http.StatusUnauthorized, "UNAUTHORIZED", "want a bearer token of this server's token file"}
	errNoneSuch = &refusal{http.StatusNotFound, "SESSION_NOT_FOUND", "there is no such session, or no more"}
	errBusy     = &refusal{http.StatusTooManyRequests, "TOO_MANY_SESSIONS", "too many sessions are held or waiting; try again later"}
	errDown     = &refusal{http.StatusServiceUnavailable, "SHUTTING_DOWN", "the server goes down"}
)

func bad(format string, args ...any) error {
	return &refusal{http.StatusBadRequest, "BAD_REQUEST", fmt.Sprintf(format, args...)}
}

func refuse(w http.ResponseWriter, err error) {
	var r *refusal
	if !errors.As(err, &r) {
		r = &refusal{http.StatusInternalServerError, "INTERNAL_ERROR", "the request could not be served"}
	}
	if r.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	if r.status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	answer(w, r.status, map[string]any{"error": map[string]string{"code": r.code, "message": r.message}}) //nolint:errcheck // the caller is gone
}

func answer(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, err = w.Write(append(b, '\n'))
	return err
}

// known lets callers with a token through.
func (s *Server) known(handle func(http.ResponseWriter, *http.Request, tools.Caller) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, ok := s.cfg.Tokens.Who(r.Header.Get("Authorization"))
		if !ok {
			refuse(w, errNoToken)
			return
		}
		if err := handle(w, r, who); err != nil {
			refuse(w, err)
		}
	}
}

// one finds the caller's session. Another tenant's, and another user's, are not there.
func (s *Server) one(handle func(http.ResponseWriter, *http.Request, *live) error) http.HandlerFunc {
	return s.known(func(w http.ResponseWriter, r *http.Request, who tools.Caller) error {
		s.mu.Lock()
		l := s.sessions[r.PathValue("id")]
		s.mu.Unlock()
		if l == nil || l.who != who {
			return errNoneSuch
		}
		return handle(w, r, l)
	})
}

func (s *Server) list(w http.ResponseWriter, _ *http.Request, who tools.Caller) error {
	out := []Info{}
	s.mu.Lock()
	for _, l := range s.sessions {
		if l.who == who {
			out = append(out, l.info())
		}
	}
	s.mu.Unlock()
	slices.SortFunc(out, func(a, b Info) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return answer(w, http.StatusOK, map[string]any{"sessions": out})
}

func (s *Server) cancel(w http.ResponseWriter, _ *http.Request, l *live) error {
	l.cancel(errCancelled)
	return answer(w, http.StatusOK, l.info())
}

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
		return &refusal{http.StatusUnsupportedMediaType, "BAD_REQUEST", "want a body of type application/json"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return &refusal{http.StatusRequestEntityTooLarge, "TOO_LARGE", fmt.Sprintf("the body has more than %d bytes", maxBody)}
	}
	if err := wire.Unmarshal(body, v); err != nil {
		return bad("%v", err)
	}
	return nil
}

// create starts a session and streams it, or, for a caller that accepts JSON only, says
// where it is.
func (s *Server) create(w http.ResponseWriter, r *http.Request, who tools.Caller) error {
	var c Create
	if err := readBody(w, r, &c); err != nil {
		return err
	}
	id, sealer, err := "s_"+newUUID(), (*envelope.Sealer)(nil), error(nil)
	if c.Sealed != nil {
		sealed := c.Sealed
		id = sealed.Session
		if c, sealer, err = s.unseal(who, sealed); err != nil {
			return err
		}
	} else if s.cfg.Sealed {
		return &refusal{http.StatusForbidden, "ENCRYPTION_REQUIRED", "this server takes sealed sessions only: begin with POST /handshake"}
	}
	req, life, err := s.request(&c, who)
	if err != nil {
		return err
	}
	f, err := s.filter(r, sealer != nil)
	if err != nil {
		return err
	}
	l, err := s.start(id, &c, who, req, life, sealer)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/sessions/"+l.id)
	if accepts(r, "application/json") && !accepts(r, kindLines) && !accepts(r, kindEvents) {
		return answer(w, http.StatusCreated, l.info())
	}
	return s.stream(w, r, l, 1, f)
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

// start makes a session and its run.
func (s *Server) start(id string, c *Create, who tools.Caller, req Request, life time.Duration, sealer *envelope.Sealer) (*live, error) {
	now := time.Now()
	l := &live{id: id, run: req.ID, who: who, began: now, expires: now.Add(life), state: Starting,
		budget: req.Spec.Limits.Timeout, partial: c.Partial, strict: c.Limits != nil && c.Limits.FirstError,
		log: NewLog(id, s.cfg.Limits.Events, s.cfg.Limits.EventBytes, sealer)}
	if s.queue.Full(who.Tenant) {
		return nil, errBusy
	}
	s.mu.Lock()
	if s.down {
		s.mu.Unlock()
		return nil, errDown
	}
	held := 0
	for _, other := range s.sessions {
		if other.who.Tenant == who.Tenant {
			held++
		}
	}
	if len(s.sessions) >= s.cfg.Limits.Sessions || held >= s.cfg.Limits.PerTenant {
		if !s.makeRoom(who.Tenant, held >= s.cfg.Limits.PerTenant) {
			s.mu.Unlock()
			return nil, errBusy
		}
	}
	ctx, cancel := context.WithCancelCause(s.under)
	l.cancel = cancel
	s.sessions[id] = l
	s.work.Add(1)
	s.mu.Unlock()

	var kind Encryption
	if sealer != nil {
		kind = Encryption{true, "1"}
	}
	in := l.info()
	l.log.Append(TypeInit, InitPayload{in.CancelURL, in.StreamURL, l.expires.UTC(), kind, req.ID})
	go func() {
		defer s.work.Done()
		under, end := context.WithDeadline(ctx, l.expires)
		defer end()
		l.work(under, s.cfg.Host, s.queue, req)
		cancel(nil)
	}()
	return l, nil
}

// makeRoom forgets the oldest ended session, of this tenant only when it has too many
// itself. The caller holds mu.
func (s *Server) makeRoom(tenant string, own bool) bool {
	var oldest *live
	for _, l := range s.sessions {
		at := l.endedAt()
		if at.IsZero() || (own && l.who.Tenant != tenant) {
			continue
		}
		if oldest == nil || at.Before(oldest.endedAt()) {
			oldest = l
		}
	}
	if oldest == nil {
		return false
	}
	delete(s.sessions, oldest.id)
	return true
}
