package link

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"enclave/wire"
	"enclave/wire/disco"
	"enclave/wire/frame"
)

// batch is how many packets the device hands over and takes at once: what one system
// call and one wake-up of each of WireGuard's goroutines pay for.
const batch = conn.IdealBatchSize

// inboxLen bounds the relayed messages that wait for the device: some 10 ms of a
// fast relay. Beyond it they are dropped, as a socket would.
const inboxLen = 512

// packet is a message on its way to or from a relay; from is nil on the way out.
type packet struct {
	b    []byte
	from *peer
}

// packets recycles them. A buffer that had to grow beyond what WireGuard sends is
// not worth keeping.
var packets = sync.Pool{New: func() any { return &packet{b: make([]byte, 0, packetCap)} }}

const packetCap = 2 << 10

func (p *packet) free() {
	if p.from = nil; cap(p.b) <= 2*packetCap {
		packets.Put(p)
	}
}

// Open attaches a device. The socket is the link's own and may be open already;
// port matters only when it is not.
func (l *Link) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	if port == 0 {
		port = l.cfg.Port
	}
	b := &binding{closed: make(chan struct{})}
	if !l.udp.bind.CompareAndSwap(nil, b) {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	if err := l.udp.open(l, port, false); err != nil {
		l.udp.bind.Store(nil)
		return nil, 0, err
	}
	l.udp.interrupt() // pump lets go
	return []conn.ReceiveFunc{
		func(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
			return l.receiveUDP(b, bufs, sizes, eps)
		},
		func(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
			return l.receiveRelayed(b, bufs, sizes, eps)
		},
	}, l.udp.port(), nil
}

// Close detaches the device. The link goes on until its Run ends.
func (l *Link) Close() error {
	b := l.udp.bind.Load()
	if b == nil || !l.udp.bind.CompareAndSwap(b, nil) {
		return nil
	}
	close(b.closed)
	l.udp.interrupt()
	select {
	case l.udp.changed <- struct{}{}:
	default:
	}
	return l.udp.release()
}

// SetMark has nothing to do: a user-space network has no routes to avoid.
func (l *Link) SetMark(uint32) error { return nil }

// BatchSize implements conn.Bind.
func (l *Link) BatchSize() int { return batch }

// ParseEndpoint returns the endpoint of the peer with the WireGuard public key s, in
// hexadecimal or base64. The peer must have been set.
func (l *Link) ParseEndpoint(s string) (conn.Endpoint, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		b, err = base64.StdEncoding.Strict().DecodeString(s)
	}
	if err != nil || len(b) != 32 {
		return nil, errors.New("parse endpoint: want a public key in hexadecimal or base64")
	}
	if p := l.table.byWireGuard(wire.WireGuardKey(b)); p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("parse endpoint: %w", ErrUnknownPeer)
}

// Send sends WireGuard messages by the peer's route of this moment.
func (l *Link) Send(bufs [][]byte, ep conn.Endpoint) error {
	p, ok := ep.(*peer)
	if !ok || p.link != l {
		return conn.ErrWrongEndpointType
	}
	if p.quiet.Load() {
		l.touch(p)
	}
	r := p.route.Load()
	if len(bufs) == 1 && len(bufs[0]) <= initiationLen {
		l.keepHandshake(p, bufs[0], r != nil)
	}
	if r == nil {
		l.drops.noRoute.Add(uint64(len(bufs)))
		p.tx.last.Store(int64(time.Since(l.base))) // there is a wish to send
		return nil
	}
	for len(bufs) > 0 {
		if some := r.fits(bufs); some > 0 {
			n, err := l.write(bufs[:some], r.direct)
			p.tx.countAll(l, bufs[:n])
			if bufs = bufs[n:]; err == nil || len(bufs) == 0 {
				continue
			}
			switch {
			case errors.Is(err, syscall.EMSGSIZE): // the kernel has heard of a narrower link
				l.tooBig(p, r.direct)
			case tooMuch(err):
				bufs = bufs[1:]
				continue
			default:
				if r = l.failed(p, r.direct); r == nil {
					return nil
				}
			}
		}
		if r.relay != nil && r.relay.sendData(p, bufs[0]) {
			p.tx.count(l, len(bufs[0]))
		}
		bufs = bufs[1:]
	}
	return nil
}

// fits is how many of bufs, from the first, go straight to the peer. What is too large for
// the path goes by the relay, whose TCP fits anything; without one it is tried.
func (r *route) fits(bufs [][]byte) int {
	if !r.direct.IsValid() {
		return 0
	}
	if r.size == 0 || r.relay == nil {
		return len(bufs)
	}
	for i, b := range bufs {
		if len(b) > r.size {
			return i
		}
	}
	return len(bufs)
}

