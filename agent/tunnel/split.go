package tunnel

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// maxHeaders is the room for the headers of a segment that is split: IPv6 or IPv4, and
// TCP with as many options as there can be.
const maxHeaders = header.IPv6MinimumSize + header.TCPHeaderMaximumSize

// splitter turns one packet of the stack into the packets that fit the tunnel, and
// writes each straight to where WireGuard wants it. TCP hands over up to 64 KiB with one
// header (GSO), which costs the stack as much as a single small packet; headers and
// checksums are completed here, while the bytes are in the cache anyway.
type splitter struct {
	pkt  *stack.PacketBuffer // nil: nothing left
	view *buffer.View        // the rest of it begins here
	skip int                 // at this place

	// Of a segment that is split; size is 0 for a packet that goes out as it is.
	size  int // payload of each part, bytes
	left  int // payload still to come
	ip    int // bytes of IP header; TCP begins here
	head  int // bytes of all headers; payload begins here
	part  uint16
	heads [maxHeaders]byte

	// Sums of what is alike in all parts: the IPv4 header without length, identification
	// and checksum, and the pseudo header without length.
	ident, ipSum, pseudo uint16
}

// begin takes over p with its reference, to split it into packets of at most limit bytes;
// 0: of as many as the stack says. What does not look like a segment to be split goes out
// whole.
func (s *splitter) begin(p *stack.PacketBuffer, limit int) {
	views, skip := p.AsViewList()
	s.pkt, s.view, s.skip, s.size, s.part = p, views.Front(), skip, 0, 0
	mss := int(p.GSOOptions.MSS)
	if p.GSOOptions.Type == stack.GSONone || mss == 0 {
		mss = p.Data().Size()
	}
	ip, tcp := len(p.NetworkHeader().Slice()), len(p.TransportHeader().Slice())
	plain := ip == header.IPv4MinimumSize && p.NetworkProtocolNumber == header.IPv4ProtocolNumber ||
		ip == header.IPv6MinimumSize && p.NetworkProtocolNumber == header.IPv6ProtocolNumber
	if plain = plain && isTCP(p.NetworkHeader().Slice()); plain && limit-ip-tcp >= leastPart {
		mss = min(mss, limit-ip-tcp)
	}
	if p.Data().Size() <= mss || !plain || tcp < header.TCPMinimumSize || tcp > header.TCPHeaderMaximumSize {
		return
	}
	s.size, s.left, s.ip, s.head = mss, p.Data().Size(), ip, ip+tcp
	s.read(s.heads[:s.head])
	if ip == header.IPv4MinimumSize {
		h := header.IPv4(s.heads[:ip])
		s.ident = h.ID()
		h.SetTotalLength(0)
		h.SetID(0)
		h.SetChecksum(0)
		s.ipSum = h.CalculateChecksum()
	}
	s.pseudo = pseudo(s.heads[:s.head], s.ip, 0)
}

// leastPart is the least payload that a segment is cut to for a narrow path.
const leastPart = 256

// isTCP reads a network header without options.
func isTCP(head []byte) bool {
	at := 9
	if len(head) == header.IPv6MinimumSize {
		at = 6
	}
	return head[at] == uint8(header.TCPProtocolNumber)
}

// next writes the next packet to dst and returns its size; 0 when dst is too small for
// it, which then is lost. After the last one s.pkt is nil.
func (s *splitter) next(dst []byte) int {
	if s.size == 0 {
		return s.whole(dst)
	}
	size := min(s.size, s.left)
	if len(dst) < s.head+size {
		s.end()
		return 0
	}
	dst = dst[:s.head+size]
	copy(dst, s.heads[:s.head])
	s.read(dst[s.head:])
	s.left -= size
	first, last := s.part == 0, s.left == 0
	if s.ip == header.IPv4MinimumSize {
		h := header.IPv4(dst)
		length, id := uint16(len(dst)), s.ident+s.part
		h.SetTotalLength(length)
		h.SetID(id)
		h.SetChecksum(^checksum.Combine(s.ipSum, checksum.Combine(length, id)))
	} else {
		header.IPv6(dst).SetPayloadLength(uint16(len(dst) - s.ip))
	}
	tcp := header.TCP(dst[s.ip:])
	tcp.SetSequenceNumber(tcp.SequenceNumber() + uint32(s.part)*uint32(s.size))
	flags := tcp.Flags()
	if !last {
		flags &^= header.TCPFlagFin | header.TCPFlagPsh
	}
	if !first {
		flags &^= flagCWR // said once (RFC 3168 section 6.1.2)
	}
	tcp.SetFlags(uint8(flags))
	tcp.SetChecksum(checksum.Combine(s.pseudo, uint16(len(tcp))))
	tcp.SetChecksum(^checksum.Checksum(tcp, 0))
	if s.part++; last {
		s.end()
	}
	return len(dst)
}

// flagCWR is TCP's "congestion window reduced".
const flagCWR = header.TCPFlags(0x80)

// whole copies a packet that needs no splitting and completes its checksum if the stack
// left that open.
func (s *splitter) whole(dst []byte) int {
	p := s.pkt
	defer s.end()
	size, ip := p.Size(), len(p.NetworkHeader().Slice())
	if len(dst) < size {
		return 0
	}
	dst = dst[:size]
	s.read(dst)
	if p.GSOOptions.Type != stack.GSONone && p.GSOOptions.NeedsCsum && size >= ip+header.TCPMinimumSize {
		tcp := header.TCP(dst[ip:]) // its field holds the sum of the pseudo header
		tcp.SetChecksum(^checksum.Checksum(tcp, 0))
	}
	return size
}

// pseudo is the sum of the pseudo header of a TCP packet (RFC 9293 section 3.1), with so
// many bytes of TCP.
func pseudo(pkt []byte, ip, length int) uint16 {
	addrs := pkt[8:40]
	if ip == header.IPv4MinimumSize {
		addrs = pkt[12:20]
	}
	tail := [4]byte{1: uint8(header.TCPProtocolNumber)}
	binary.BigEndian.PutUint16(tail[2:], uint16(length))
	return checksum.Checksum(tail[:], checksum.Checksum(addrs, 0))
}

// read fills dst with the bytes that come next. It walks the parts of the packet itself:
// the stack's own helpers allocate.
func (s *splitter) read(dst []byte) {
	for len(dst) > 0 && s.view != nil {
		b := s.view.AsSlice()
		if s.skip >= len(b) {
			s.skip -= len(b)
			s.view = s.view.Next()
			continue
		}
		n := copy(dst, b[s.skip:])
		dst = dst[n:]
		s.skip += n
	}
}

// end lets go of the packet.
func (s *splitter) end() {
	if s.pkt != nil {
		s.pkt.DecRef()
	}
	s.pkt, s.view = nil, nil
}
