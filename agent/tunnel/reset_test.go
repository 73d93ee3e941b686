package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func flowOf(local, remote string) tcpFlow {
	return tcpFlow{netip.MustParseAddrPort(local), netip.MustParseAddrPort(remote)}
}

// What the stack sends of a connection on its way out becomes two resets with the
// numbers that each end expects.
func TestResetsTurnASegmentIntoTwo(t *testing.T) {
	for _, f := range []tcpFlow{
		flowOf("100.64.0.1:5000", "100.64.0.2:80"),
		flowOf("[fd7a::1]:5000", "[fd7a::2]:80"),
	} {
		var rs resets
		defer rs.clear()
		send := func(flags header.TCPFlags, seq, ack uint32, data string) (got header.TCP, up []byte) {
			t.Helper()
			buf := appendTCP(make([]byte, 0, 2000), f, seq, ack, flags, []byte(data))
			n, up := rs.out(buf[:cap(buf)], len(buf))
			if n == 0 {
				return nil, up
			}
			who, got, ok := parseTCP(buf[:n])
			if !ok || who != f || !validTCP(buf[:n], got) {
				t.Fatalf("%v: a damaged packet of %d bytes", f, n)
			}
			return got, up
		}
		if got, up := send(header.TCPFlagAck, 7, 9, "data"); string(got.Payload()) != "data" || up != nil {
			t.Fatalf("%v: touched without a reset", f)
		}
		r, probes := rs.begin(f)
		if len(probes) != 2 {
			t.Fatal(probes)
		}
		got, up := send(header.TCPFlagAck, 7, 9, "data")
		if !got.Flags().Contains(header.TCPFlagRst) || got.SequenceNumber() != 7 || len(got.Payload()) != 0 {
			t.Errorf("%v: to the far end: %v, seq %d", f, got.Flags(), got.SequenceNumber())
		}
		who, local, ok := parseTCP(up)
		if !ok || who != f.reverse() || !local.Flags().Contains(header.TCPFlagRst) || local.SequenceNumber() != 9 || !validTCP(up, local) {
			t.Errorf("%v: to the stack: %v", f, up)
		}
		select {
		case <-r.told:
		default:
			t.Errorf("%v: nobody knows that the reset left", f)
		}
		if rs.in(appendTCP(nil, f.reverse(), 1, 1, header.TCPFlagAck, []byte("x"))) {
			t.Errorf("%v: data still reaches the stack", f)
		}
		if !rs.in(udp4("100.64.0.2", "100.64.0.1")) {
			t.Errorf("%v: another protocol does not", f)
		}
		if got, _ := send(header.TCPFlagRst, probeAck, 0, ""); got != nil {
			t.Errorf("%v: the answer to a probe left", f)
		}
		if got, _ := send(header.TCPFlagRst|header.TCPFlagAck, 5, 6, ""); got == nil || got.SequenceNumber() != 5 {
			t.Errorf("%v: the stack's own reset did not pass as it was", f)
		}
		if got, up := send(header.TCPFlagSyn, 1000, 0, ""); got == nil || got.Flags() != header.TCPFlagSyn || up != nil {
			t.Errorf("%v: a new connection is held up", f)
		}
		if rs.waiting.Load() {
			t.Errorf("%v: the table kept the old one", f)
		}
		rs.begin(f)
		if !rs.in(appendTCP(nil, f.reverse(), 1, 0, header.TCPFlagSyn, nil)) {
			t.Errorf("%v: a new connection from the far end is held up", f)
		}
	}
}

// The stack's own end goes too, or it would retransmit for minutes.
func TestStockResetEndsBothEnds(t *testing.T) {
	noLeaks(t)
	a, b := newPair(t, stacks{Stock})
	client, server := connect(t, a, b, 80)
	a.stack.(*stock).reset(tcpFlow{addrPort(client.LocalAddr()), addrPort(client.RemoteAddr())})
	for name, c := range map[string]net.Conn{"own": client, "far": server} {
		c.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the %s end: %v", name, err)
		}
	}
}

