package session

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"enclave/sandbox"
	"enclave/wire/envelope"
)

// Config is what a server needs. Zero limits are those of Defaults.
type Config struct {
	Host   *Host
	Tokens *Tokens // accepted to begin with
	// TokenFile is looked at while Run serves, and what it says is accepted; empty: Tokens
	// stay. Again has it read at once.
	TokenFile string
	Again     <-chan os.Signal
	Level     sandbox.Level      // the least strict a caller may ask for; empty is STANDARD
	Identity  ed25519.PrivateKey // proves the server to clients that seal; nil refuses sealing
	Sealed    bool               // every session has to be sealed
	Tags      []string           // tags that callers may ask for; nil lets the key decide alone
	Join      bool               // every run joins the overlay
	Origins   []string           // whose pages may call; nil: none
	Proxies   []netip.Prefix     // that bring many callers: their connections are not counted
	Limits    Limits
	TLS       *tls.Config  // nil serves plain HTTP
	Logger    *slog.Logger // nil discards
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
	Streams    int   // read at once, of one tenant
	Events     int   // kept for replay, of one session
	EventBytes int
}

// Defaults are the limits of the reference where it has them.
func Defaults() Limits {
	return Limits{Lifetime: 60 * time.Second, Retention: 60 * time.Second, Heartbeat: 15 * time.Second, ToolCalls: 50, Stdout: 256 << 10,
		Sessions: 100, PerTenant: 50, Running: 8, TenantRuns: 4, Waiting: 16, Streams: 200, Events: 1000, EventBytes: 8 << 20}
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
	or(&l.Streams, d.Streams)
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
	// accepted says whose token is whose now. Another set takes its place as a whole.
	accepted atomic.Pointer[bearers]

	mu       sync.Mutex // guards what follows
	sessions map[string]*live
	hands    map[string]*handshake
	streams  map[string]int // of a tenant
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
	s := &Server{cfg: cfg, log: cfg.Logger, sessions: make(map[string]*live), hands: make(map[string]*handshake), streams: make(map[string]int),
		queue: &Queue{All: cfg.Limits.Running, Tenant: cfg.Limits.TenantRuns, Waiting: cfg.Limits.Waiting}}
	s.under, s.stop = context.WithCancelCause(context.Background())
	first, _, _ := bearers(nil).replaced(cfg.Tokens.list, time.Now(), false)
	s.accepted.Store(&first)
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
	mux.HandleFunc("GET /tools", s.known(func(w http.ResponseWriter, _ *http.Request, by *bearer) error {
		r := s.cfg.Host.Current()
		return answer(w, http.StatusOK, map[string]any{"version": r.Version(), "tools": r.List(by.who)})
	}))
	mux.HandleFunc("POST /sessions", s.known(s.create))
	mux.HandleFunc("GET /sessions", s.known(s.list))
	mux.HandleFunc("GET /sessions/{id}", s.one(func(w http.ResponseWriter, _ *http.Request, _ *bearer, l *live) error {
		return answer(w, http.StatusOK, l.info())
	}))
	mux.HandleFunc("GET /sessions/{id}/stream", s.one(s.replay))
	mux.HandleFunc("POST /sessions/{id}/cancel", s.one(s.cancel))
	mux.HandleFunc("DELETE /sessions/{id}", s.one(s.cancel))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, &refusal{http.StatusNotFound, "NOT_FOUND", fmt.Sprintf("there is no %.20s %.80s here; GET /openapi.json tells the routes", r.Method, r.URL.Path)})
	})
	return origins(s.cfg.Origins, mux)
}

