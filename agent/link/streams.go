package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"enclave/passage"
	"enclave/wire"
	"enclave/wire/disco"
	"enclave/wire/stream"
	"enclave/wire/svid"
)

// Streams is what a link needs for TCP connections straight to peers (decision 0169). The
// zero value makes none.
type Streams struct {
	// Listen is the address at which peers may come, like ":443"; empty takes nobody.
	Listen string
	// Server is the TLS side of that: it shows the SVID and verifies the caller's.
	Server func() *tls.Config
	// Client is the TLS side for calling a peer; nil calls nobody.
	Client func(wire.SystemID) *tls.Config
}

// StreamListener is a Network that takes TCP connections; Streams.Listen needs one.
type StreamListener interface {
	ListenTCP(addr string) (net.Listener, error)
}

const (
	streamIn    = 5 * time.Second         // TCP, TLS and the pong together
	streamTries = 6                       // addresses of one peer that are called at once
	streamCalls = 32                      // calls to all peers at once
	streamTurn  = 1500 * time.Millisecond // of it for one of several calls to be let in
	standingFor = 3 * time.Second         // a stream that was heard within it is no corpse
	tcpNamed    = 4                       // addresses of ours that are named
)

var (
	errStranger = errors.New("whoever is there is not the peer")
	errNotLetIn = errors.New("the peer does not let this system in")
)

// callLocked looks for p at addrs by TCP, unless that is under way.
func (l *Link) callLocked(p *peer, addrs []netip.AddrPort) {
	if l.cfg.Streams.Client == nil || l.ctx == nil || p.calling || len(addrs) == 0 {
		return
	}
	p.calling = true
	ctx := l.ctx
	l.group.Go(func() {
		l.call(ctx, p, addrs)
		l.mu.Lock()
		p.calling = false
		l.mu.Unlock()
	})
}

// call calls all of addrs together. The first that lets us in becomes the stream. The peer
// lets in every call, and a later one takes the place of the one before; so those that have
// reached it ask one after the other, or both sides would keep what the other has left.
func (l *Link) call(ctx context.Context, p *peer, addrs []netip.AddrPort) {
	ctx, cancel := context.WithTimeout(ctx, streamIn)
	defer cancel()
	var calls sync.WaitGroup
	var once sync.Once
	turn := make(chan struct{}, 1) // whose it is sends into it
	for _, a := range addrs[:min(len(addrs), streamTries)] {
		if !disco.Sendable(a) || a.Addr().IsLoopback() && !l.cfg.LoopbackCandidates {
			continue
		}
		calls.Go(func() {
			select {
			case l.calls <- struct{}{}:
				defer func() { <-l.calls }()
			case <-ctx.Done():
				return
			}
			s, r, err := l.callAt(ctx, p, a, turn)
			if err != nil {
				l.log.Debug("no stream to the peer", "peer", p.id, "addr", a, "err", err)
				return
			}
			won := false
			once.Do(func() { won = l.adopt(s, r) })
			if cancel(); !won {
				s.c.NetConn().Close()
			}
		})
	}
	calls.Wait()
}

// callAt connects, knocks, proves who is who, and waits for its turn and to be let in.
func (l *Link) callAt(ctx context.Context, p *peer, to netip.AddrPort, turn chan struct{}) (*streamConn, *stream.Reader, error) {
	base := l.cfg.Streams.Client(p.id)
	if base == nil {
		return nil, nil, errors.New("no TLS configuration for the peer")
	}
	raw, err := l.cfg.Network.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, nil, err
	}
	end := context.AfterFunc(ctx, func() { raw.Close() })
	s, r, err := l.greetPeer(ctx, raw, base, p, to, turn)
	if !end() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		raw.Close()
		return nil, nil, err
	}
	return s, r, nil
}

// greetPeer returns nil and the turn when it fails.
func (l *Link) greetPeer(ctx context.Context, raw net.Conn, base *tls.Config, p *peer, to netip.AddrPort, turn chan struct{}) (s *streamConn, r *stream.Reader, err error) {
	var late *time.Timer // ends the turn; nil: it was not ours
	defer func() {
		if late == nil {
			return
		}
		if !late.Stop() && err == nil {
			err = errNotLetIn
		}
		if err != nil {
			<-turn
		}
	}()
	tx := disco.NewTxID()
	cfg := base.Clone()
	cfg.MinVersion = tls.VersionTLS13
	cfg.NextProtos = stream.Protocols(p.pair().Seal(nil, disco.Ping{Tx: tx, WireGuard: l.cfg.WireGuard}))
	cfg.DynamicRecordSizingDisabled = true // many packets a record from the start
	cfg.ServerName = ""
	verify := cfg.VerifyConnection
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if verify == nil || cs.NegotiatedProtocol != stream.ALPN {
			return errStranger
		}
		if err := verify(cs); err != nil {
			return err
		}
		if err := p.proves(&cs, time.Now()); err != nil {
			return err
		}
		select { // with what we say after this the peer lets us in
		case turn <- struct{}{}:
			late = time.AfterFunc(streamTurn, func() { raw.Close() })
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c := tls.Client(passage.NewBulk(raw), cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, nil, err
	}
	begun := time.Now()
	r = stream.NewReader(c)
	b, err := r.Next()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errNotLetIn, err)
	}
	if m, err := p.pair().Open(b); err != nil {
		return nil, nil, errStranger
	} else if pong, ok := m.(disco.Pong); !ok || pong.Tx != tx {
		return nil, nil, errStranger
	}
	s = newStreamConn(p, c, to, true)
	s.rtt.Store(max(int64(time.Since(begun)), 1)) // from our last flight to its answer
	return s, r, nil
}

