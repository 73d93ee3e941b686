package natlab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// arrivals sends 400 numbered packets 1 ms apart over c and lists what came out.
func arrivals(t *testing.T, seed uint64, c LinkConfig) (got []string) {
	synctest.Test(t, func(t *testing.T) {
		lab := New(Config{Seed: seed}).Start()
		defer lab.Close()
		a, b := lab.Host("a", lab.Internet(), Over(c)), lab.Host("b", lab.Internet())
		start := time.Now()
		done := make(chan struct{})
		cb := listen(t, b, 7)
		go func() {
			defer close(done)
			for {
				text, _, err := receive(cb)
				if err != nil {
					return
				}
				got = append(got, fmt.Sprint(text, "@", time.Since(start)))
			}
		}()
		ca := listen(t, a, 0)
		for i := range 400 {
			send(t, ca, at(b, 7), fmt.Sprint(i))
			time.Sleep(time.Millisecond)
		}
		<-done
	})
	return got
}

func TestSeedDecidesEverything(t *testing.T) {
	c := LinkConfig{
		Latency: 10 * time.Millisecond, Jitter: 5 * time.Millisecond,
		Loss: 0.1, Duplicate: 0.1, Reorder: 0.1, Corrupt: 0.1,
	}
	first := arrivals(t, 7, c)
	if !slices.Equal(first, arrivals(t, 7, c)) {
		t.Error("the same seed gave two outcomes")
	}
	if slices.Equal(first, arrivals(t, 8, c)) {
		t.Error("another seed gave the same outcome")
	}
}

func TestLinkFaults(t *testing.T) {
	order := func(got []string) (sorted bool, unique int) {
		var ids []int
		for _, g := range got {
			var id int
			fmt.Sscan(g, &id)
			ids = append(ids, id)
		}
		sorted = slices.IsSorted(ids)
		slices.Sort(ids)
		return sorted, len(slices.Compact(ids))
	}
	for _, c := range []struct {
		name       string
		cfg        LinkConfig
		sorted     bool
		fewer, dup bool
	}{
		{"perfect", LinkConfig{}, true, false, false},
		{"jitter keeps the order", LinkConfig{Jitter: 20 * time.Millisecond}, true, false, false},
		{"loss", LinkConfig{Loss: 0.2}, true, true, false},
		{"corruption is caught by checksums", LinkConfig{Corrupt: 0.2}, true, true, false},
		{"duplicates", LinkConfig{Duplicate: 0.2}, true, false, true},
		{"reordering", LinkConfig{Reorder: 0.2}, false, false, false},
	} {
		got := arrivals(t, 1, c.cfg)
		sorted, unique := order(got)
		if sorted != c.sorted || (unique < 400) != c.fewer || (len(got) > unique) != c.dup {
			t.Errorf("%s: %d arrived, %d different, sorted %v", c.name, len(got), unique, sorted)
		}
		if c.fewer && (unique < 280 || unique > 360) {
			t.Errorf("%s: %d of 400 arrived, want about 320", c.name, unique)
		}
	}
}

func TestRateAndQueue(t *testing.T) {
	bubble(t, func(t *testing.T, lab *Lab) {
		// 1028 bytes at 1 Mbit/s take 8.224 ms; 100 ms of queue hold 13 of them.
		a := lab.Host("a", lab.Internet(), Over(LinkConfig{Rate: 1_000_000}))
		b := lab.Host("b", lab.Internet())
		ca, cb := listen(t, a, 0), listen(t, b, 7)
		start := time.Now()
		for range 20 {
			send(t, ca, at(b, 7), string(make([]byte, 1000)))
		}
		n := 0
		for {
			if _, _, err := receive(cb); err != nil {
				break
			}
			n++
			if got, want := time.Since(start), time.Duration(n)*8224*time.Microsecond; got != want {
				t.Fatalf("packet %d at %v, want %v", n, got, want)
			}
		}
		if n != 13 {
			t.Errorf("%d packets arrived", n)
		}
	})
}

