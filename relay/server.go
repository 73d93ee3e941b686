package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"enclave/passage"
	"enclave/wire"
	"enclave/wire/frame"
	"enclave/wire/svid"
)

// Server is a relay. Connections come by Serve, or by ServeConn from a listener that
// shares its port with other protocols; both count against the same limits.
type Server struct {
	cfg    Config
	limits Limits
	log    *slog.Logger
	counts counters
	roster *roster
	door   *door
	pool   *sync.Pool
	stun   *buckets

	draining context.Context // ends when Shutdown begins: nothing new
	drain    context.CancelFunc
	stopping context.Context // ends when the grace is over: nobody left
	stop     context.CancelFunc

	// mu guards closed, and that nothing is added to running once it is waited for.
	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup // every Serve, ServeConn and ServeSTUN
}

// New allocates a relay; nothing runs until one of the Serve methods is called.
func New(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg:    cfg,
		limits: cfg.Limits.orDefaults(),
		log:    cfg.Logger,
		roster: newRoster(),
		door:   newDoor(),
		pool:   newPool(),
	}
	s.stun = newBuckets(&s.limits)
	s.draining, s.drain = context.WithCancel(context.Background())
	s.stopping, s.stop = context.WithCancel(context.Background())
	return s
}

// begin counts a caller into running; false once Shutdown was called.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.running.Add(1)
	}
	return !s.closed
}

func (s *Server) trust() svid.Trust {
	if s.cfg.Trust == nil {
		return svid.Trust{}
	}
	return s.cfg.Trust()
}

func (s *Server) org() wire.OrgID { return s.trust().Org }

// Serve accepts TLS connections from l until ctx ends or Shutdown is called, which is
// no error. It closes l, and returns when its connections have ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer l.Close()
	if s.cfg.Identity == nil {
		return errors.New("relay: no identity to show on a listener")
	}
	if !s.begin() {
		return nil
	}
	defer s.running.Done()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer context.AfterFunc(s.draining, func() { l.Close() })()

	var conns sync.WaitGroup
	defer conns.Wait()
	var logged time.Time
	for wait := time.Duration(0); ; {
		conn, err := l.Accept()
		if err == nil {
			wait = 0
			conns.Go(func() { s.ServeConn(ctx, tls.Server(passage.NewBulk(conn), s.tlsConfig())) })
			continue
		}
		if ctx.Err() != nil || s.draining.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("relay: accept: %w", err)
		}
		// Out of descriptors, or a caller that gave up: neither ends a relay. Who has not
		// said who it is gives way to who comes now.
		if wait = min(max(2*wait, minPause), time.Second); errors.Is(err, syscall.EMFILE) && s.door.room() {
			s.count(refusedHandshakes, 1)
			wait = minPause
		}
		if now := time.Now(); now.Sub(logged) >= time.Second {
			logged = now
			s.log.Warn("relay: accept", "err", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		case <-s.draining.Done():
		}
	}
}

// minPause is how long Serve waits at least after an error.
const minPause = 5 * time.Millisecond

// tlsConfig is the TLS side of Serve. Records are full from the start: latency of a
// first small record matters to web pages, not to packets that are smaller yet.
func (s *Server) tlsConfig() *tls.Config {
	c := svid.ServerConfig(s.trust(), s.cfg.Identity, svid.ClientRequired)
	c.NextProtos = []string{frame.ALPN}
	c.DynamicRecordSizingDisabled = true
	// What lets only the web pass gets it: a TLS without a client's certificate, and inside
	// it, in a WebSocket, the one above (package passage).
	web := c.Clone()
	web.NextProtos = []string{passage.WebALPN}
	web.ClientAuth, web.VerifyConnection, web.VerifyPeerCertificate = tls.NoClientCert, nil, nil
	web.MinVersion = tls.VersionTLS12
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedProtos, frame.ALPN) {
			return nil, nil
		}
		return web, nil
	}
	return c
}

// unwrap takes the connection of a client out of a WebSocket. It costs as much as a
// handshake may, and counts as part of one.
func (s *Server) unwrap(ctx context.Context, outer *tls.Conn) (*tls.Conn, error) {
	stop := context.AfterFunc(ctx, func() { outer.NetConn().Close() })
	defer stop()
	inner, err := passage.Accept(outer)
	if err != nil {
		return nil, err
	}
	s.count(wrapped, 1)
	c := tls.Server(passage.NewBulk(inner), s.tlsConfig())
	return c, c.HandshakeContext(ctx)
}