// Close ends what waits, whoever waits for it, and nothing works after it.
func TestCloseEndsEverySocket(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		client, _ := connect(t, a, b, 80)
		l, err := a.ListenTCP(a.at(81))
		if err != nil {
			t.Fatal(err)
		}
		u, err := a.ListenUDP(a.at(53))
		if err != nil {
			t.Fatal(err)
		}
		b.filter.denyIn.Store(true) // from here on nobody answers
		ended := make(chan error)
		waiting := []func() error{
			func() error { _, err := client.Read(make([]byte, 1)); return err },
			func() error { _, err := l.Accept(); return err },
			func() error { _, _, err := u.ReadFrom(make([]byte, 1)); return err },
			func() error { _, err := a.DialTCP(patience(t), b.at(82)); return err },
		}
		for _, wait := range waiting {
			go func() { ended <- wait() }()
		}
		a.Close()
		for range waiting {
			select {
			case err := <-ended:
				if err == nil || errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a wait ended with %v", err)
				}
			case <-time.After(time.Minute):
				t.Fatal("a wait outlives the tunnel")
			}
		}
		if c, err := a.DialTCP(patience(t), b.at(80)); err == nil {
			t.Errorf("dialled %v through a closed tunnel", c.RemoteAddr())
		}
	})
}

func validTCP(pkt []byte, tcp header.TCP) bool {
	_, src, dst, b, _ := transport(pkt)
	sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, addr(src.String()), addr(dst.String()), uint16(len(b)))
	sum = checksum.Checksum(tcp.Payload(), sum)
	return len(b) == len(tcp) && tcp.CalculateChecksum(sum) == 0xffff
}

func TestQuotedUDP(t *testing.T) {
	at := netip.MustParseAddr
	icmp4 := func(quote []byte) []byte {
		b := make([]byte, header.IPv4MinimumSize+8, 100)
		header.IPv4(b).Encode(&header.IPv4Fields{TotalLength: uint16(len(b) + len(quote)), Protocol: 1, SrcAddr: addr("100.64.0.2"), DstAddr: addr("100.64.0.1")})
		b[20], b[21] = 3, 3
		return append(b, quote...)
	}
	icmp6 := func(quote []byte) []byte {
		b := make([]byte, header.IPv6MinimumSize+8, 100)
		header.IPv6(b).Encode(&header.IPv6Fields{PayloadLength: uint16(8 + len(quote)), TransportProtocol: 58, SrcAddr: addr("fd7a::2"), DstAddr: addr("fd7a::1")})
		b[40], b[41] = 1, 4
		return append(b, quote...)
	}
	q4, q6 := udp4("100.64.0.1", "100.64.0.2"), udp6("fd7a::1", "fd7a::2")
	q4[21], q6[41] = 77, 78
	for name, c := range map[string]struct {
		pkt  []byte
		want netip.AddrPort
	}{
		"IPv4":       {icmp4(q4), netip.AddrPortFrom(at("100.64.0.1"), 77)},
		"IPv6":       {icmp6(q6), netip.AddrPortFrom(at("fd7a::1"), 78)},
		"cut short":  {icmp4(q4[:22]), netip.AddrPort{}},
		"not quoted": {icmp6(nil), netip.AddrPort{}},
		"UDP itself": {q4, netip.AddrPort{}},
	} {
		if got, ok := quotedUDP(c.pkt); got != c.want || ok != c.want.IsValid() {
			t.Errorf("%s: %s, %v", name, got, ok)
		}
	}
}

// Packets of peers reach these parsers before any stack has looked at them.
func FuzzSegment(f *testing.F) {
	seg := appendTCP(nil, flowOf("100.64.0.1:5000", "100.64.0.2:80"), 1, 2, header.TCPFlagAck, []byte("x"))
	f.Add(seg)
	f.Add(appendTCP(nil, flowOf("[fd7a::1]:5000", "[fd7a::2]:80"), 1, 2, header.TCPFlagRst, nil))
	f.Add(udp4("100.64.0.1", "192.0.2.1"))
	f.Add(udp6("fd7a::1", "100::1"))
	f.Add([]byte{0x4f, 0, 0, 60})
	f.Fuzz(func(t *testing.T, pkt []byte) {
		isWake(pkt)
		quotedUDP(pkt)
		flow, _, ok := parseTCP(pkt)
		if !ok {
			return
		}
		var rs resets
		defer rs.clear()
		rs.begin(flow)
		rs.in(pkt)
		rs.begin(flow)
		buf := append(make([]byte, 0, len(pkt)), pkt...)
		if n, _ := rs.out(buf, len(buf)); n > len(pkt) {
			t.Fatalf("%d bytes became %d", len(pkt), n)
		}
	})
}

