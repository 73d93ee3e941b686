package paths

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"enclave/e2e/natlab"
)

// kind is a network that a system can be on.
type kind struct {
	name  string
	v4    natlab.NATConfig // what stands between it and the internet, for IPv4
	no4   bool             // IPv4 goes nowhere
	v6    bool             // IPv6 works, behind a stateful firewall
	place func(lab *natlab.Lab, name string) *natlab.Host
}

// wire is the last mile of every system in the grid.
var wireLink = natlab.Over(natlab.LinkConfig{Latency: 10 * time.Millisecond, Jitter: 2 * time.Millisecond})

// behind is a kind with one router.
func behind(name string, c natlab.NATConfig) kind {
	return kind{name: name, v4: c, v6: c.IPv6, place: func(lab *natlab.Lab, host string) *natlab.Host {
		return lab.Host(host, lab.Router(host+"-nat", lab.Internet(), c).LAN(), wireLink)
	}}
}

// kinds is the grid's axis.
func kinds() []kind {
	restricted := natlab.NATConfig{Mapping: natlab.AddressDependent, Filtering: natlab.AddressDependent, Ports: natlab.PortRandom}
	openDependent := natlab.NATConfig{Mapping: natlab.AddressDependent, Filtering: natlab.EndpointIndependent, Ports: natlab.PortRandom}
	preserving := natlab.Hard()
	preserving.Ports = natlab.PortPreserving
	dual := natlab.Hard()
	dual.IPv6 = true
	lost := natlab.Easy()
	lost.IPv6, lost.IPv4Lost = true, true
	noUDP := natlab.UDPBlocked()
	all := []kind{
		{name: "public", v4: natlab.Open(), place: func(lab *natlab.Lab, name string) *natlab.Host {
			return lab.Host(name, lab.Internet(), wireLink)
		}},
		{name: "host-firewall", v4: natlab.Firewall(), place: func(lab *natlab.Lab, name string) *natlab.Host {
			return lab.Host(name, lab.Internet(), wireLink, natlab.Firewalled())
		}},
		behind("full-cone", natlab.FullCone()),
		behind("address-filter", natlab.EasyAF()),
		behind("port-filter", natlab.Easy()),
		behind("address-mapping", restricted),
		behind("address-mapping-open", openDependent),
		behind("symmetric-preserving", preserving),
		behind("symmetric-random", natlab.Hard()),
		{name: "carrier-over-home", v4: natlab.Chain(natlab.Easy(), natlab.CGNAT()), place: func(lab *natlab.Lab, name string) *natlab.Host {
			carrier := lab.Router(name+"-carrier", lab.Internet(), natlab.CGNAT())
			return lab.Host(name, lab.Router(name+"-home", carrier.LAN(), natlab.Easy()).LAN(), wireLink)
		}},
		behind("udp-blocked", noUDP),
		behind("only-tcp-443", natlab.OnlyTCP443()),
		{name: "ipv6-only", no4: true, v6: true, place: func(lab *natlab.Lab, name string) *natlab.Host {
			c := natlab.Easy()
			c.IPv6 = true
			return lab.Host(name, lab.Router(name+"-router", lab.Internet(), c).LAN(), wireLink, natlab.Addresses(0))
		}},
		behind("dual-stack", dual),
		behind("ipv4-lost", lost),
	}
	all[len(all)-1].no4 = true
	return all
}

// possible is the theory: what a pair can have at best.
func possible(a, b kind) bool {
	return !a.no4 && !b.no4 && natlab.DirectPossible(a.v4, b.v4) || a.v6 && b.v6
}

// TestGrid puts every kind against every other. A pair is direct exactly where the
// theory permits it, and never without a way.
func TestGrid(t *testing.T) {
	t.Logf("seed %d", baseSeed())
	var all, straight figures
	direct, relayed := 0, 0
	list := kinds()
	for i, a := range list {
		for j, b := range list[i:] {
			if testing.Short() && (7*i+3*j)%5 != 0 {
				continue
			}
			t.Run(a.name+"~"+b.name, func(t *testing.T) {
				scenario(t, baseSeed()+uint64(100*i+j), 1, func(w *world) {
					alice, bob := w.system("alice", a.place(w.lab, "alice")), w.system("bobby", b.place(w.lab, "bobby"))
					first, took := w.meet(alice, bob, possible(a, b))
					all.add(first)
					if took > 0 {
						straight.add(took)
						direct++
					} else {
						relayed++
					}
				})
			})
		}
	}
	t.Logf("%d kinds, %d pairs direct, %d by relay as they must; first byte %v; direct %v", len(list), direct, relayed, &all, &straight)
}

// meet introduces two systems, has them talk, and compares with want: whether they
// become direct. It reports when the first byte had come both ways, and when both ways
// were direct.
func (w *world) meet(a, b *system, want bool) (first, took time.Duration) {
	t := w.t
	time.Sleep(5 * time.Second) // both have been up for a while
	begun := time.Now()
	w.introduce(a, b)
	ab, ba := a.flow(b, 20*time.Millisecond), b.flow(a, 20*time.Millisecond)
	first, ok := w.until(20*time.Second, func() bool {
		return len(a.heard.since(begun)) > 0 && len(b.heard.since(begun)) > 0
	})
	if !ok {
		t.Errorf("nothing came within %v", first)
	}
	if first > time.Second {
		t.Logf("the first byte took %v", first)
		for _, s := range []*system{a, b} {
			t.Logf("%s %x %v %+v %+v", s.name, s.keys.WireGuard[:2], begun, s.routes.list, s.link.Drops())
		}
	}
	w.until(30*time.Second-time.Since(begun), func() bool { return direct(a, b) })
	if got := direct(a, b); got != want {
		t.Errorf("direct: %v, the theory says %v; %s sees %v (%s), %s sees %v (%s)", got, want,
			a.name, a.route(b).Route, a.route(b).Why, b.name, b.route(a).Route, b.route(a).Why)
	} else if got {
		took = time.Since(begun)
	}
	// It stays as it is, and nothing is lost on the way that was found.
	time.Sleep(time.Second)
	from := time.Now()
	time.Sleep(10 * time.Second)
	until := time.Now().Add(-time.Second)
	for _, f := range []*flow{ab, ba} {
		if lost := f.lost(from, until, 20*time.Millisecond); lost > 0 {
			t.Errorf("%s to %s: %d packets lost in %v on a quiet path", f.from.name, f.to.name, lost, until.Sub(from))
		}
		f.end()
	}
	if direct(a, b) != want {
		t.Errorf("it did not stay: direct %v", direct(a, b))
	}
	return first, took
}

// figures are durations of which medians and the like are asked.
type figures []time.Duration

func (f *figures) add(d time.Duration) { *f = append(*f, d) }

func (f figures) at(p float64) time.Duration {
	if len(f) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(f))
	return s[min(len(s)-1, int(p*float64(len(s))))].Round(time.Millisecond)
}

func (f *figures) String() string {
	return fmt.Sprintf("p50 %v, p99 %v, max %v (n %d)", f.at(.5), f.at(.99), f.at(1), len(*f))
}
