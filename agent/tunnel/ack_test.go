package tunnel

import (
	"bytes"
	"runtime"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// saidAgain is the model of the queue: segments in words, the oldest first. A plain
// acknowledgement takes the place of the last segment of its connection if that is one too,
// of the same sequence number and shape, and acknowledges less.
func saidAgain(waits []segment, s segment) []segment {
	stamped := []byte{1, 1, 8, 10}
	plain := func(s segment) bool {
		return s.flags == header.TCPFlagAck && len(s.data) == 0 &&
			(len(s.opts) == 0 || len(s.opts) == 12 && bytes.Equal(s.opts[:4], stamped))
	}
	for i := len(waits) - 1; i >= 0 && i >= len(waits)-ackLook && plain(s); i-- {
		old := waits[i]
		if old.port != s.port || old.v6 != s.v6 {
			continue
		}
		if further := s.ack - old.ack; plain(old) && old.seq == s.seq && len(old.opts) == len(s.opts) && further != 0 && further < 1<<31 {
			waits[i] = s
			return waits
		}
		break
	}
	return append(waits, s)
}

// whole is what leaves for a segment that is not split.
func whole(p *stack.PacketBuffer) []byte {
	p.IncRef() // splitAll lets go of it
	return splitAll(p, 0)[0]
}

// FuzzAcks: what leaves a queue is what the model says, byte by byte and in its order.
func FuzzAcks(f *testing.F) {
	f.Add([]byte{0, 0, 10, 0, 0, 20, 0, 0, 20, 0, 1, 5, 0, 0, 30, 1, 0, 9, 0, 0, 40, 250, 0, 0, 0, 0, 50})
	f.Add([]byte{3, 0, 100, 3, 2, 7, 3, 0, 120, 3, 3, 1, 3, 0, 130, 3, 4, 1, 3, 5, 9, 3, 6, 4})
	f.Add([]byte{5, 8, 0, 5, 0, 7, 5, 0, 8, 5, 8, 0, 5, 0, 9})
	f.Add(bytes.Repeat([]byte{1, 0, 3, 2, 0, 4, 4, 7, 1}, 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		q := new(queue)
		q.init()
		var model []segment
		var next [64]segment
		var dst [8]*stack.PacketBuffer
		take := func(most int) {
			n, ok := q.take(dst[:most], false)
			if !ok || n != min(most, len(model)) {
				t.Fatalf("%d packets leave, of %d and at most %d", n, len(model), most)
			}
			for i, p := range dst[:n] {
				if got, want := whole(p), model[i].encode(); !bytes.Equal(got, want) {
					t.Fatalf("packet %d is\n% x, want\n% x", i, got, want)
				}
				p.DecRef()
			}
			model = model[n:]
		}
		for ; len(b) >= 3 && len(model) < 200; b = b[3:] {
			if b[0] >= 240 {
				take(int(b[0]-240)/2 + 1)
				continue
			}
			who := int(b[0]) % len(next)
			s := next[who]
			s.v6, s.port, s.ttl, s.df, s.window = who%3 == 0, uint16(1000+who/3), 64, true, 500
			s.flags, s.data, s.opts = header.TCPFlagAck, nil, append([]byte{1, 1, 8, 10}, 0, 0, 0, b[2], 0, 0, 0, 9)
			switch b[1] % 9 {
			case 0:
				s.ack += uint32(b[2])
			case 1:
				s.data = bytes.Repeat(b[2:3], int(b[2]))
			case 2: // a block of SACK
				s.opts = []byte{1, 1, 5, 10, 0, 0, 1, 0, 0, 0, 2, b[2]}
			case 3:
				s.flags |= header.TCPFlags(b[2])
			case 4:
				s.window = uint16(b[2])
			case 5:
				s.opts, s.ack = nil, s.ack+uint32(b[2])
			case 6: // late, or a repetition
				s.ack -= uint32(b[2])
			case 7:
				s.ack += uint32(b[2]) << 24
			}
			next[who] = s
			next[who].seq += uint32(len(s.data))
			if b[1]%9 == 8 { // a probe of keep-alive asks for an answer
				s.seq--
			}
			p := s.handed(1400, 1400)
			if len(s.data) == 0 {
				p.GSOOptions = stack.GSO{Type: stack.GSONone, NeedsCsum: true}
				header.TCP(p.TransportHeader().Slice()).SetChecksum(header.TCP(s.encode()[len(p.NetworkHeader().Slice()):]).Checksum())
			}
			if n, err := q.put([]*stack.PacketBuffer{p}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			p.DecRef()
			model = saidAgain(model, s)
			if q.n != len(model) || q.acks > q.n {
				t.Fatalf("%d wait, %d of them acknowledgements; want %d", q.n, q.acks, len(model))
			}
		}
		for len(model) > 0 {
			take(8)
		}
		if q.n != 0 || q.acks != 0 || q.bytes != 0 {
			t.Fatalf("%d packets, %d acknowledgements and %d bytes are left of nothing", q.n, q.acks, q.bytes)
		}
	})
}

// ackOf is an acknowledgement as the stack hands it over.
func ackOf(port uint16, ack uint32) *stack.PacketBuffer {
	p := segment{port: port, ack: ack, ttl: 64, flags: header.TCPFlagAck, window: 9}.handed(1400, 1400)
	p.GSOOptions = stack.GSO{}
	return p
}

// TestAcksWaitForOthers: a reader that finds an acknowledgement alone takes it all the same,
// and with it what others put in while it let them run.
func TestAcksWaitForOthers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // who yields lets the other run, and nobody else does
	q := new(queue)
	q.init()
	var dst [batchLen]*stack.PacketBuffer
	put := func(p *stack.PacketBuffer) {
		q.put([]*stack.PacketBuffer{p})
		p.DecRef()
	}
	put(ackOf(1, 5))
	if n, ok := q.take(dst[:], true); n != 1 || !ok {
		t.Fatalf("%d packets, %t; want the one that there is", n, ok)
	}
	put(ackOf(1, 6))
	done := make(chan struct{})
	go func() { // begins when the reader yields
		defer close(done)
		put(ackOf(1, 7))
		put(ackOf(2, 7))
	}()
	n, ok := q.take(dst[:], true)
	if n != 2 || !ok {
		t.Fatalf("%d packets, %t; want two", n, ok)
	}
	if got := header.TCP(dst[0].TransportHeader().Slice()).AckNumber(); got != 7 {
		t.Fatalf("the first acknowledges %d, want 7", got)
	}
	<-done
	for i := range ackMost { // enough: nobody else is let run
		put(ackOf(uint16(i), 5))
	}
	q.wake()
	if n, ok := q.take(dst[:], true); n != ackMost || !ok {
		t.Fatalf("%d packets, %t", n, ok)
	}
	put(ackOf(1, 9))
	q.close()
	if n, ok := q.take(dst[:], true); n != 0 || ok || q.acks != 0 {
		t.Fatalf("%d packets, %t after the end", n, ok)
	}
}
