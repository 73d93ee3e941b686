package tunnel

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// maxMerged bounds a merged packet, in bytes: what an IPv4 header can say.
const maxMerged = 1<<16 - 1

// maxOpen bounds how many runs are looked at for a packet: so many connections may share
// a batch and still be merged.
const maxOpen = 16

// merger joins the segments of a batch that follow each other in one TCP connection
// into one large segment (GRO). The stack's work is by the packet, so this is where most
// of the cost of receiving goes away. Only what says nothing beyond its data is joined:
// same addresses, ports, options, acknowledgement and window, plain flags, no gap. Of
// one connection nothing ever overtakes; between connections order means nothing.
type merger struct {
	runs []run
	next []int16 // by packet: the one that follows in its run, -1 for none
}

// run is what becomes one packet of the stack.
type run struct {
	first, last int16
	open        bool   // may grow
	ip, head    uint8  // bytes of the IP header and of all headers
	size        int    // payload of every part but a last smaller one; 0: not TCP
	total       int    // bytes of the merged packet
	seq         uint32 // that follows
}

// mergers are shared: every peer has a goroutine that delivers.
var mergers = sync.Pool{New: func() any { return new(merger) }}

// merge sorts a batch into runs. Their order is that of their first packets.
func (m *merger) merge(pkts [][]byte, offset int) {
	m.runs, m.next = m.runs[:0], m.next[:0]
	for i := range pkts {
		m.next = append(m.next, -1)
		pkt := pkts[i][offset:]
		r, ok := parseRun(pkt)
		r.first, r.last = int16(i), int16(i)
		if !ok {
			m.runs = append(m.runs, r)
			continue
		}
		at := m.find(pkts, offset, pkt, &r)
		if at != nil && r.open && at.follows(pkts[at.first][offset:], pkt, &r) {
			m.next[at.last] = int16(i)
			at.last, at.seq, at.total = int16(i), r.seq, at.total+r.size
			at.open = r.size == at.size && pkt[r.ip+13]&uint8(header.TCPFlagPsh) == 0
			continue
		}
		if at != nil {
			at.open = false
		}
		if pkt[r.ip+13]&uint8(header.TCPFlagPsh) != 0 {
			r.open = false
		}
		m.runs = append(m.runs, r)
	}
}

// find returns the last run of the connection that pkt belongs to.
func (m *merger) find(pkts [][]byte, offset int, pkt []byte, r *run) *run {
	for i := len(m.runs) - 1; i >= max(0, len(m.runs)-maxOpen); i-- {
		if at := &m.runs[i]; at.size != 0 && at.ip == r.ip && sameFlow(pkts[at.first][offset:], pkt, int(r.ip)) {
			return at
		}
	}
	return nil
}

// parseRun reads a TCP segment; ok is false for all other packets. The run is open when
// the segment may be merged with others.
func parseRun(pkt []byte) (r run, ok bool) {
	var whole bool
	switch {
	case len(pkt) >= header.IPv4MinimumSize && pkt[0] == 0x45 && pkt[9] == uint8(header.TCPProtocolNumber):
		r.ip = header.IPv4MinimumSize
		r.total = int(binary.BigEndian.Uint16(pkt[2:]))
		whole = pkt[6]&0xbf == 0 && pkt[7] == 0 // neither a fragment nor the reserved bit
	case len(pkt) >= header.IPv6MinimumSize && pkt[0]>>4 == 6 && pkt[6] == uint8(header.TCPProtocolNumber):
		r.ip = header.IPv6MinimumSize
		r.total = header.IPv6MinimumSize + int(binary.BigEndian.Uint16(pkt[4:]))
		whole = true
	default:
		return r, false
	}
	if r.total != len(pkt) || len(pkt) < int(r.ip)+header.TCPMinimumSize || !whole {
		return r, false
	}
	tcp := pkt[r.ip:]
	head := int(tcp[12]>>4) * 4
	if head < header.TCPMinimumSize || head > len(tcp) {
		return r, false
	}
	r.head = r.ip + uint8(head)
	payload := len(tcp) - head
	r.seq = binary.BigEndian.Uint32(tcp[4:]) + uint32(payload)
	r.open = payload > 0 && tcp[12]&0x0f == 0 && tcp[13]&^uint8(header.TCPFlagPsh) == uint8(header.TCPFlagAck)
	r.size = max(payload, 1) // so that what carries no data still ends the run before it
	return r, true
}

