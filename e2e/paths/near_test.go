package paths

import (
	"net/netip"
	"testing"
	"time"

	"enclave/agent/link"
	"enclave/e2e/natlab"
)

// TestNearEachOther is about pairs that share a router, where the theory of two NATs says
// nothing, and about the choice among several addresses that work.
func TestNearEachOther(t *testing.T) {
	t.Logf("seed %d", baseSeed())
	same := netip.MustParsePrefix("192.168.7.0/24")
	six := natlab.FullCone()
	six.IPv6 = true
	noHairpin := natlab.CGNAT()
	noHairpin.Hairpin = false
	homes := func(carrier, home natlab.NATConfig) func(lab *natlab.Lab) (a, b *natlab.Network) {
		return func(lab *natlab.Lab) (a, b *natlab.Network) {
			c := lab.Router("carrier", lab.Internet(), carrier).LAN()
			return lab.Router("home-a", c, home).LAN(), lab.Router("home-b", c, home).LAN()
		}
	}
	oneLAN := func(c natlab.NATConfig) func(lab *natlab.Lab) (a, b *natlab.Network) {
		return func(lab *natlab.Lab) (a, b *natlab.Network) {
			n := lab.Behind(c)
			return n, n
		}
	}
	overlapping := func(c natlab.NATConfig) func(lab *natlab.Lab) (a, b *natlab.Network) {
		c.Prefix = same
		return func(lab *natlab.Lab) (a, b *natlab.Network) { return lab.Behind(c), lab.Behind(c) }
	}
	private := func(a netip.AddrPort) bool { return a.Addr().IsPrivate() }
	public := func(a netip.AddrPort) bool { return !a.Addr().IsPrivate() && a.Addr().Is4() }
	for _, tt := range []struct {
		name  string
		place func(*natlab.Lab) (a, b *natlab.Network)
		route func(netip.AddrPort) bool // nil: by relay
	}{
		{"one LAN, a router that hairpins", oneLAN(natlab.FullCone()), private},
		{"one LAN, a router that does not", oneLAN(natlab.Easy()), private},
		{"one LAN behind a symmetric NAT", oneLAN(natlab.Hard()), private},
		{"one LAN without UDP to the world", oneLAN(natlab.UDPBlocked()), private},
		{"two homes of one carrier that hairpins", homes(natlab.CGNAT(), natlab.Easy()), func(a netip.AddrPort) bool { return a.Addr().Is4() }},
		{"two homes of one carrier that does not", homes(noHairpin, natlab.Easy()), nil},
		{"two homes with the same addresses", overlapping(natlab.Easy()), public},
		{"two homes with the same addresses and IPv6", overlapping(six), func(a netip.AddrPort) bool { return a.Addr().Is6() }},
		{"IPv6 before IPv4", func(lab *natlab.Lab) (a, b *natlab.Network) { return lab.Behind(six), lab.Behind(six) },
			func(a netip.AddrPort) bool { return a.Addr().Is6() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			scenario(t, baseSeed(), 1, func(w *world) {
				na, nb := tt.place(w.lab)
				alice, bob := w.system("alice", w.lab.Host("alice", na, wireLink)), w.system("bobby", w.lab.Host("bobby", nb, wireLink))
				first, took := w.meet(alice, bob, tt.route != nil)
				t.Logf("first byte after %v, direct after %v", first, took)
				if tt.route == nil {
					return
				}
				w.until(2*time.Minute, func() bool { return tt.route(alice.route(bob).Route.Direct) && tt.route(bob.route(alice).Route.Direct) })
				for _, r := range []netip.AddrPort{alice.route(bob).Route.Direct, bob.route(alice).Route.Direct} {
					if !tt.route(r) {
						t.Errorf("the route is %v", r)
					}
				}
			})
		})
	}
}

// TestPortPrediction: a symmetric NAT that counts upwards cannot be crossed by who lets in
// only ports that it has sent to, unless it guesses; and guessing is off by default.
func TestPortPrediction(t *testing.T) {
	for _, ports := range []natlab.PortAllocation{natlab.PortSequential, natlab.PortPreserving, natlab.PortRandom} {
		for _, predict := range []int{0, 64} {
			scenario(t, baseSeed(), 1, func(w *world) {
				hard := natlab.Hard()
				hard.Ports = ports
				ask := func(c *link.Config) { c.Predict = predict }
				alice := w.system("alice", w.lab.Host("alice", w.lab.Behind(natlab.Easy()), wireLink), ask)
				bob := w.system("bobby", w.lab.Host("bobby", w.lab.Behind(hard), wireLink), ask)
				_, took := w.meet(alice, bob, predict > 0 && ports != natlab.PortRandom)
				t.Logf("ports %d, %d guesses a round: direct after %v", ports, predict, took)
			})
		}
	}
}