func TestPathMTU(t *testing.T) {
	for _, blackhole := range []bool{false, true} {
		bubble(t, func(t *testing.T, lab *Lab) {
			narrow := LinkConfig{MTU: 1300, Blackhole: blackhole}
			cfg := Easy()
			cfg.Uplink, cfg.IPv6 = narrow, true
			a := lab.Host("a", lab.Router("nat", lab.Internet(), cfg).LAN())
			b := lab.Host("b", lab.Internet(), Over(narrow), DualStack())
			out := lab.Host("out", lab.Internet(), DualStack())
			// From a through its own router, and from out down to b's link.
			for _, way := range [][2]*Host{{a, out}, {out, b}} {
				for i, head := range []int{28, 48} {
					from, to := listen(t, way[0], 0), listen(t, way[1], 7)
					dst := netip.AddrPortFrom(way[1].Addrs()[i], 7)
					send(t, from, dst, string(make([]byte, 1301-head)))
					mustNotReceive(t, to)
					_, err := from.WriteToUDPAddrPort(make([]byte, 1301-head), dst)
					if errors.Is(err, syscall.EMSGSIZE) == blackhole {
						t.Errorf("%v to %v: the second write: %v", way[0], dst, err)
					}
					send(t, from, dst, string(make([]byte, 1300-head)))
					mustReceive(t, to, string(make([]byte, 1300-head)))
					from.Close()
					to.Close()
				}
			}
			if lab.Drops()[DropMTU] < 4 {
				t.Errorf("drops %v", lab.Drops())
			}
		})
	}
}

// TestPathMTUBehindNAT: the link that is too narrow lies behind the receiver's NAT,
// whose router has to tell a sender outside.
func TestPathMTUBehindNAT(t *testing.T) {
	bubble(t, func(t *testing.T, lab *Lab) {
		inside := lab.Host("inside", lab.Behind(FullCone()), Over(LinkConfig{MTU: 1300}))
		c, far := listen(t, inside, 4000), listen(t, lab.Host("far", lab.Internet()), 7)
		send(t, c, at(far.host, 7), "open")
		outside := mustReceive(t, far, "open")
		send(t, far, outside, string(make([]byte, 1300)))
		mustNotReceive(t, c)
		if got := far.host.PathMTU(outside.Addr()); got != 1300 {
			t.Errorf("the sender believes in %d bytes", got)
		}
	})
}

// TestLinksHaveTheirOwnLuck: with one source for all, every link would lose the same
// packets.
func TestLinksHaveTheirOwnLuck(t *testing.T) {
	lab := New(Config{Seed: 1})
	if a, b := lab.rng("a/up").Uint64(), lab.rng("b/up").Uint64(); a == b {
		t.Error("two links roll the same dice")
	}
}

func TestTooBigForTheOwnLink(t *testing.T) {
	bubble(t, func(t *testing.T, lab *Lab) {
		c := listen(t, lab.Host("a", lab.Internet()), 0)
		if _, err := c.WriteToUDPAddrPort(make([]byte, 1473), netip.MustParseAddrPort("203.0.113.99:1")); !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("write: %v", err)
		}
	})
}

func TestTTLStopsLoops(t *testing.T) {
	bubble(t, func(t *testing.T, lab *Lab) {
		a, b := lab.Host("a", lab.Behind(Easy())), lab.Host("b", lab.Internet())
		c := listen(t, b, 7)
		p := appendUDP(nil, at(a, 4000), at(b, 7), []byte("old"))
		p[8], p[10], p[11] = 2, 0, 0
		s := fold(sum(0, p[:20]))
		p[10], p[11] = byte(s>>8), byte(s)
		if err := a.Inject(p); err != nil {
			t.Fatal(err)
		}
		mustNotReceive(t, c)
		if d := lab.Drops(); d[DropTTL] != 1 {
			t.Errorf("drops %v", d)
		}
	})
}
