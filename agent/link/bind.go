package link

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
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

// Room is how many bytes of what has come the kernel keeps until it is read, those included
// that it needs for itself; 0: not known. What is more is lost.
func (l *Link) Room() int {
	if s := l.udp.sock.Load(); s != nil && s.batch != nil {
		return s.batch.room
	}
	return 0
}

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
			n, err := l.write(bufs[:some], r)
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
		if r.stream == nil && r.relay == nil {
			bufs = bufs[1:]
			continue
		}
		some, n := r.relayed(bufs), 0
		if r.stream != nil {
			n = r.stream.sendData(bufs[:some])
		} else {
			n = r.relay.sendData(p, bufs[:some])
		}
		p.tx.countAll(l, bufs[:n])
		bufs = bufs[some:]
	}
	return nil
}

// relayed is how many of bufs, from the first, go by the stream or the relay: all, or those
// that are too large for the direct path.
func (r *route) relayed(bufs [][]byte) int {
	if !r.direct.IsValid() {
		return len(bufs)
	}
	n := 1
	for n < len(bufs) && len(bufs[n]) > r.size {
		n++
	}
	return n
}

// fits is how many of bufs, from the first, go straight to the peer. What is too large for
// the path goes by the stream or the relay, whose TCP fits anything; without either it is
// tried.
func (r *route) fits(bufs [][]byte) int {
	if !r.direct.IsValid() {
		return 0
	}
	if r.size == 0 || r.relay == nil && r.stream == nil {
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
	u := &l.unread
	for {
		if b.isClosed() {
			return 0, net.ErrClosed
		}
		if n := u.read(bufs, sizes, eps); n > 0 {
			return n, nil
		}
		if u.pile = l.inbox.take(); u.pile != nil {
			continue
		}
		select {
		case <-b.closed:
			return 0, net.ErrClosed
		case <-l.inbox.ready:
		}
	}
}

// unread is what the device took from the inbox and had no room for yet. It belongs to
// the device's receive function.
type unread struct {
	*pile
	packets, bytes int // of it that were read
}

// read copies packets into bufs until those are full or none is left. What a peer sent who
// is gone is left out.
func (u *unread) read(bufs [][]byte, sizes []int, eps []conn.Endpoint) (n int) {
	if u.pile == nil {
		return 0
	}
	var p *peer // of the packet before
	for ; u.packets < len(u.from) && n < len(bufs); u.packets++ {
		o := u.from[u.packets]
		b := u.b[u.bytes : u.bytes+o.size]
		u.bytes += o.size
		if o.p != p && o.p.isGone() || o.size > len(bufs[n]) {
			continue
		}
		p = o.p
		sizes[n], eps[n] = copy(bufs[n], b), o.p
		n++
	}
	if u.packets == len(u.from) {
		u.free()
		*u = unread{}
	}
	return n
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
		if !l.plausible(p, b) {
			l.drops.noSession.Add(1)
			l.shield.stray()
			return nil
		}
		if l.glare(p, b) {
			return nil
		}
		l.received(p, len(b))
		return p
	case disco.LooksLike(b):
		l.hearDisco(b, nil, route{direct: from})
	case isSTUN(b):
		l.hearSTUN(b, from)
	default:
		l.drops.noise.Add(1)
		l.shield.stray()
	}
	return nil
}

// received counts what came from a peer, and wakes path when the peer was quiet.
func (l *Link) received(p *peer, sizes ...int) {
	n := 0
	for _, size := range sizes {
		n += size
	}
	l.receivedSome(p, len(sizes), n)
}

func (l *Link) receivedSome(p *peer, packets, bytes int) {
	p.rx.add(l, packets, bytes)
	if p.quiet.Load() {
		l.touch(p)
	}
}

// isWireGuard reports whether b has the shape of a message: type 1 to 4, three zero
// bytes, and the 32 bytes of the shortest.
func isWireGuard(b []byte) bool {
	return len(b) >= 32 && b[0] >= 1 && b[0] <= 4 && b[1]|b[2]|b[3] == 0
}

// hearRelayed takes the payload of a Recv frame. It belongs to the reader of rc, as in does.
func (l *Link) hearRelayed(rc *relayConn, in *incoming, from frame.ID, b []byte) {
	p := in.p
	if p == nil || p.fid != from { // asked once for a run; the device asks again
		if p = l.table.byID(from); p == nil {
			l.drops.unknownSender.Add(1)
			return
		}
	}
	if p.absent.Load() {
		rc.hearPresence(from, true)
	}
	switch {
	case isWireGuard(b):
		l.deliver(in, p, b)
	case disco.LooksLike(b):
		l.hearDisco(b, p, route{relay: rc})
	default:
		l.drops.noise.Add(1)
	}
}

// deliver hands a message that came by TCP to the device. It belongs to the reader whose in
// it is, who settles it.
func (l *Link) deliver(in *incoming, p *peer, b []byte) {
	if !l.plausible(p, b) {
		l.drops.noSession.Add(1)
		return
	}
	bind := l.udp.bind.Load()
	if bind == nil || l.glare(p, b) {
		return
	}
	if !l.inbox.add(p, b, bind.closed) {
		l.drops.queueFull.Add(1)
		return
	}
	if in.p != p {
		if in.count > 0 {
			l.receivedSome(in.p, in.count, in.size)
		}
		in.p, in.count, in.size = p, 0, 0
	}
	in.count++
	in.size += len(b)
}