// ServeConn serves one connection until it ends, ctx ends, or Shutdown's grace is
// over, and closes it. The handshake may have been done or not; who is there is
// verified here in any case.
func (s *Server) ServeConn(ctx context.Context, conn *tls.Conn) {
	raw := conn.NetConn()
	defer raw.Close()
	if !s.begin() {
		s.count(refusedDraining, 1)
		return
	}
	defer s.running.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()

	src := sourceOf(raw.RemoteAddr())
	visitor, ev := s.door.enter(src, cancel, &s.limits)
	if ev != 0 {
		s.count(ev, 1)
	}
	if visitor == nil {
		return
	}
	defer s.door.leave(visitor)
	c, r, ev, err := s.welcome(ctx, conn)
	s.door.proved(visitor)
	if err != nil {
		s.count(ev, 1)
		s.log.Debug("relay: client refused", "from", raw.RemoteAddr(), "reason", ev, "err", err)
		return
	}
	c.stop = cancel
	now := time.Now()
	old, ok := s.roster.join(c, s.limits.Clients, now)
	if !ok {
		s.count(refusedFull, 1)
		return
	}
	if old != nil {
		old.cut(endReplaced, "replaced by a newer connection of this system")
	}
	s.log.Debug("relay: client connected", "system", c.id.String(), "from", raw.RemoteAddr())
	ev = c.run(ctx, r)
	s.roster.leave(c, time.Now())
	s.count(ev, 1)
	s.log.Debug("relay: client ended", "system", c.id.String(), "reason", ev)
}

var errUnverified = errors.New("relay: needs TLS 1.3, ALPN " + frame.ALPN + " and the certificate of a system")

// welcome takes a connection from its first byte to the client's Hello, within the
// time for a handshake.
func (s *Server) welcome(ctx context.Context, conn *tls.Conn) (*client, *frame.Reader, event, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.Handshake)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, nil, refusedHandshake, err
	}
	if s.cfg.Identity != nil && conn.ConnectionState().NegotiatedProtocol == passage.WebALPN {
		inner, err := s.unwrap(ctx, conn)
		if err != nil {
			return nil, nil, refusedHandshake, err
		}
		conn = inner
	}
	// The handshake may have been someone else's with other demands (control's own
	// listener also admits clients without a certificate), so nothing is presumed.
	cs := conn.ConnectionState()
	if cs.Version != tls.VersionTLS13 || cs.NegotiatedProtocol != frame.ALPN {
		return nil, nil, refusedIdentity, errUnverified
	}
	chain := make([][]byte, len(cs.PeerCertificates))
	for i, cert := range cs.PeerCertificates {
		chain[i] = cert.Raw
	}
	trust := s.trust()
	now := time.Now()
	if trust.Now != nil {
		now = trust.Now()
	}
	who, leaf, err := svid.Verify(chain, trust.Roots, trust.Org, now)
	if err != nil {
		return nil, nil, refusedIdentity, err
	}
	id, ok := frame.IDOf(who.SystemID())
	if !ok {
		return nil, nil, refusedIdentity, errUnverified
	}

	stop := context.AfterFunc(ctx, func() { conn.NetConn().Close() })
	r := frame.NewReader(conn)
	t, body, err := r.Next()
	if err == nil && t != frame.Hello {
		err = fmt.Errorf("relay: %v before hello", t)
	}
	if err == nil {
		_, err = frame.ParseHello(body) // version 1 is the lowest there is
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, nil, refusedHello, err
	}
	c := &client{
		srv:     s,
		id:      id,
		conn:    conn,
		bulk:    passage.BulkOf(conn),
		certEnd: leaf.NotAfter,
		queue:   newQueue(s.pool, &s.limits),
		slot:    uint8(rand.Uint32()),
		room:    make(chan struct{}, 1),
		sending: rate.NewLimiter(s.limits.Rate, max(s.limits.Burst, minBurst)),
		notices: rate.NewLimiter(s.limits.Notices, s.limits.NoticeBurst),
	}
	c.queue.control(frame.AppendHello(nil, frame.Version))
	return c, r, 0, nil
}

// Shutdown tells every client that the relay goes, gives them Limits.DrainGrace to
// connect elsewhere, and cuts the rest. Serve and ServeSTUN take nothing new from the
// start. It returns when all that ran has ended: nil, or ctx's error when that cut
// the grace short.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.drain()
	grace := s.limits.DrainGrace
	if d, ok := ctx.Deadline(); ok {
		grace = max(0, min(grace, time.Until(d)))
	}
	for _, c := range s.roster.close() {
		c.control(frame.AppendDrain(nil, grace))
	}
	gone := make(chan struct{})
	go func() { s.running.Wait(); close(gone) }()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	var err error
	select {
	case <-gone:
	case <-timer.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.stop()
	<-gone // every end is bounded: lingerFor for a client, the context for a handshake
	return err
}
