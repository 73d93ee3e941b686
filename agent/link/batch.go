package link

import (
	"net/netip"

	"golang.zx2c4.com/wireguard/conn"
)

// readBatch fills bufs with WireGuard messages, waiting only for the first of them. A
// message of the kernel that does not fit any more is kept for the next call.
func (l *Link) readBatch(b *batcher, bufs [][]byte, sizes []int, eps []conn.Endpoint) (n int, err error) {
	h := &l.udp.held
	if h.of != b { // the socket was replaced
		*h = held{of: b}
	}
	for {
		for len(h.data) > 0 && n < len(bufs) {
			n += l.sortRun(h, bufs[n:], sizes[n:], eps[n:])
		}
		if n == len(bufs) || n > 0 && !b.ready() {
			return n, nil
		}
		if h.data, h.size, h.from, err = b.receive(); err != nil {
			return n, err
		}
		if len(h.data) == 0 && n == 0 {
			return 0, nil // an empty datagram: let whoever wants the token have it
		}
	}
}

// held is a message of the kernel: datagrams of one size from one address, of which the
// last may be shorter. It belongs to who has the token.
type held struct {
	of   *batcher
	data []byte
	size int
	from netip.AddrPort
}

// sortRun takes datagrams from h for as long as they are WireGuard messages and there is
// room, or one that is something else. It asks who sent them once for all.
func (l *Link) sortRun(h *held, bufs [][]byte, sizes []int, eps []conn.Endpoint) (n int) {
	first := h.data[:min(h.size, len(h.data))]
	if !isWireGuard(first) {
		h.data = h.data[len(first):]
		l.sort(first, h.from)
		return 0
	}
	p := l.table.byAddr(h.from)
	for ; n < len(bufs) && len(h.data) > 0; n++ {
		b := h.data[:min(h.size, len(h.data))]
		if !isWireGuard(b) {
			break
		}
		h.data = h.data[len(b):]
		if p == nil {
			l.drops.unknownSource.Add(1)
			l.shield.stray()
			n--
			continue
		}
		if !l.plausible(p, b) {
			l.drops.noSession.Add(1)
			l.shield.stray()
			n--
			continue
		}
		if l.glare(p, b) {
			n--
			continue
		}
		sizes[n], eps[n] = copy(bufs[n], b), p
	}
	if n > 0 {
		l.received(p, sizes[:n]...)
	}
	return n
}
