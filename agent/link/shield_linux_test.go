package link

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/bpf"

	"enclave/wire/disco"
)

// TestShield gives the kernel the filter: who is known comes through, by either family,
// a stranger does not, but for a share of its probes; and without it everybody does.
func TestShield(t *testing.T) {
	for _, tt := range []struct {
		addr  string
		share int
	}{{"127.0.0.1", probeShare}, {"::1", probeShare}, {"127.0.0.1", 1}} {
		addr, share := tt.addr, tt.share
		t.Run(fmt.Sprintf("%s %d", addr, share), func(t *testing.T) {
			c, err := net.ListenUDP("udp", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			to := net.JoinHostPort(addr, port(c.LocalAddr()))
			friend, stranger := dialUDP(t, to), dialUDP(t, to)
			b := newBatcher(c)
			known := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("[2001:db8::1]:1"),
				friend.LocalAddr().(*net.UDPAddr).AddrPort(), netip.MustParseAddrPort("192.0.2.1:2"), netip.MustParseAddrPort("[2001:db8::1]:2")}
			if err := b.raise(known, share); err != nil {
				t.Skipf("this kernel takes no filter: %v", err)
			}
			probe := disco.NewPair(disco.PrivateKey{1}, disco.PrivateKey{2}.Public()).Seal(nil, disco.Ping{Tx: disco.TxID{1}})
			const probes = 400
			for range 5 {
				stranger.Write([]byte{1, 0, 0, 0, 's'})
				stranger.Write([]byte("x"))
				stranger.Write(nil)
			}
			for range probes {
				stranger.Write(probe)
			}
			friend.Write([]byte("friend"))
			// Loopback delivers in order and at once, so the last to come is the friend's.
			through := 0
			for {
				got := receive(t, c)
				if got == "friend" {
					break
				}
				if through++; got != string(probe) {
					t.Errorf("a stranger's %d bytes come through", len(got))
				}
			}
			if through == 0 || (share > 1 && through > probes/4) || (share == 1 && through != probes) {
				t.Errorf("%d of %d probes of a stranger come through; want one of %d", through, probes, share)
			}
			b.lower()
			stranger.Write([]byte("stranger"))
			if got := receive(t, c); got != "stranger" {
				t.Errorf("without the filter %q comes", got)
			}
		})
	}
}

// TestShieldHasRoom: as many addresses as may be known make a program that kernels take.
func TestShieldHasRoom(t *testing.T) {
	var known []netip.AddrPort
	for i := range maxKnown / 2 {
		known = append(known, netip.AddrPortFrom(netip.AddrFrom16([16]byte{0: 0x20, 14: byte(i >> 8), 15: byte(i)}), 1))
	}
	for range 2 { // all IPv6, then all IPv4
		raw, err := bpf.Assemble(shieldProgram(known, probeShare))
		if err != nil || len(raw)*8 > 20<<10 {
			t.Errorf("%d addresses: %d instructions, %v", len(known), len(raw), err)
		}
		known = known[:0]
		for i := range maxKnown {
			known = append(known, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1))
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
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 2000)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}