// tooBig tells path that a datagram did not fit.
func (l *Link) tooBig(p *peer, addr netip.AddrPort) {
	now := time.Now()
	l.mu.Lock()
	p.path.TooBig(now, addr)
	l.stepLocked(p, now)
	todo := l.takeLocked()
	l.mu.Unlock()
	l.do(todo)
}

// tooMuch reports whether err is about one packet and not about the path.
func tooMuch(err error) bool {
	return errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.EAGAIN)
}

// touch tells path that a quiet peer has data. It happens once per quiet spell, on
// the data path, so that even the first packet finds its relay open.
func (l *Link) touch(p *peer) {
	l.mu.Lock()
	l.touchLocked(p, time.Now())
	todo := l.takeLocked()
	l.mu.Unlock()
	l.do(todo)
}

// failed gives up a route that the system refuses to send by, and returns the next.
func (l *Link) failed(p *peer, addr netip.AddrPort) *route {
	now := time.Now()
	l.mu.Lock()
	p.path.Failed(now, addr)
	l.stepLocked(p, now)
	todo := l.takeLocked()
	l.mu.Unlock()
	l.do(todo)
	r := p.route.Load()
	if r == nil || r.direct == addr {
		return nil
	}
	return r
}

func (l *Link) receiveUDP(b *binding, bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	for {
		select {
		case l.udp.read <- struct{}{}: // nearly always, and much cheaper than the next
		default:
			select {
			case <-b.closed:
				return 0, net.ErrClosed
			case l.udp.read <- struct{}{}:
			}
		}
		if b.isClosed() { // both were ready
			<-l.udp.read
			return 0, net.ErrClosed
		}
		n, err := l.readUDP(bufs, sizes, eps)
		<-l.udp.read
		switch {
		case n > 0:
			return n, nil
		case errors.Is(err, net.ErrClosed):
			return 0, net.ErrClosed
		case err != nil:
			l.mend(b.closed, err)
		}
	}
}

func (b *binding) isClosed() bool {
	select {
	case <-b.closed:
		return true
	default:
		return false
	}
}

func (l *Link) receiveRelayed(b *binding, bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	var first *packet
	select {
	case <-b.closed:
		return 0, net.ErrClosed
	case first = <-l.inbox:
	}
	l.patient.taken()
	n := 0
	for pkt := first; ; {
		if !pkt.from.isGone() && len(pkt.b) <= len(bufs[n]) {
			sizes[n], eps[n] = copy(bufs[n], pkt.b), pkt.from
			n++
		}
		pkt.free()
		if n == len(bufs) {
			return n, nil
		}
		select {
		case pkt = <-l.inbox:
		default:
			return n, nil
		}
	}
}

// isGone asks the table, since gone itself belongs to Link.mu.
func (p *peer) isGone() bool { return p.link.table.byID(p.fid) != p }

// sort handles a datagram, or returns the peer when it is a WireGuard message.
func (l *Link) sort(b []byte, from netip.AddrPort) *peer {
	switch {
	case isWireGuard(b):
		p := l.table.byAddr(from)
		if p == nil {
			l.drops.unknownSource.Add(1)
			l.shield.stray()
			return nil
		}
		if l.glare(p, b) {
			return nil
		}
		l.received(p, len(b))
		return p
	case disco.LooksLike(b):
		l.hearDisco(b, nil, from, nil)
	case isSTUN(b):
		l.hearSTUN(b, from)
	default:
		l.drops.noise.Add(1)
		l.shield.stray()
	}
	return nil
}

func (l *Link) received(p *peer, sizes ...int) {
	p.rx.count(l, sizes...)
	if p.quiet.Load() {
		l.touch(p)
	}
}

// isWireGuard reports whether b has the shape of a message: type 1 to 4, three zero
// bytes, and the 32 bytes of the shortest.
func isWireGuard(b []byte) bool {
	return len(b) >= 32 && b[0] >= 1 && b[0] <= 4 && b[1]|b[2]|b[3] == 0
}

// hearRelayed takes the payload of a Recv frame. It belongs to the reader of rc.
func (l *Link) hearRelayed(rc *relayConn, from frame.ID, b []byte) {
	p := l.table.byID(from)
	if p == nil {
		l.drops.unknownSender.Add(1)
		return
	}
	if p.absent.Load() {
		rc.hearPresence(from, true)
	}
	switch {
	case isWireGuard(b):
		bind := l.udp.bind.Load()
		if bind == nil || l.glare(p, b) {
			return
		}
		pkt := packets.Get().(*packet)
		pkt.b, pkt.from = append(pkt.b[:0], b...), p
		if trySend(l.inbox, pkt) || l.patient.send(l.inbox, pkt, bind.closed) {
			l.received(p, len(b))
			return
		}
		l.drops.queueFull.Add(1)
		pkt.free()
	case disco.LooksLike(b):
		l.hearDisco(b, p, netip.AddrPort{}, rc)
	default:
		l.drops.noise.Add(1)
	}
}
