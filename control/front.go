package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"enclave/control/admin"
	"enclave/control/enrol"
	"enclave/loglimit"
	"enclave/store"
	"enclave/store/seal"
	"enclave/wire/svid"
)

// Reopen opens a locked state again, which is held until then.
type Reopen func(ctx context.Context, ids []seal.Identity, held *store.Held) (*Server, error)

// Front has the listeners of a control plane and hands requests to its server. It stays
// when the state is locked: then there is no server and no key of the state, and the
// front says so to everybody but who comes to unlock it
// (docs/decisions/0105-locked-while-it-runs.md).
type Front struct {
	cfg Config
	log *slog.Logger
	// strangers is for lines that anybody can cause.
	strangers *slog.Logger
	trust     svid.Trust
	reopen    Reopen // nil: cannot be locked

	live   atomic.Pointer[live]      // nil while locked
	locked atomic.Pointer[lockedAPI] // nil while not
	wishes chan store.Change         // to lock

	turn   sync.Mutex  // held while locking and unlocking, which wait for much
	closed atomic.Bool // locking came to its end: no key is left
	held   *store.Held // the directory while locked, so that nobody else opens it; guarded by turn

	mu     sync.Mutex // guards what follows; held briefly
	ctx    context.Context
	fail   context.CancelCauseFunc
	rotate rotation
}

// live is a server at work.
type live struct {
	server   *Server
	handler  http.Handler // with the agents' routes
	api      http.Handler
	handlers tracker
	loops    sync.WaitGroup
	ctx      context.Context // ends before the store closes
	cancel   context.CancelFunc
}

// lockedAPI is what is left of a server while its state is locked.
type lockedAPI struct {
	http.Handler
	cert *tls.Certificate
}

const (
	// lockGrace is how long requests get to end when the state is locked.
	lockGrace = 2 * time.Second
	// lockedCertLife is the life of the certificate that a locked front shows: nothing
	// can renew it, and it must not end before somebody unlocks.
	lockedCertLife = 90 * 24 * time.Hour
)

// NewFront makes a front for a server. With a reopen it owns the server's store.
func NewFront(s *Server, reopen Reopen) *Front {
	f := &Front{cfg: s.cfg, log: s.log, strangers: loglimit.New(s.log), trust: s.trust, reopen: reopen, wishes: make(chan store.Change)}
	f.cfg.Store = nil // the server's, which may change
	f.live.Store(newLive(s))
	return f
}

func newLive(s *Server) *live {
	l := &live{server: s, handler: s.handler(), api: s.apiHandler()}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// begin starts the loops of the first server.
func (f *Front) begin(ctx context.Context, fail context.CancelCauseFunc) {
	f.mu.Lock()
	f.ctx, f.fail = ctx, fail
	f.mu.Unlock()
	f.start(f.live.Load())
}

func (f *Front) start(l *live) {
	l.server.front.Store(f)
	l.loops.Go(func() { l.server.hub.run(l.ctx) })
	l.loops.Go(func() { l.server.api.Run(l.ctx) })
	l.loops.Go(func() { l.server.hub.notarise(l.ctx) })
	l.loops.Go(func() {
		select {
		case <-l.server.cfg.Store.Failed():
			// What it would serve or acknowledge cannot be trusted.
			f.fail(l.server.cfg.Store.Failure())
		case <-l.ctx.Done():
		}
	})
}

// end stops the server when the front ends.
func (f *Front) end() error {
	f.turn.Lock()
	defer f.turn.Unlock()
	l := f.live.Swap(nil)
	if l == nil {
		if f.held != nil {
			return f.held.Close()
		}
		return nil
	}
	l.stop(0)
	if f.reopen == nil {
		return nil
	}
	return l.server.cfg.Store.Close()
}

// stop ends all that the server does; requests get the grace.
func (l *live) stop(grace time.Duration) {
	l.server.hub.stop()
	if grace > 0 {
		after := time.AfterFunc(grace, l.cancel)
		defer after.Stop()
	} else {
		l.cancel()
	}
	l.handlers.wait()
	l.cancel()
	l.loops.Wait()
}

// serve hands a request to the server of the moment.
func (f *Front) serve(w http.ResponseWriter, r *http.Request, agents bool) {
	l := f.live.Load()
	if l == nil || !l.handlers.enter() {
		if locked := f.locked.Load(); locked != nil {
			locked.ServeHTTP(w, r)
			return
		}
		admin.WriteSealed(w)
		return
	}
	defer l.handlers.leave()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	h := l.api
	if agents {
		h = l.handler
	}
	h.ServeHTTP(w, r.WithContext(ctx))
}

// certificate is what handshakes show.
func (f *Front) certificate() (*tls.Certificate, error) {
	if l := f.live.Load(); l != nil {
		return l.server.Certificate()
	}
	if locked := f.locked.Load(); locked != nil {
		return locked.cert, nil
	}
	return nil, errors.New("the state is being locked")
}

// locking locks when somebody wishes so, until ctx ends.
func (f *Front) locking(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-f.wishes:
			if err := f.lock(ctx, c); err != nil {
				f.log.Error("the state could not be locked", "error", err)
				f.fail(fmt.Errorf("lock: %w", err)) // better ended than half open
			}
		}
	}
}