// proves reports whether the other end of a verified connection is p: its name, and the
// identity with which p was introduced.
func (p *peer) proves(cs *tls.ConnectionState, now time.Time) error {
	id, key, err := svid.Peer(cs, now)
	if err != nil {
		return err
	}
	p.link.mu.Lock()
	known := p.leaf
	p.link.mu.Unlock()
	if id.SystemID() != p.id || known == nil {
		return errStranger
	}
	leaf, err := x509.ParseCertificate(known)
	if err != nil {
		return err
	}
	if want, err := svid.IdentityKey(leaf); err != nil || want != key {
		return errStranger
	}
	return nil
}

// adopt makes s the stream of its peer. When both sides have called, both keep the one that
// the lower ID made, if it lives.
func (l *Link) adopt(s *streamConn, r *stream.Reader) bool {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	p := s.p
	if l.ctx == nil || p.gone {
		return false
	}
	lower := l.cfg.Self < p.id
	if old := p.stream; old != nil {
		heard := time.Duration(l.sinceBase() - old.heard.Load())
		if old.ours == lower && s.ours != lower && heard < standingFor {
			return false
		}
		close(old.retired)
	}
	ctx, stop := context.WithCancel(l.ctx)
	s.stop = stop
	p.stream = s
	p.path.SetStream(now, s.far)
	l.group.Go(func() {
		defer stop()
		s.run(ctx, r)
	})
	l.dueLocked(p, now)
	l.log.Debug("stream to the peer", "peer", p.id, "addr", s.far, "called", s.ours)
	return true
}

// ended takes the end of a stream.
func (l *Link) ended(s *streamConn, err error) {
	now := time.Now()
	l.log.Debug("stream to the peer ended", "peer", s.p.id, "addr", s.far, "err", err)
	l.mu.Lock()
	if s.p.stream == s {
		s.p.stream = nil
		s.p.path.SetStream(now, netip.AddrPort{})
		l.stepLocked(s.p, now)
	}
	todo := l.takeLocked()
	l.mu.Unlock()
	l.do(todo)
}

// hearStream takes a datagram. It belongs to the reader of s.
func (l *Link) hearStream(s *streamConn, in *incoming, b []byte) {
	switch {
	case s.p.isGone():
		l.drops.unknownSender.Add(1)
	case isWireGuard(b):
		l.deliver(in, s.p, b)
	case disco.LooksLike(b):
		l.hearDisco(b, s.p, route{stream: s})
	default:
		l.drops.noise.Add(1)
	}
}

// checkStreamsLocked has every stream prove that it lives: the network has changed.
func (l *Link) checkStreamsLocked() {
	for _, p := range l.peers {
		if p.stream != nil {
			select {
			case p.stream.check <- struct{}{}:
			default:
			}
		}
	}
}

// streamsLocked names where peers may call us.
func (l *Link) streamsLocked() (out []netip.AddrPort) {
	if l.listener == nil {
		return nil
	}
	t, ok := l.listener.Addr().(*net.TCPAddr)
	if !ok {
		return nil
	}
	bound, _ := netip.AddrFromSlice(t.IP) // none is all
	all := !bound.IsValid() || bound.IsUnspecified()
	add := func(a netip.Addr) {
		n := netip.AddrPortFrom(a.Unmap().WithZone(""), uint16(t.Port))
		if len(out) < tcpNamed && (!a.IsLoopback() || l.cfg.LoopbackCandidates) && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	if !all {
		add(bound)
	}
	// A port that the router was told to hand on is reached at its address, most often
	// under its own number.
	for _, a := range l.stun.observed[:min(len(l.stun.observed), 2)] {
		add(a.Addr())
	}
	if all {
		for _, a := range l.local {
			add(a)
		}
		if l.cfg.LoopbackCandidates {
			add(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
		}
	}
	return out
}