// Run serves until ctx ends; it returns when every run has ended too.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	srv := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 60 * time.Second, IdleTimeout: 120 * time.Second,
		MaxHeaderBytes: 32 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	ctx, end := context.WithCancel(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer end()
	beside.Go(func() { s.sweep(ctx) })
	beside.Go(func() { s.keepTokens(ctx) })
	down := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(down)
		s.Close() // ends the streams, so that the server's own end has nothing to wait for
		under, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if srv.Shutdown(under) != nil {
			srv.Close()
		}
	})
	defer stop()
	l = newFair(l, s.cfg.Proxies)
	if s.cfg.TLS != nil {
		l = tls.NewListener(l, s.cfg.TLS)
	}
	err := srv.Serve(l)
	if ctx.Err() == nil {
		s.Close()
		return err
	}
	<-down // streams have had their last events
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
		if now.After(h.until) || h.by.held.Err() != nil {
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
	errNoToken  = &refusal{http.StatusUnauthorized, "UNAUTHORIZED", "this token is not accepted here: it never was, was removed, or has ended; ask the server's operator for a line in the token file"}
	errNoBearer = &refusal{http.StatusUnauthorized, "UNAUTHORIZED", "want the header \"Authorization: Bearer TOKEN\", with a token of the server's token file"}
	errNoneSuch = &refusal{http.StatusNotFound, "SESSION_NOT_FOUND", "there is no such session of yours, or no more: one is forgotten some time after its end"}
	errBusy     = &refusal{http.StatusTooManyRequests, "TOO_MANY_SESSIONS", "too many sessions are held or waiting; try again later"}
	errReaders  = &refusal{http.StatusTooManyRequests, "TOO_MANY_STREAMS", "this tenant reads as many streams as it may at once; close one, or try again later"}
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
func (s *Server) known(handle func(http.ResponseWriter, *http.Request, *bearer) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		header := r.Header.Get("Authorization")
		by := s.accepted.Load().whose(header, time.Now())
		switch {
		case header == "":
			refuse(w, errNoBearer)
			return
		case by == nil:
			refuse(w, errNoToken)
			return
		}
		if err := handle(w, r, by); err != nil {
			refuse(w, err)
		}
	}
}

// one finds the caller's session. Another tenant's, and another user's, are not there.
func (s *Server) one(handle func(http.ResponseWriter, *http.Request, *bearer, *live) error) http.HandlerFunc {
	return s.known(func(w http.ResponseWriter, r *http.Request, by *bearer) error {
		s.mu.Lock()
		l := s.sessions[r.PathValue("id")]
		s.mu.Unlock()
		if l == nil || l.who != by.who {
			return errNoneSuch
		}
		return handle(w, r, by, l)
	})
}

func (s *Server) list(w http.ResponseWriter, _ *http.Request, by *bearer) error {
	out := []Info{}
	s.mu.Lock()
	for _, l := range s.sessions {
		if l.who == by.who {
			out = append(out, l.info())
		}
	}
	s.mu.Unlock()
	slices.SortFunc(out, func(a, b Info) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return answer(w, http.StatusOK, map[string]any{"sessions": out})
}

func (s *Server) cancel(w http.ResponseWriter, _ *http.Request, _ *bearer, l *live) error {
	l.cancel(errCancelled)
	return answer(w, http.StatusOK, l.info())
}

// start makes a session and its run.
func (s *Server) start(id string, c *Create, by *bearer, req Request, life time.Duration, sealer *envelope.Sealer) (*live, error) {
	now, who := time.Now(), by.who
	l := &live{id: id, run: req.ID, who: who, began: now, expires: now.Add(life), state: Starting,
		budget: req.Spec.Limits.Timeout, partial: c.Partial, strict: c.Limits != nil && c.Limits.FirstError,
		log: NewLog(id, s.cfg.Limits.Events, s.cfg.Limits.EventBytes, sealer)}
	if by.held.Err() != nil { // gone while the body was read
		return nil, errNoToken
	}
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
	l.over = func() bool { return by.held.Err() != nil || s.under.Err() != nil }
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
		defer context.AfterFunc(by.held, func() { cancel(errTokenGone) })()
		l.work(under, s.cfg.Host, s.queue, req)
		cancel(nil)
	}()
	return l, nil
}

// makeRoom forgets the oldest ended session of the tenant that holds most, or of this one
// when it has too many itself: who starts many cannot make the server forget what others
// may still want to read. The caller holds mu.
func (s *Server) makeRoom(tenant string, own bool) bool {
	held := make(map[string]int)
	for _, l := range s.sessions {
		held[l.who.Tenant]++
	}
	var oldest *live
	for _, l := range s.sessions {
		at := l.endedAt()
		if at.IsZero() || (own && l.who.Tenant != tenant) {
			continue
		}
		if oldest == nil || held[l.who.Tenant] > held[oldest.who.Tenant] ||
			held[l.who.Tenant] == held[oldest.who.Tenant] && at.Before(oldest.endedAt()) {
			oldest = l
		}
	}
	if oldest == nil {
		return false
	}
	delete(s.sessions, oldest.id)
	return true
}
