package natlab

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var behaviours = []Behaviour{EndpointIndependent, AddressDependent, AddressAndPortDependent}

// everyNAT is all mapping and filtering behaviours, and what is special.
func everyNAT() []NATConfig {
	var all []NATConfig
	for _, m := range behaviours {
		for _, f := range behaviours {
			all = append(all, NATConfig{Mapping: m, Filtering: f, Ports: PortRandom})
		}
	}
	return append(all, Open(), Firewall(), UDPBlocked())
}

// TestTheoryHoldsInTheLab punches holes between every pair of NATs and compares what
// happened with what DirectPossible says.
func TestTheoryHoldsInTheLab(t *testing.T) {
	nats := everyNAT()
	for i, a := range nats {
		for _, b := range nats[i:] {
			synctest.Test(t, func(t *testing.T) {
				lab := New(Config{Seed: 3}).Start()
				defer lab.Close()
				got := punch(t, lab, lab.Behind(a), lab.Behind(b))
				want := DirectPossible(a, b)
				if got != want {
					t.Errorf("%s/%s to %s/%s: punched %v, theory says %v",
						a.Mapping, a.Filtering, b.Mapping, b.Filtering, got, want)
				}
				if DirectPossible(b, a) != want {
					t.Error("the theory depends on the order")
				}
			})
		}
	}
}

func TestTheoryHoldsForChains(t *testing.T) {
	home := Easy()
	for _, carrier := range []NATConfig{CGNAT(), Hard(), Easy()} {
		for _, far := range []NATConfig{FullCone(), EasyAF(), Easy(), Hard()} {
			synctest.Test(t, func(t *testing.T) {
				lab := New(Config{Seed: 4}).Start()
				defer lab.Close()
				nested := lab.Router("home", lab.Behind(carrier), home).LAN()
				got, want := punch(t, lab, nested, lab.Behind(far)), DirectPossible(Chain(home, carrier), far)
				if got != want {
					t.Errorf("%+v behind %+v: punched %v, theory says %v", home, carrier, got, want)
				}
			})
		}
	}
}

// punch lets two hosts behave as DirectPossible describes and reports whether both
// got an answer to a probe of theirs that had used a direct path.
func punch(t *testing.T, lab *Lab, na, nb *Network) bool {
	t.Helper()
	wire := Over(LinkConfig{Latency: 10 * time.Millisecond})
	stun := lab.Host("stun", lab.Internet(), wire)
	server := listen(t, stun, 3478)
	go func() {
		var b [64]byte
		for {
			_, from, err := server.ReadFromUDPAddrPort(b[:])
			if err != nil {
				return
			}
			server.WriteToUDPAddrPort([]byte("seen "+from.String()), from)
		}
	}()
	a, b := &puncher{t: t, conn: listen(t, lab.Host("a", na, wire), 4000)}, &puncher{t: t, conn: listen(t, lab.Host("b", nb, wire), 4000)}
	for _, p := range []*puncher{a, b} {
		send(t, p.conn, at(stun, 3478), "who am i")
		if text, _, err := receive(p.conn); err == nil {
			p.self = netip.MustParseAddrPort(strings.TrimPrefix(text, "seen "))
		}
	}
	if !a.self.IsValid() || !b.self.IsValid() {
		return false
	}
	a.peer, b.peer = b.self, a.self
	done := make(chan struct{}, 2)
	for _, p := range []*puncher{a, b} {
		go func() {
			p.run()
			done <- struct{}{}
		}()
	}
	<-done
	<-done
	return a.ok && b.ok
}

type puncher struct {
	t          *testing.T
	conn       *UDPConn
	self, peer netip.AddrPort
	ok         bool
}

// run probes ten times. A probe carries its number and its target; an answer
// repeats both. A path counts when the same target answers from itself.
func (p *puncher) run() {
	var buf [128]byte
	for n := range 10 {
		p.conn.WriteToUDPAddrPort(fmt.Appendf(nil, "probe %d %v", n, p.peer), p.peer)
		p.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		for {
			n, from, err := p.conn.ReadFromUDPAddrPort(buf[:])
			if err != nil {
				break
			}
			text := string(buf[:n])
			if target, is := strings.CutPrefix(text, "answer "); is {
				p.ok = p.ok || strings.HasSuffix(target, " "+from.String())
				continue
			}
			p.peer = from
			p.conn.WriteToUDPAddrPort([]byte(strings.Replace(text, "probe", "answer", 1)), from)
		}
	}
}