// sameFlow compares addresses and ports of two TCP packets of one IP version.
func sameFlow(a, b []byte, ip int) bool {
	if ip == header.IPv4MinimumSize {
		// Addresses and ports lie side by side.
		return binary.LittleEndian.Uint64(a[12:]) == binary.LittleEndian.Uint64(b[12:]) &&
			binary.LittleEndian.Uint32(a[20:]) == binary.LittleEndian.Uint32(b[20:])
	}
	return bytes.Equal(a[8:44], b[8:44])
}

// follows reports whether pkt, parsed as r, continues the run that starts with first.
func (at *run) follows(first, pkt []byte, r *run) bool {
	seq := binary.BigEndian.Uint32(pkt[r.ip+4:])
	return at.open && at.head == r.head && r.size <= at.size && at.seq == seq &&
		at.total+r.size <= maxMerged && sameRest(first, pkt, int(r.ip), int(r.head))
}

// sameRest compares what must be alike in the headers of two segments of a connection:
// of IP the class of service, don't-fragment and the hop limit; of TCP the
// acknowledgement, the window, the urgent pointer and the options.
func sameRest(a, b []byte, ip, head int) bool {
	if ip == header.IPv4MinimumSize {
		if a[1] != b[1] || a[6] != b[6] || a[8] != b[8] {
			return false
		}
	} else if !bytes.Equal(a[:4], b[:4]) || a[7] != b[7] {
		return false
	}
	a, b = a[ip:head], b[ip:head]
	return binary.LittleEndian.Uint32(a[8:]) == binary.LittleEndian.Uint32(b[8:]) &&
		binary.LittleEndian.Uint16(a[14:]) == binary.LittleEndian.Uint16(b[14:]) &&
		bytes.Equal(a[18:], b[18:])
}

// packet copies a run into one packet for the stack. The TCP checksum of a merged one is
// that of its first part: the tunnel has authenticated every byte and the stack is told
// not to look (CapabilityRXChecksumOffload). Headers have a part of their own, because
// the stack copies the whole part when it shares one and looks at the headers in it.
func (m *merger) packet(r *run, pkts [][]byte, offset int) buffer.Buffer {
	first := pkts[r.first][offset:]
	if r.size == 0 {
		return buffer.MakeWithData(first)
	}
	heads := buffer.NewViewWithData(first[:r.head])
	switch b := heads.AsSlice(); {
	case r.first == r.last:
	case r.ip == header.IPv4MinimumSize:
		h := header.IPv4(b)
		h.SetTotalLength(uint16(r.total))
		h.SetChecksum(0)
		h.SetChecksum(^h.CalculateChecksum())
	default:
		header.IPv6(b).SetPayloadLength(uint16(r.total - int(r.ip)))
	}
	heads.AsSlice()[r.ip+13] |= pkts[r.last][offset+int(r.ip)+13] & uint8(header.TCPFlagPsh)
	whole := buffer.MakeWithView(heads)
	if r.total == int(r.head) {
		return whole
	}
	var data *buffer.View // the part that is being filled
	left, room := r.total-int(r.head), 0
	for i := r.first; i >= 0; i = m.next[i] {
		for b := pkts[i][offset+int(r.head):]; len(b) > 0; {
			if room == 0 {
				room = min(partLen(left), left)
				data = buffer.NewView(room)
			}
			n := min(room, len(b))
			data.Write(b[:n])
			if b, room, left = b[n:], room-n, left-n; room == 0 {
				whole.Append(data)
			}
		}
	}
	return whole
}

// partLen is the size of the next part of so many bytes. The stack has memory in powers of
// two and clears all of it, so what is just above one gets two parts.
func partLen(left int) int {
	whole := 1 << bits.Len(uint(left-1))
	if left > whole/4*3 || whole <= 4<<10 {
		return whole
	}
	return whole / 2
}
