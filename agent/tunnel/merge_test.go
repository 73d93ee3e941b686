package tunnel

import (
	"bytes"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// joined is the model's output: a segment, and whether more may be added.
type joined struct {
	segment
	part int // payload of the first part
	open bool
}

// joins is the model of merging: segments in words, one after the other, each added to
// the last packet of its connection or not.
func joins(in []segment) []segment {
	var out []joined
	for _, s := range in {
		var last *joined
		for i := len(out) - 1; i >= max(0, len(out)-maxOpen) && last == nil; i-- {
			if out[i].v6 == s.v6 && out[i].port == s.port {
				last = &out[i]
			}
		}
		ip := header.IPv4MinimumSize
		if s.v6 {
			ip = header.IPv6MinimumSize
		}
		psh := s.flags&header.TCPFlagPsh != 0
		plain := len(s.data) > 0 && s.flags&^header.TCPFlagPsh == header.TCPFlagAck
		if last != nil && last.open && plain && s.seq == last.seq+uint32(len(last.data)) && len(s.data) <= last.part &&
			s.ack == last.ack && s.window == last.window && s.class == last.class && s.ttl == last.ttl && (s.v6 || s.df == last.df) &&
			bytes.Equal(s.opts, last.opts) && ip+header.TCPMinimumSize+len(s.opts)+len(last.data)+len(s.data) <= maxMerged {
			last.data = append(bytes.Clone(last.data), s.data...)
			last.open = len(s.data) == last.part && !psh
			last.flags |= s.flags & header.TCPFlagPsh
			continue
		}
		if last != nil {
			last.open = false
		}
		out = append(out, joined{s, len(s.data), plain && !psh})
	}
	var all []segment
	for _, j := range out {
		all = append(all, j.segment)
	}
	return all
}

// script makes a batch of what the bytes say: mostly segments that follow each other in
// a few connections, with everything now and then that must keep them apart.
func script(b []byte) (in []segment) {
	var next [40]uint32
	for ; len(b) >= 3 && len(in) < batchLen; b = b[3:] {
		who, what, n := int(b[0])%len(next), b[1], 1+int(b[2])*6
		s := segment{v6: who%3 == 0, ttl: 64, df: true, port: uint16(1000 + who), seq: next[who], ack: 9, window: 500,
			flags: header.TCPFlagAck, opts: []byte("\x01\x01\x08\x0atimestpa"), data: bytes.Repeat([]byte{b[0], b[2]}, n)[:n]}
		switch what {
		case 0:
			s.seq++
		case 1:
			s.ack++
		case 2:
			s.window--
		case 3:
			s.class = 8
		case 4:
			s.ttl = 63
		case 5:
			s.df = false
		case 6:
			s.opts = nil
		case 7:
			s.opts = []byte("\x01\x01\x08\x0atimestpb")
		case 8:
			s.data = nil
		case 9:
			s.flags |= header.TCPFlagFin
		case 10:
			s.flags |= header.TCPFlagUrg
		case 11, 12:
			s.flags |= header.TCPFlagPsh
		case 13:
			s.flags = header.TCPFlagRst
		case 14:
			s.flags |= 0x40 // ECE
		case 15:
			s.seq -= uint32(n) // once more
		}
		next[who] = s.seq + uint32(len(s.data))
		in = append(in, s)
	}
	return in
}

func FuzzMerge(f *testing.F) {
	f.Add(bytes.Repeat([]byte{0, 255, 230}, 100))
	f.Add(append(bytes.Repeat([]byte{0, 255, 230, 1, 99, 230, 2, 77, 230}, 40), 0, 255, 3, 1, 11, 230))
	all := []byte{}
	for i := range 32 {
		all = append(all, 5, 200, 100, 5, byte(i), 100)
	}
	f.Add(all)
	f.Add(bytes.Repeat([]byte{1, 200, 255, 2, 200, 255, 7, 200, 255, 8, 200, 255, 9, 200, 255, 10, 200, 255, 11, 200, 255, 12, 200, 255, 13, 200, 255}, 10))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := script(b)
		want := joins(in)
		var pkts [][]byte
		for _, s := range in {
			pkts = append(pkts, append(make([]byte, 16), s.encode()...))
		}
		var m merger
		m.merge(pkts, 16)
		if len(m.runs) != len(want) {
			t.Fatalf("%d packets, want %d", len(m.runs), len(want))
		}
		for i := range want {
			whole := m.packet(&m.runs[i], pkts, 16)
			got, want := whole.Flatten(), want[i].encode()
			for _, b := range [][]byte{got, want} { // nobody looks at this one
				ip := header.IPv4MinimumSize
				if b[0]>>4 == 6 {
					ip = header.IPv6MinimumSize
				}
				header.TCP(b[ip:]).SetChecksum(0)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("packet %d:\n got %x\nwant %x", i, got, want)
			}
		}
	})
}

// FuzzMergeAnything feeds what is no packet: nothing is lost, and what is not merged is
// not changed.
func FuzzMergeAnything(f *testing.F) {
	s := segment{ttl: 64, flags: header.TCPFlagAck, data: make([]byte, 50)}
	f.Add(s.encode(), s.encode()[:30], 3)
	f.Add(append(s.encode(), 0), []byte{0x45}, 1)
	s.v6 = true
	f.Add(s.encode(), []byte{}, 7)
	f.Fuzz(func(t *testing.T, a, b []byte, n int) {
		var pkts [][]byte
		for i := range 1 + n&7 {
			pkts = append(pkts, [][]byte{a, b}[i>>1&1])
		}
		var m merger
		m.merge(pkts, 0)
		seen := 0
		for i := range m.runs {
			r := &m.runs[i]
			for at := r.first; at >= 0; at = m.next[at] {
				seen++
			}
			if whole := m.packet(r, pkts, 0); r.first == r.last && !bytes.Equal(whole.Flatten(), pkts[r.first]) {
				t.Fatalf("packet %d was changed", r.first)
			}
		}
		if seen != len(pkts) {
			t.Fatalf("%d packets of %d", seen, len(pkts))
		}
	})
}
