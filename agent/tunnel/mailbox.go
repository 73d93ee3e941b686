package tunnel

import (
	"encoding/binary"
	"net/netip"
)

const (
	// mailHead is what stands before a payload in a mailbox: its size, the sender's port
	// and the sender's address as 16 bytes.
	mailHead = 2 + 2 + 16
	// mailKept is the size up to which an empty mailbox keeps its memory.
	mailKept = 64 << 10
)

// mailbox is the datagrams that a socket has got and nobody has read yet, oldest first:
// one piece of memory that grows as a burst needs it, so that a datagram costs no
// allocation and a small one no more than its bytes.
type mailbox struct {
	limit int // bytes that may be unread, with mailHead for each datagram
	buf   []byte
	r, w  int // what is unread lies between
}

// push keeps a copy of a datagram; false when the box is full and it is lost.
func (m *mailbox) push(from netip.AddrPort, payload []byte) bool {
	need, live := mailHead+len(payload), m.w-m.r
	if live+need > m.limit {
		return false
	}
	if m.w+need > len(m.buf) {
		// Moving what is unread to the front must make room for as much again, or a
		// nearly full box would be moved for every datagram.
		to := m.buf
		if size := max(len(m.buf), 4<<10); 2*(live+need) > len(m.buf) {
			for size < 2*(live+need) {
				size *= 2
			}
			to = make([]byte, size)
		}
		m.r, m.w, m.buf = 0, copy(to, m.buf[m.r:m.w]), to
	}
	b := m.buf[m.w : m.w+need]
	binary.NativeEndian.PutUint16(b, uint16(len(payload)))
	binary.NativeEndian.PutUint16(b[2:], from.Port())
	addr := from.Addr().As16()
	copy(b[4:], addr[:])
	copy(b[mailHead:], payload)
	m.w += need
	return true
}

// pop moves the oldest datagram to b, as much of it as there is room for.
func (m *mailbox) pop(b []byte) (n int, from netip.AddrPort, ok bool) {
	if m.r == m.w {
		return 0, from, false
	}
	head := m.buf[m.r:]
	size := int(binary.NativeEndian.Uint16(head))
	from = netip.AddrPortFrom(netip.AddrFrom16([16]byte(head[4:mailHead])).Unmap(), binary.NativeEndian.Uint16(head[2:]))
	n = copy(b, head[mailHead:mailHead+size])
	if m.r += mailHead + size; m.r == m.w {
		if m.r, m.w = 0, 0; len(m.buf) > mailKept {
			m.buf = nil
		}
	}
	return n, from, true
}
