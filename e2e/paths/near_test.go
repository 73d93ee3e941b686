package paths

import (
	"net/netip"
	"testing"
	"time"

	"enclave/agent/link"
	"enclave/agent/path"
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

// TestSpraying: a symmetric NAT with random ports against who lets in only what it has sent
// to, where both ask for it. Measured beside the theory of one attempt.
func TestSpraying(t *testing.T) {
	runs := 30
	if testing.Short() {
		runs = 2
	}
	for _, n := range []int{256, 1024} {
		first, tried, found := 0, 0, 0
		var took figures
		for i := range runs {
			scenario(t, baseSeed()+uint64(100*n+i), 1, func(w *world) {
				ask := func(c *link.Config) { c.Spray = n }
				alice := w.system("alice", w.lab.Host("alice", w.lab.Behind(natlab.Easy()), wireLink), ask)
				bob := w.system("bobby", w.lab.Host("bobby", w.lab.Behind(natlab.Hard()), wireLink), ask)
				time.Sleep(5 * time.Second)
				begun := time.Now()
				w.introduce(alice, bob)
				ab, ba := alice.flow(bob, 100*time.Millisecond), bob.flow(alice, 100*time.Millisecond)
				_, ok := w.until(12*time.Second, func() bool { return direct(alice, bob) })
				if tried++; ok {
					first++
				} else {
					_, ok = w.until(2*time.Minute, func() bool { return direct(alice, bob) })
				}
				if !ok {
					return
				}
				found++
				took.add(time.Since(begun))
				at := bob.route(alice).Route.Direct
				time.Sleep(2 * time.Minute) // it is kept, and the sockets beside it are not
				if r := bob.route(alice).Route; r.Direct != at || !direct(alice, bob) {
					w.t.Errorf("direct at %v, and later %v", at, r)
				}
				from := time.Now()
				time.Sleep(10 * time.Second)
				for _, f := range []*flow{ab, ba} {
					if lost := f.lost(from, time.Now().Add(-time.Second), 100*time.Millisecond); lost > 0 {
						w.t.Errorf("%d packets lost on the way that was found", lost)
					}
				}
				ab.end()
				ba.end()
			})
		}
		// What chance alone falls below less than once in a million times: of 30 first attempts
		// at 0.64, 6; and of 30 pairs with four attempts at 0.98 each, one.
		if tried == 30 && (first < 6 || n == path.MaxSpray && found < 29) {
			t.Errorf("%d ports: direct by the first attempt %d of %d, in the end %d", n, first, tried, found)
		}
		chance := sprayChance(n)
		t.Logf("%d ports, %d sockets: direct by the first attempt %d of %d, theory %.3f; in the end %d; %v; both random would be %.1g",
			n, min(n, path.MaxSides), first, tried, chance, found, &took, bothChance(n))
	}
}
