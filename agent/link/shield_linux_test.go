package link

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"tailscale.com/net/stun"

	"enclave/wire/disco"
)

// filterOf knows a peer, a server and others of both families.
func filterOf(peer, server netip.AddrPort, share int) *sieve {
	some := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("[2001:db8::1]:1"),
		peer, netip.MustParseAddrPort("192.0.2.1:2"), netip.MustParseAddrPort("[2001:db8::1]:2")}
	return &sieve{peers: some, servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:3"), server},
		indices: []uint32{0x01020304, 0x0a0b0c0d, 0xf1f2f3f4}, probers: []uint32{7, proberOf(disco.PrivateKey{1}.Public()), 9},
		probeShare: share, initShare: share}
}

// TestShield gives the kernel the filter and compares it with what it is to do, by either
// family; without it everything comes through.
func TestShield(t *testing.T) {
	message := func(first byte, size, at int, index uint32) []byte {
		b := make([]byte, size)
		b[0] = first
		binary.BigEndian.PutUint32(b[at:], index)
		return b
	}
	ours := disco.NewPair(disco.PrivateKey{1}, disco.PrivateKey{2}.Public()).Seal(nil, disco.Ping{Tx: disco.TxID{1}})
	unknown := disco.NewPair(disco.PrivateKey{64}, disco.PrivateKey{2}.Public()).Seal(nil, disco.Ping{Tx: disco.TxID{1}})
	answer := stun.Response(stun.TxID{1}, netip.MustParseAddrPort("192.0.2.1:1"))
	const (
		no = iota
		yes
		some // one in share
	)
	for _, tt := range []struct {
		addr  string
		share int
	}{{"127.0.0.1", probeShare}, {"::1", probeShare}, {"127.0.0.1", 1}} {
		t.Run(fmt.Sprintf("%s %d", tt.addr, tt.share), func(t *testing.T) {
			c, err := net.ListenUDP("udp", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetReadBuffer(1 << 20)
			to := net.JoinHostPort(tt.addr, port(c.LocalAddr()))
			peer, server, stranger := dialUDP(t, to), dialUDP(t, to), dialUDP(t, to)
			at := func(c net.Conn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }
			b := newBatcher(c)
			if err := b.raise(filterOf(at(peer), at(server), tt.share)); err != nil {
				t.Skipf("this kernel takes no filter: %v", err)
			}
			last := message(data, 40, 4, 0x01020304)
			for _, x := range []struct {
				what                   string
				b                      []byte
				peer, server, stranger int
			}{
				{"data of a session", message(data, 32, 4, 0x0a0b0c0d), yes, no, no},
				{"data of another", message(data, 1280, 4, 0xf1f2f3f4), yes, no, no},
				{"data of none", message(data, 1280, 4, 0xf1f2f3f5), no, no, no},
				{"data with an index elsewhere", message(data, 1280, 8, 0x0a0b0c0d), no, no, no},
				{"a response to ours", message(response, responseLen, 8, 0x0a0b0c0d), yes, no, no},
				{"a response to nobody", message(response, responseLen, 4, 0x0a0b0c0d), no, no, no},
				{"a cookie for ours", message(cookieReply, 64, 4, 0x0a0b0c0d), yes, no, no},
				{"a cookie for nobody", message(cookieReply, 64, 4, 1), no, no, no},
				{"an initiation", message(initiation, initiationLen, 4, 99), some, no, no},
				{"a probe of a peer", ours, yes, yes, yes},
				{"a probe of nobody", unknown, some, some, some},
				{"an answer of STUN", answer, no, yes, no},
				{"a question of STUN", stun.Request(stun.TxID{1}), no, no, no},
				{"noise", []byte("noise and more of it"), no, no, no},
				{"nearly nothing", []byte("x"), no, no, no},
				{"nothing", nil, no, no, no},
				{"data that ends before its index", []byte{4, 0, 0, 0, 1}, no, no, no},
			} {
				for _, from := range []struct {
					who  string
					c    net.Conn
					want int
				}{{"the peer", peer, x.peer}, {"the server", server, x.server}, {"a stranger", stranger, x.stranger}} {
					const times = 200
					for range times {
						from.c.Write(x.b)
					}
					peer.Write(last) // loopback delivers in order and at once
					through := 0
					for got := receive(t, c); got != string(last); got = receive(t, c) {
						if through++; got != string(x.b) {
							t.Fatalf("%d other bytes", len(got))
						}
					}
					low, high := 0, 0
					if from.want == yes || from.want == some && tt.share == 1 {
						low, high = times, times
					} else if from.want == some {
						low, high = 1, times/4
					}
					if through < low || through > high {
						t.Errorf("%s from %s: %d of %d come through", x.what, from.who, through, times)
					}
				}
			}
			b.lower()
			stranger.Write([]byte("stranger"))
			if got := receive(t, c); got != "stranger" {
				t.Errorf("without the filter %q comes", got)
			}
			s := filterOf(at(peer), at(server), 1)
			s.indices = nil
			if err := b.raise(s); err != nil {
				t.Fatal(err)
			}
			peer.Write(message(data, 32, 4, 77))
			receive(t, c) // with no indices to tell by, the address is enough
		})
	}
}

// TestShieldHasRoom: as much as may be known makes a program that kernels take.
func TestShieldHasRoom(t *testing.T) {
	many := func(n int) (out []uint32) {
		for i := range n {
			out = append(out, uint32(i))
		}
		return out
	}
	addrs := func(n int, six bool) (out []netip.AddrPort) {
		for i := range n {
			ip := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
			if six {
				ip = netip.AddrFrom16([16]byte{0: 0x20, 14: byte(i >> 8), 15: byte(i)})
			}
			out = append(out, netip.AddrPortFrom(ip, 1))
		}
		return out
	}
	for _, six := range []bool{false, true} {
		n := 1
		if six {
			n = 2
		}
		s := sieve{peers: addrs(maxKnown/n, six), servers: addrs(maxServers/n, six), indices: many(maxIndices), probers: many(maxProbers), probeShare: 1, initShare: 1}
		raw, err := bpf.Assemble(s.program())
		if err != nil || len(raw)*8 > 20<<10 {
			t.Errorf("%d instructions, %v", len(raw), err)
		}
	}
}

func port(a net.Addr) string {
	_, p, _ := net.SplitHostPort(a.String())
	return p
}

func dialUDP(t *testing.T, to string) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", to)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func receive(t *testing.T, c *net.UDPConn) string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	b := make([]byte, 2000)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}
