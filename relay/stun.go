package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"tailscale.com/net/stun"
)

// PacketConn is what ServeSTUN needs of a UDP socket; *net.UDPConn is one.
type PacketConn interface {
	ReadFromUDPAddrPort(b []byte) (n int, from netip.AddrPort, err error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	Close() error
}

const (
	// maxSTUNRequest is far above an agent's 40 bytes. What is longer is read into a
	// buffer one byte larger and dropped: no length in it is ever believed.
	maxSTUNRequest = 548 // what every IPv4 host can take (RFC 8489, section 6.1)

	// maxSTUNAnswer is a header and one XOR-MAPPED-ADDRESS of IPv6.
	maxSTUNAnswer = 20 + 4 + 20
)

// ServeSTUN answers binding requests on pc until ctx ends or Shutdown is called,
// which is no error. It closes pc. Serve several sockets, two addresses and two ports
// where there are, so that agents can tell what their NAT does; they share the limits.
func (s *Server) ServeSTUN(ctx context.Context, pc PacketConn) error {
	defer pc.Close()
	if !s.begin() {
		return nil
	}
	defer s.running.Done()
	defer context.AfterFunc(ctx, func() { pc.Close() })()
	defer context.AfterFunc(s.draining, func() { pc.Close() })()

	in, out := make([]byte, maxSTUNRequest+1), make([]byte, 0, maxSTUNAnswer)
	pace := pace{most: max(1, int(float64(s.limits.STUNReads)*paceEvery.Seconds()))}
	for wait := time.Duration(0); ; {
		n, from, err := pc.ReadFromUDPAddrPort(in)
		if err == nil {
			wait = 0
			now := time.Now()
			ans, ev := s.answer(out, in[:n], from, now)
			if ev == stunAnswered {
				if _, err := pc.WriteToUDPAddrPort(ans, from); err != nil {
					ev = stunWrite
				}
			}
			s.count(ev, 1)
			if rest := pace.read(now); rest > 0 {
				s.count(stunPaced, 1)
				s.rest(ctx, rest)
			}
			continue
		}
		if ctx.Err() != nil || s.draining.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("relay: stun: %w", err)
		}
		// Some systems report another host's ICMP error here; it is nobody's end.
		wait = min(max(2*wait, time.Millisecond), time.Second)
		s.rest(ctx, wait)
	}
}

// rest waits, or for the end of serving.
func (s *Server) rest(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	case <-s.draining.Done():
	}
}

// paceEvery is the window in which reads are counted: short beside a round trip that
// agents would choose a relay by.
const paceEvery = 10 * time.Millisecond

// pace bounds how many datagrams are looked at. A flood then overflows the socket's queue
// in the kernel, where a datagram costs next to nothing, and takes no processor from what
// the relay is there for.
type pace struct {
	most  int // a window
	n     int
	since time.Time
}

// read counts one and returns how long to leave the others in the queue; mostly 0.
func (p *pace) read(now time.Time) time.Duration {
	if d := now.Sub(p.since); d >= paceEvery || d < 0 {
		p.since, p.n = now, 0
	}
	if p.n++; p.n < p.most {
		return 0
	}
	p.n = 0
	return p.since.Add(paceEvery).Sub(now)
}

// answer appends to out what is due to one datagram, or says why nothing is. It
// allocates nothing.
//
// stun.ParseBindingRequest accepts what its own Request writes and little else: class
// request, method binding, the magic cookie, SOFTWARE "tailnode" and a right
// FINGERPRINT at the end. It leaves out the header's length, which is checked here.
func (s *Server) answer(out, in []byte, from netip.AddrPort, now time.Time) ([]byte, event) {
	if len(in) > maxSTUNRequest {
		return nil, stunSize
	}
	if !stun.Is(in) || int(binary.BigEndian.Uint16(in[2:])) != len(in)-20 {
		return nil, stunNotSTUN
	}
	tx, err := stun.ParseBindingRequest(in)
	switch {
	case errors.Is(err, stun.ErrNotBindingRequest):
		return nil, stunNotRequest
	case err != nil:
		return nil, stunForeign
	}
	from = netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
	out = appendBinding(out, tx, from)
	if 2*len(out) > 3*len(in) {
		return nil, stunRatio
	}
	if !s.stun.allow(from.Addr(), now) {
		return nil, stunRate
	}
	return out, stunAnswered
}

// appendBinding appends a binding success response (RFC 8489, sections 5 and 14.2):
// the bytes that stun.Response makes, into a buffer that is there already.
func appendBinding(b []byte, tx stun.TxID, to netip.AddrPort) []byte {
	const cookie, cookieHigh = 0x2112a442, 0x2112
	ip16 := to.Addr().As16()
	ip, family := ip16[:], byte(2)
	if to.Addr().Is4() {
		ip, family = ip16[12:], 1
	}
	b = binary.BigEndian.AppendUint16(b, 0x0101)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(ip)))
	b = binary.BigEndian.AppendUint32(b, cookie)
	b = append(b, tx[:]...)
	b = binary.BigEndian.AppendUint16(b, 0x0020) // XOR-MAPPED-ADDRESS
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(ip)))
	b = append(b, 0, family)
	b = binary.BigEndian.AppendUint16(b, to.Port()^cookieHigh)
	b = binary.BigEndian.AppendUint32(b, binary.BigEndian.Uint32(ip)^cookie)
	for i, c := range ip[4:] {
		b = append(b, c^tx[i])
	}
	return b
}
