package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"enclave/wire"
	"enclave/wire/names"
)

// dns is a ground whose resolver says what it is told to.
type dns struct {
	ground
	mu    sync.Mutex // guards what follows
	addrs []netip.Addr
	ttl   time.Duration
	err   error
	asked int
}

func (d *dns) Lookup(context.Context, string) ([]netip.Addr, time.Duration, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	return d.addrs, d.ttl, d.err
}

func (d *dns) say(ttl time.Duration, err error, addrs ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addrs, d.ttl, d.err = nil, ttl, err
	for _, a := range addrs {
		d.addrs = append(d.addrs, netip.MustParseAddr(a))
	}
}

// named is a gateway for files.example.com in 192.168.1.0/24 and 10.0.0.0/8.
func named(t *testing.T, d *dns, routes ...wire.Route) (g *Gateway, within *[]netip.Prefix) {
	within = &[]netip.Prefix{netip.MustParsePrefix("192.168.1.0/24"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("0.0.0.0/1")}
	g = New(Config{Network: d, Back: &d.ground, Overlay: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10")},
		Named: func(_ wire.Proto, _, dst netip.AddrPort) (Named, bool) {
			return Named{"files.example.com", *within}, dst.Addr() == names.StandIn("files.example.com") && *within != nil
		}})
	if routes != nil {
		g.SetRoutes(NewRoutes(routes))
	}
	t.Cleanup(func() { g.Close() })
	return g, within
}

func files(proto wire.Proto) flowKey {
	return flowKey{proto, at("[fd00::1]:9"), netip.AddrPortFrom(names.StandIn("files.example.com"), 80)}
}

// TestANameLeadsOnlyWherePolicySays, whatever a hostile resolver answers.
func TestANameLeadsOnlyWherePolicySays(t *testing.T) {
	d := &dns{ground: ground{own: []netip.Addr{netip.MustParseAddr("192.168.1.1")}}}
	routes := []wire.Route{route("192.168.1.0/24", ""), route("172.16.5.0/24", "10.5.5.0/24"), route("0.0.0.0/1", "")}
	for answer, want := range map[string]bool{
		"192.168.1.9": true, "172.16.5.9": true, "8.8.8.8": true, // the second is shown as 10.5.5.9
		"192.168.2.9": false, "10.5.5.9": true, "172.16.6.9": false, // 10.5.5.9 by the route 0.0.0.0/1
		"192.168.1.1": false, "127.0.0.1": false, "100.64.0.7": false, "169.254.169.254": false, "::1": false, "fe80::1": false,
		"::ffff:127.0.0.1": false, "::ffff:192.168.1.9": true, "224.0.0.1": false, "0.0.0.0": false, "::ffff:0:0": false,
		names.StandIn("files.example.com").String(): false,
	} {
		g, _ := named(t, d, routes...)
		d.say(time.Minute, nil, answer)
		list, _, err := g.targets(t.Context(), files(wire.TCP))
		if (err == nil) != want || want && list[0] != netip.MustParseAddr(answer).Unmap() {
			t.Errorf("%s leads to %v, %v", answer, list, err)
		}
	}
	g, within := named(t, d, routes...)
	*within = nil
	if list, _, err := g.targets(t.Context(), files(wire.TCP)); err == nil {
		t.Errorf("a name of no grant leads to %v", list)
	}
	if _, err := g.target(names.StandIn("files.example.com")); err == nil {
		t.Error("a stand-in was taken for an address")
	}
}

// TestANameLeadsThroughARoute: what the policy says is compared with what senders see.
func TestANameLeadsThroughARoute(t *testing.T) {
	as := NewRoutes([]wire.Route{route("172.16.5.0/24", "10.5.5.0/24"), route("192.168.1.0/24", "")})
	for _, c := range []struct {
		routes Routes
		within string
		real   string
		want   bool
	}{
		{as, "10.5.5.0/24", "172.16.5.9", true},
		{as, "172.16.5.0/24", "172.16.5.9", false}, // as nobody knows it
		{as, "10.6.0.0/16", "172.16.5.9", false},
		{as, "10.5.5.0/24", "10.5.5.9", false},
		{as, "192.168.1.0/28", "192.168.1.9", true},
		{as, "192.168.1.0/28", "192.168.1.99", false},
		{as, "0.0.0.0/0", "192.168.2.9", false}, // in no route
		{NewRoutes([]wire.Route{}), "0.0.0.0/0", "192.168.1.9", false},
		{Routes{}, "192.168.1.0/28", "192.168.1.9", true},
		{Routes{}, "192.168.1.0/28", "192.168.1.99", false},
	} {
		if got := c.routes.leads(netip.MustParseAddr(c.real), []netip.Prefix{netip.MustParsePrefix(c.within)}); got != c.want {
			t.Errorf("%s within %s by %v: %t", c.real, c.within, c.routes.list, got)
		}
	}
}

// TestWhoResolvesNothing leads nowhere, and says why: a host without a resolver, an agent
// that knows no names, a resolver that fails, a name without addresses.
func TestWhoResolvesNothing(t *testing.T) {
	up := &dns{}
	up.say(time.Minute, nil, "192.168.1.9")
	empty, down := new(dns), &dns{err: errors.New("the resolver is down")}
	knows := func(wire.Proto, netip.AddrPort, netip.AddrPort) (Named, bool) {
		return Named{"files.example.com", []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}, true
	}
	knowsNot := func(p wire.Proto, src, dst netip.AddrPort) (Named, bool) { n, _ := knows(p, src, dst); return n, false }
	for want, cfg := range map[string]Config{
		"stands for no name":              {Network: up, Named: knowsNot},
		"":                                {Network: up, Named: knows},
		"this gateway resolves no names":  {Network: up},
		"this gateway resolves no names ": {Network: new(ground), Named: knows},
		"the resolver is down":            {Network: down, Named: knows},
		"it has no address":               {Network: empty, Named: knows},
	} {
		g := New(cfg)
		list, _, err := g.targets(t.Context(), files(wire.TCP))
		if (err == nil) != (want == "") || (list == nil) != (want != "") || err != nil && !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%v, %v; want %q", list, err, want)
		}
		g.Close()
	}
}

