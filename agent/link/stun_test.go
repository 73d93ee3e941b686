package link

import (
	"net/netip"
	"testing"
	"time"

	"tailscale.com/net/stun"
)

func TestSTUNAnswersCountOnce(t *testing.T) {
	l, _, _, _ := still(t)
	server, liar := netip.MustParseAddrPort("192.0.2.1:3478"), netip.MustParseAddrPort("192.0.2.66:3478")
	ours := netip.MustParseAddrPort("198.51.100.1:20000")
	tx := stun.NewTxID()
	l.stun.asked = map[stun.TxID]stunQuestion{tx: {"r1", server, time.Now()}}
	l.stun.answers = map[netip.AddrPort]netip.AddrPort{}
	l.hearSTUN(stun.Response(tx, netip.MustParseAddrPort("203.0.113.66:6")), liar)
	l.hearSTUN(stun.Response(stun.NewTxID(), ours), server)
	l.hearSTUN(stun.Response(tx, ours), server)
	l.hearSTUN(stun.Response(tx, netip.MustParseAddrPort("203.0.113.66:6")), server)
	if got := l.stun.answers; len(got) != 1 || got[server] != ours {
		t.Errorf("answers %v; want only the server's first", got)
	}
	if n := l.Drops().BadSTUN; n != 3 {
		t.Errorf("%d answers dropped; want 3", n)
	}
}

func TestKindOfNAT(t *testing.T) {
	l, _, _, _ := still(t) // its socket has port 1
	l.local = []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}
	addrs := func(s ...string) (out []netip.AddrPort) {
		for _, a := range s {
			out = append(out, netip.MustParseAddrPort(a))
		}
		return out
	}
	for _, tt := range []struct {
		name      string
		four, six []netip.AddrPort
		want      string
	}{
		{"no answer", nil, nil, NATBlocked},
		{"own address", addrs("192.0.2.7:1"), nil, NATNone},
		{"own address, other port", addrs("192.0.2.7:2"), nil, NATEasy},
		{"loopback", addrs("127.0.0.1:1"), nil, NATNone},
		{"one mapping", addrs("198.51.100.1:9"), nil, NATEasy},
		{"two mappings", addrs("198.51.100.1:9", "198.51.100.1:10"), nil, NATHard},
		{"two addresses", addrs("198.51.100.1:9", "198.51.100.2:9"), nil, NATHard},
		{"IPv6 alone", nil, addrs("[2001:db8::7]:1"), NATNone},
		{"IPv4 decides", addrs("198.51.100.1:9"), addrs("[2001:db8::7]:1"), NATEasy},
	} {
		if got := l.kindOfNAT(tt.four, tt.six); got != tt.want {
			t.Errorf("%s: %q; want %q", tt.name, got, tt.want)
		}
	}
}

func TestSystemNetwork(t *testing.T) {
	n := System()
	a, err := n.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, ip := range a {
		if ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.Is4In6() {
			t.Errorf("%v is no candidate", ip)
		}
	}
	to, err := resolve(t.Context(), n, "192.0.2.1:3478", 2)
	if err != nil || len(to) != 1 || to[0] != netip.MustParseAddrPort("192.0.2.1:3478") {
		t.Errorf("resolve: %v, %v", to, err)
	}
	for _, bad := range []string{"192.0.2.1", "192.0.2.1:x", "192.0.2.1:70000"} {
		if got, err := resolve(t.Context(), n, bad, 2); err == nil {
			t.Errorf("%s resolved to %v", bad, got)
		}
	}
}
