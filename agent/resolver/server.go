package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"enclave/wire/names"
)

// Config is what a server needs.
type Config struct {
	View   func() *names.View         // what names stand for now
	Dialer Dialer                     // to resolvers behind gateways
	Local  func(from netip.Addr) bool // whether a sender is of this system; others get nothing
	Logger *slog.Logger               // nil discards

	// Unknown is told each name that was asked for and that no zone of ours has; may be nil.
	Unknown func(name string)
}

// Server answers questions on sockets that it is given.
type Server struct {
	cfg      Config
	forwards chan struct{} // one for each question that waits for a resolver
	conns    chan struct{} // one for each TCP connection
}

const (
	// maxForwards is how many questions may wait for resolvers at once; one more is
	// answered with SERVFAIL at once.
	maxForwards = 256
	// maxConns is how many TCP connections may be open.
	maxConns = 64
	// tcpIdle is how long a TCP connection may be silent (RFC 7766, 6.2.3, says seconds).
	tcpIdle = 10 * time.Second
	// pauseAfter keeps a socket that is broken for good from spinning.
	pauseAfter = 50 * time.Millisecond
)

// New makes a server.
func New(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, forwards: make(chan struct{}, maxForwards), conns: make(chan struct{}, maxConns)}
}

// ServeUDP answers datagrams until ctx ends, and closes pc.
func (s *Server) ServeUDP(ctx context.Context, pc net.PacketConn) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { pc.Close() })
	defer stop()
	defer pc.Close()
	in, out := make([]byte, MaxQuery+1), make([]byte, 0, udpSize)
	q := new(Query)
	for {
		n, from, err := pc.ReadFrom(in)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			select { // an ICMP error about an answer of ours shows up here on some systems
			case <-time.After(pauseAfter):
				continue
			case <-ctx.Done():
				return nil
			}
		}
		if !s.local(from) {
			continue
		}
		answer, ways := s.answer(q, in[:n], out)
		if len(ways) == 0 {
			if answer != nil {
				pc.WriteTo(answer, from) // a client that is gone asks nothing more
			}
			continue
		}
		waits := *q
		if !s.later(&wg, func() { pc.WriteTo(s.forward(ctx, &waits, ways, waits.size), from) }) {
			pc.WriteTo(q.Fail(dnsmessage.RCodeServerFailure, out), from)
		}
	}
}

// later runs work beside, if there is room.
func (s *Server) later(wg *sync.WaitGroup, work func()) bool {
	select {
	case s.forwards <- struct{}{}:
	default:
		return false
	}
	wg.Go(func() {
		defer func() { <-s.forwards }()
		work()
	})
	return true
}

func (s *Server) local(from net.Addr) bool {
	if s.cfg.Local == nil {
		return true
	}
	a, err := netip.ParseAddrPort(from.String())
	if u, ok := from.(*net.UDPAddr); ok {
		a, err = u.AddrPort(), nil
	}
	return err == nil && s.cfg.Local(a.Addr().Unmap())
}

// answer answers one message into out; with ways, they are to be asked first.
func (s *Server) answer(q *Query, msg, out []byte) ([]byte, []names.Way) {
	switch err := q.Parse(msg); {
	case errors.Is(err, ErrDrop):
		return nil, nil
	case err != nil:
		return q.Refuse(err, out), nil
	}
	answer, r := q.Answer(s.cfg.View(), time.Now(), rand.IntN, out)
	if r.Kind == names.Missing && s.cfg.Unknown != nil {
		s.cfg.Unknown(string(q.Name()))
	}
	return answer, r.Ways
}

// forward asks resolvers; that none answers is SERVFAIL.
func (s *Server) forward(ctx context.Context, q *Query, ways []names.Way, limit int) []byte {
	answer, err := q.Forward(ctx, s.cfg.Dialer, ways, limit)
	if err != nil {
		s.cfg.Logger.Debug("no resolver answers", "name", string(q.Name()), "error", err)
		return q.Fail(dnsmessage.RCodeServerFailure, nil)
	}
	return answer
}

// ServeTCP answers connections until ctx ends, and closes l. One connection may ask
// many questions; they are answered one after the other.
func (s *Server) ServeTCP(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			select {
			case <-time.After(pauseAfter):
				continue
			case <-ctx.Done():
				return nil
			}
		}
		if !s.local(c.RemoteAddr()) {
			c.Close()
			continue
		}
		select {
		case s.conns <- struct{}{}:
		default: // whoever is served already goes first
			c.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-s.conns }()
			s.serveConn(ctx, c)
		})
	}
}

func (s *Server) serveConn(ctx context.Context, c net.Conn) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	q := new(Query)
	out := make([]byte, 2, 2+udpSize)
	for {
		if c.SetDeadline(time.Now().Add(tcpIdle)) != nil {
			return
		}
		msg, err := readTCP(c, MaxQuery)
		if err != nil {
			return
		}
		answer, ways := s.answer(q, msg, out[2:2])
		if len(ways) > 0 {
			answer = s.forward(ctx, q, ways, MaxAnswer)
		}
		if answer == nil {
			return
		}
		framed := binary.BigEndian.AppendUint16(out[:0], uint16(len(answer)))
		if len(answer) > udpSize {
			framed = append(framed, answer...)
		} else {
			copy(out[2:cap(out)], answer)
			framed = out[:2+len(answer)]
		}
		if _, err := c.Write(framed); err != nil {
			return
		}
	}
}

// Lookup resolves a name as a client of the server would: the addresses of its answer,
// and its response code. It is what the proxies ask for names that are not ours.
func Lookup(ctx context.Context, d Dialer, name string, t dnsmessage.Type, ways []names.Way) ([]netip.Addr, dnsmessage.RCode, error) {
	n, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil, 0, err
	}
	q := &Query{question: dnsmessage.Question{Name: n, Type: t, Class: dnsmessage.ClassINET}, asked: true}
	q.plain()
	raw, err := q.Forward(ctx, d, ways, MaxAnswer)
	if err != nil {
		return nil, dnsmessage.RCodeServerFailure, err
	}
	var m dnsmessage.Message
	if err := m.Unpack(raw); err != nil {
		return nil, dnsmessage.RCodeServerFailure, err
	}
	var addrs []netip.Addr
	for _, r := range m.Answers {
		switch b := r.Body.(type) {
		case *dnsmessage.AResource:
			addrs = append(addrs, netip.AddrFrom4(b.A))
		case *dnsmessage.AAAAResource:
			addrs = append(addrs, netip.AddrFrom16(b.AAAA))
		}
	}
	return addrs, m.RCode, nil
}