// TestAnAnswerIsBelievedForItsTTL and then asked for again; one flow asks for all.
func TestAnAnswerIsBelievedForItsTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(dns)
		g, _ := named(t, d)
		ask := func() (list []netip.Addr) { list, _, _ = g.targets(t.Context(), files(wire.TCP)); return list }
		want := func(asked int, addrs ...string) {
			t.Helper()
			if got := fmt.Sprint(ask()); got != fmt.Sprint(addrs) || d.asked != asked {
				t.Errorf("%s after %d lookups, want %v after %d", got, d.asked, addrs, asked)
			}
		}
		d.say(time.Minute, nil, "192.168.1.9")
		want(1, "192.168.1.9")
		d.say(0, nil, "192.168.1.8")
		time.Sleep(59 * time.Second)
		want(1, "192.168.1.9")
		time.Sleep(time.Second)
		want(2, "192.168.1.8")
		time.Sleep(minPin - 1) // a TTL of 0 is no reason to ask for each packet
		want(2, "192.168.1.8")
		d.say(0, errors.New("the resolver is down"))
		time.Sleep(time.Nanosecond)
		want(3, "192.168.1.8") // for pinStale
		time.Sleep(pinStale + pinRetry)
		want(4)
		d.say(24*time.Hour, nil, "192.168.1.7")
		time.Sleep(pinRetry)
		want(5, "192.168.1.7")
		time.Sleep(maxPin)
		want(6, "192.168.1.7")
	})
}

// TestAFlowEndsWithTheAnswer that it went by, or with the grant.
func TestAFlowEndsWithTheAnswer(t *testing.T) {
	for what, end := range map[string]func(d *dns, g *Gateway, within *[]netip.Prefix){
		"the answer changes": func(d *dns, _ *Gateway, _ *[]netip.Prefix) {
			d.say(time.Minute, nil, "192.168.1.8")
			time.Sleep(time.Minute)
		},
		"the name is gone": func(d *dns, _ *Gateway, _ *[]netip.Prefix) { d.say(0, nil); time.Sleep(time.Minute) },
		"the resolver is down for long": func(d *dns, _ *Gateway, _ *[]netip.Prefix) {
			d.say(0, errors.New("down"))
			time.Sleep(time.Minute + pinStale + 2*pinRetry)
		},
		"the policy's subnets change": func(_ *dns, g *Gateway, within *[]netip.Prefix) {
			*within = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
			g.Review()
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := new(dns)
				g, within := named(t, d)
				d.say(time.Minute, nil, "192.168.1.9")
				near, sender := net.Pipe()
				done := make(chan struct{})
				go func() {
					defer close(done)
					k := files(wire.TCP)
					g.ForwardTCP(k.src, k.dst, func() (net.Conn, error) { return near, nil }, func() { t.Error("refused") })
				}()
				sender.Write([]byte("x"))
				if d.last() != "192.168.1.9:80" {
					t.Errorf("dialled %s", d.last())
				}
				io.ReadFull(d.far[0], make([]byte, 1))
				time.Sleep(time.Minute + time.Second) // the same answer again: nothing ends
				synctest.Wait()
				select {
				case <-done:
					t.Fatal("the flow ended under an answer that stands")
				default:
				}
				began := time.Now()
				end(d, g, within)
				<-done
				if what == "the policy's subnets change" && time.Since(began) != 0 {
					t.Errorf("the flow outlives its policy by %s", time.Since(began))
				}
				if _, err := sender.Write([]byte("x")); err == nil {
					t.Error("the sender's end goes on")
				}
				g.Close()
			})
		})
	}
}

// TestNamesAreBounded: those that nobody asks for give way, and no more are taken in.
func TestNamesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, p := new(dns), new(pins)
		d.say(time.Minute, nil, "192.168.1.9")
		for i := range maxPins {
			p.lookup(t.Context(), d, fmt.Sprint(i))
		}
		if _, _, err := p.lookup(t.Context(), d, "one more"); err == nil || len(p.byName) != maxPins {
			t.Errorf("%v with %d names", err, len(p.byName))
		}
		time.Sleep(time.Minute)
		if _, _, err := p.lookup(t.Context(), d, "one more"); err != nil || len(p.byName) != 1 {
			t.Errorf("%v with %d names", err, len(p.byName))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := p.lookup(ctx, &dns{err: ctx.Err()}, "cancelled"); err == nil {
			t.Error("no error")
		}
	})
}