func TestLingerZeroResets(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		client, server := connect(t, a, b, 80)
		client.(*TCPConn).SetLinger(0)
		client.Close()
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("read after a reset: %v", err)
		}
	})
}

// A reset that a write was told of must not leave the read with a regular end.
func TestAResetIsNoEndAfterAWrite(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		client, server := connect(t, a, b, 80)
		client.(*TCPConn).SetLinger(0)
		client.Close()
		var err error
		for deadline := time.Now().Add(time.Minute); err == nil && time.Now().Before(deadline); {
			_, err = io.WriteString(server, "x")
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("write after a reset: %v", err)
		}
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("read after that: %v", err)
		}
	})
}

// A reset must come through whatever the connection is doing: with a sender that waits
// for a window, after one direction has ended and nothing is under way, over IPv6, and
// for a far end that has not read yet.
func TestLingerZeroResetsInAnyState(t *testing.T) {
	states := map[string]func(client, server net.Conn){
		"blocked sender": func(client, _ net.Conn) {
			client.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
			for buf := make([]byte, 1<<20); ; {
				if _, err := client.Write(buf); err != nil {
					return
				}
			}
		},
		"half closed": func(client, server net.Conn) {
			client.(*TCPConn).CloseWrite()
			io.ReadAll(server)
		},
		"half closed by the other": func(client, server net.Conn) {
			server.(*TCPConn).CloseWrite()
			io.ReadAll(client)
		},
		"unread data": func(client, server net.Conn) {
			io.WriteString(server, "unread")
			io.ReadFull(client, make([]byte, 1))
		},
	}
	onEach(t, func(t *testing.T, on stacks) {
		for name, prepare := range states {
			t.Run(name, func(t *testing.T) {
				noLeaks(t)
				a, b := newPair(t, on)
				client, server := connectAt(t, a, b, netip.AddrPortFrom(b.v6, 80))
				prepare(client, server)
				client.(*TCPConn).SetLinger(0)
				client.Close()
				server.SetDeadline(time.Now().Add(time.Minute))
				_, err := io.Copy(io.Discard, server)
				if err == nil { // the end of data came before; a write tells the rest
					for err == nil {
						_, err = io.WriteString(server, "x")
					}
				}
				if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNABORTED) {
					t.Fatalf("after a reset: %v", err)
				}
			})
		}
	})
}

// The end of a tunnel is a reset for those who talk to it.
func TestAbortResetsPeers(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		_, server := connect(t, a, b, 80)
		a.stack.Abort()
		server.SetDeadline(time.Now().Add(time.Minute))
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
	})
}

// TestCloseResetsPeers: whoever talked to a tunnel that closes learns it from a reset,
// not from a timeout.
func TestCloseResetsPeers(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		a, b := newPair(t, on)
		_, server := connect(t, a, b, 80)
		a.Close()
		server.SetDeadline(time.Now().Add(time.Minute))
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
	})
}

// A cut leaves a reset for the local end and one for the remote end.
func TestInjectedResetAbortsBothEnds(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		client, server := connect(t, a, b, 80)

		// Learn a's sequence numbers from a packet of the flow.
		var mu sync.Mutex
		var seen []byte
		tap := func(pkt []byte) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen[:0], pkt...)
		}
		a.filter.tap.Store(&tap)
		io.WriteString(client, "x")
		if _, err := server.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		data := header.TCP(header.IPv4(seen).Payload())
		seq, ack := data.SequenceNumber()+uint32(len(data.Payload())), data.AckNumber()
		mu.Unlock()

		// The filter is shut: only what is injected may pass now.
		a.filter.denyOut.Store(true)
		b.filter.denyOut.Store(true)
		local := craftReset(b.at(80), client.LocalAddr(), ack, seq)
		remote := craftReset(client.LocalAddr(), b.at(80), seq, ack)
		a.Inject([][]byte{local}, [][]byte{remote})
		for name, c := range map[string]net.Conn{"local": client, "remote": server} {
			c.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s end: %v, want a reset", name, err)
			}
		}
	})
}
