package tunnel

import (
	"bytes"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// segment is a TCP packet in words, the model's side of splitting and merging.
type segment struct {
	v6         bool
	class, ttl uint8
	df         bool
	id         uint16
	port       uint16 // of the sender
	seq, ack   uint32
	window     uint16
	flags      header.TCPFlags
	opts, data []byte
}

// encode writes the packet from nothing, with all checksums.
func (s segment) encode() []byte {
	src, dst := addr("100.64.0.1"), addr("100.64.0.2")
	ip := header.IPv4MinimumSize
	if s.v6 {
		src, dst, ip = addr("fd7a::1"), addr("fd7a::2"), header.IPv6MinimumSize
	}
	head := header.TCPMinimumSize + len(s.opts)
	b := make([]byte, ip+head+len(s.data))
	copy(b[ip+header.TCPMinimumSize:], s.opts)
	copy(b[ip+head:], s.data)
	if s.v6 {
		header.IPv6(b).Encode(&header.IPv6Fields{PayloadLength: uint16(len(b) - ip), TrafficClass: s.class,
			TransportProtocol: header.TCPProtocolNumber, HopLimit: s.ttl, SrcAddr: src, DstAddr: dst})
	} else {
		f := &header.IPv4Fields{TotalLength: uint16(len(b)), TOS: s.class, ID: s.id, TTL: s.ttl,
			Protocol: uint8(header.TCPProtocolNumber), SrcAddr: src, DstAddr: dst}
		if s.df {
			f.Flags = header.IPv4FlagDontFragment
		}
		header.IPv4(b).Encode(f)
		header.IPv4(b).SetChecksum(^header.IPv4(b).CalculateChecksum())
	}
	tcp := header.TCP(b[ip:])
	tcp.Encode(&header.TCPFields{SrcPort: s.port, DstPort: 80, SeqNum: s.seq, AckNum: s.ack, DataOffset: uint8(head),
		Flags: s.flags, WindowSize: s.window})
	sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, src, dst, uint16(len(tcp)))
	tcp.SetChecksum(^tcp.CalculateChecksum(checksum.Checksum(s.data, sum)))
	return b
}

// split is the model: every part is written from nothing.
func (s segment) split(mss int) (out [][]byte) {
	for i, at := 0, 0; at == 0 || at < len(s.data); i, at = i+1, at+mss {
		part := s
		part.data = s.data[at:min(len(s.data), at+mss)]
		part.seq, part.id = s.seq+uint32(at), s.id+uint16(i)
		if at+mss < len(s.data) {
			part.flags &^= header.TCPFlagFin | header.TCPFlagPsh
		}
		if at > 0 {
			part.flags &^= flagCWR
		}
		out = append(out, part.encode())
	}
	return out
}

// handed returns the packet as TCP hands it to a link that does the rest: headers apart
// from the data, the checksum field with the sum of the pseudo header, data in pieces.
func (s segment) handed(mss, piece int) *stack.PacketBuffer {
	raw := s.encode()
	ip, kind, proto := header.IPv4MinimumSize, stack.GSOTCPv4, header.IPv4ProtocolNumber
	if s.v6 {
		ip, kind, proto = header.IPv6MinimumSize, stack.GSOTCPv6, header.IPv6ProtocolNumber
	}
	var data buffer.Buffer
	for left := s.data; len(left) > 0; left = left[min(len(left), piece):] {
		data.Append(buffer.NewViewWithData(left[:min(len(left), piece)]))
	}
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: maxHeaders, Payload: data})
	tcp := header.TCP(p.TransportHeader().Push(header.TCPMinimumSize + len(s.opts)))
	copy(tcp, raw[ip:])
	tcp.SetChecksum(pseudo(raw, ip, len(raw)-ip))
	copy(p.NetworkHeader().Push(ip), raw)
	p.NetworkProtocolNumber = proto
	p.GSOOptions = stack.GSO{Type: kind, NeedsCsum: true, MSS: uint16(mss), MaxSize: maxMerged}
	return p
}

func splitAll(p *stack.PacketBuffer, limit int) (out [][]byte) {
	var s splitter
	dst := make([]byte, maxMerged)
	for s.begin(p, limit); s.pkt != nil; {
		n := s.next(dst)
		out = append(out, bytes.Clone(dst[:n]))
	}
	return out
}

func FuzzSplit(f *testing.F) {
	f.Add(false, uint16(1368), uint16(1000), uint32(1<<32-2000), uint8(0x19), []byte("\x01\x01\x08\x0atimestamp"), 9000, 0)
	f.Add(true, uint16(1200), uint16(7), uint32(5), uint8(0x98), []byte(nil), 64000, 992)
	f.Add(false, uint16(1), uint16(1), uint32(5), uint8(0x10), []byte(nil), 3, 0)
	f.Add(true, uint16(100), uint16(40), uint32(5), uint8(0x10), []byte("xxxx"), 100, 500)
	f.Add(false, uint16(1240), uint16(900), uint32(5), uint8(0x18), []byte("xxxx"), 1240, 1200)
	f.Add(false, uint16(1400), uint16(9), uint32(5), uint8(0x10), []byte(nil), 0, 1)
	f.Fuzz(func(t *testing.T, v6 bool, mss, piece uint16, seq uint32, flags uint8, opts []byte, size, limit int) {
		opts = opts[:min(len(opts), 40)]
		opts = opts[:len(opts)&^3]
		if mss == 0 || piece == 0 || size < 0 || size > maxMerged-maxHeaders || limit < 0 || limit > 1<<16 || size/int(mss) > 4096 || size/int(piece) > 4096 {
			return
		}
		s := segment{v6: v6, ttl: 64, df: true, id: uint16(seq >> 3), port: 4000, seq: seq, ack: ^seq, window: 700, flags: header.TCPFlags(flags), opts: opts, data: make([]byte, size)}
		for i := range s.data {
			s.data[i] = byte(i * 7 >> 3)
		}
		part := int(mss)
		if room := limit - len(s.encode()) + size; room >= leastPart {
			part = min(part, room)
		}
		want, got := s.split(part), splitAll(s.handed(int(mss), int(piece)), limit)
		if len(got) != len(want) {
			t.Fatalf("%d packets, want %d", len(got), len(want))
		}
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("packet %d of %d:\n got %x\nwant %x", i, len(want), got[i], want[i])
			}
		}
	})
}

// A destination that is too small loses a packet and never more than that.
func TestSplitIntoTooLittle(t *testing.T) {
	s := segment{ttl: 64, flags: header.TCPFlagAck, data: make([]byte, 5000)}
	for _, p := range []*stack.PacketBuffer{s.handed(1000, 5000), s.handed(5000, 5000)} {
		var sp splitter
		if sp.begin(p, 0); sp.next(make([]byte, 30)) != 0 || sp.pkt != nil {
			t.Fatal("went on after a packet that did not fit")
		}
	}
}

// BenchmarkSplit is one segment of 64 KiB cut for a path of 1,420 bytes.
func BenchmarkSplit(b *testing.B) {
	p := segment{ttl: 64, flags: header.TCPFlagAck, opts: make([]byte, 12), data: make([]byte, 47*1368)}.handed(1368, 1<<16)
	defer p.DecRef()
	dst := make([]byte, 1420)
	b.SetBytes(int64(p.Size()))
	b.ReportAllocs()
	var s splitter
	for b.Loop() {
		for s.begin(p.IncRef(), 0); s.pkt != nil; {
			s.next(dst)
		}
	}
}