func (f *Front) lock(ctx context.Context, c store.Change) error {
	f.turn.Lock()
	defer f.turn.Unlock()
	l := f.live.Load()
	if l == nil {
		return nil
	}
	s := l.server
	if err := s.cfg.Store.Record(ctx, c, "seal.lock", "state", nil); err != nil {
		return err
	}
	// It is for the way back only; whoever has none of these restarts the process.
	tokens, err := s.cfg.Store.TokensBySecret(ctx)
	if err != nil {
		return err
	}
	long, err := enrol.NewServerCert(s.ca.WithLife(lockedCertLife), nil, s.cfg.Hosts...)
	if err != nil {
		return err
	}
	cert, err := long.Certificate()
	if err != nil {
		return err
	}
	sealed, err := admin.NewSealed(admin.SealedConfig{Tokens: tokens, Vault: vault{func() *Front { return f }}, Logger: f.log, Version: f.cfg.Version, Since: c.At, Now: s.cfg.Store.Clock().Now})
	if err != nil {
		return err
	}
	f.locked.Store(&lockedAPI{Handler: sealed, cert: cert})
	f.live.Store(nil)
	l.stop(lockGrace)
	f.held, err = s.cfg.Store.CloseHolding()
	s.wipe()
	// What was in memory is garbage now, and must not wait for its turn to be overwritten.
	l, s, tokens, long = nil, nil, nil, nil
	seal.Scrub()
	f.closed.Store(true)
	f.log.Warn("the state is locked; the API answers 503 until it is unlocked", "by", c.By)
	return err
}

// unlock opens the state again.
func (f *Front) unlock(ctx context.Context, c store.Change, ids []seal.Identity) error {
	f.turn.Lock()
	defer f.turn.Unlock()
	if f.live.Load() != nil || f.ended() {
		return errNotLocked
	}
	s, err := f.reopen(ctx, ids, f.held)
	if err != nil {
		return err
	}
	if err := s.cfg.Store.Record(ctx, c, "seal.unlock", "state", nil); err != nil {
		return errors.Join(err, s.cfg.Store.Close())
	}
	f.held = nil // the store's again
	f.closed.Store(false)
	l := newLive(s)
	f.start(l)
	f.live.Store(l)
	f.locked.Store(nil)
	f.log.Warn("the state is unlocked", "by", c.By)
	return nil
}

// ended reports whether the front goes down, or has not begun.
func (f *Front) ended() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ctx == nil || f.ctx.Err() != nil
}

// wipe overwrites the keys of the organisation.
func (s *Server) wipe() {
	s.ca.Wipe()
	clear(s.hub.tickets.key)
}
