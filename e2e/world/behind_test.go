package world

import (
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"enclave/e2e/natlab"
	"enclave/wire"
	"enclave/wire/api"
)

// TestHoursEndAFlowThroughAGateway: the edge of a window cuts an open flow at both ends.
func TestHoursEndAFlowThroughAGateway(t *testing.T) {
	t.Parallel() // it waits for the next minute
	var edge time.Time
	o := newOffice(t, 1, func(o *office, p *wire.Policy) {
		edge = time.Now().UTC().Add(20 * time.Second).Truncate(time.Minute).Add(time.Minute)
		clock := func(at time.Time) string { return at.Format("15:04") }
		p.ActiveHours = wire.Windows{{Zone: "UTC", Days: []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}, Start: clock(edge.Add(-2 * time.Hour)), End: clock(edge)}}
	})
	c, _, err := o.open(o.addr(7))
	o.must(err)
	defer c.Close()
	o.echoes(c)
	c.SetReadDeadline(edge.Add(time.Minute))
	_, err = c.Read(make([]byte, 1))
	late := time.Since(edge)
	if !errors.Is(err, syscall.ECONNRESET) || late < 0 {
		t.Errorf("the sender's end was told %v, %s after the edge", err, late)
	}
	t.Logf("hours cut an open flow %s after their edge", late.Round(time.Millisecond))
	for _, host := range []string{"laptop", "gate0"} {
		o.until(host+" says why", func() bool { return o.logged.said(host, `hours of policy "office" ended`) })
	}
	if c, _, err := o.open(o.addr(7)); err == nil {
		c.Close()
		t.Error("a new flow opened outside the hours")
	}
}

// TestIPv6ThroughAGateway: the same for addresses of the other family, TCP, UDP and echo.
func TestIPv6ThroughAGateway(t *testing.T) {
	var site *natlab.Host
	var at netip.Addr
	o := newOffice(t, 1, func(o *office, p *wire.Policy) {
		site = o.Lab.Host("site", o.Lab.Internet(), natlab.DualStack())
		six := o.system("six", o.Lab.Internet(), natlab.DualStack())
		at = site.Addrs()[1]
		subnet, err := at.Prefix(120)
		o.must(err)
		_, err = o.API.SetRoutes(o.ctx, id(six), []wire.Route{{Subnet: subnet}}, nil)
		o.must(err)
		p.Gateways = []wire.GatewayRoute{{System: six.Status().Self.ID, Subnets: []string{subnet.String()}}}
	})
	o.service = site
	o.serve(7)
	c, _, err := o.open(netip.AddrPortFrom(at, 7).String())
	o.must(err)
	defer c.Close()
	o.echoes(c)
	o.answer(site, 53)
	u, err := o.laptop.DialContext(o.ctx, "udp", netip.AddrPortFrom(at, 53).String())
	o.must(err)
	defer u.Close()
	u.SetDeadline(time.Now().Add(time.Minute))
	u.Write([]byte("x"))
	buf := make([]byte, 100)
	if n, err := u.Read(buf); err != nil || n == 0 {
		t.Errorf("UDP: %v", err)
	}
	if r, err := o.laptop.Ping(o.ctx, at.String()); err != nil || r.Via != "six" {
		t.Errorf("ping: %+v, %v", r, err)
	}
	_, err = o.API.PolicyDo(o.ctx, string(o.policy.ID), "disable")
	o.must(err)
	o.wasReset(c)
}

// answer says on a UDP port which host asked.
func (o *office) answer(on *natlab.Host, port uint16) {
	u, err := on.ListenUDP(port)
	o.must(err)
	o.t.Cleanup(func() { u.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			_, from, err := u.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			u.WriteToUDPAddrPort([]byte(from.Addr().Unmap().String()), from)
		}
	}()
}

// TestUDPTakesAnotherGateway: a program that goes on sending on one socket is answered
// again once its gateway has died.
func TestUDPTakesAnotherGateway(t *testing.T) {
	o := newOffice(t, 2, func(o *office, p *wire.Policy) { p.Priority = wire.PriorityOrdered })
	o.answer(o.service, 53)
	u, err := o.laptop.DialContext(o.ctx, "udp", o.addr(53))
	o.must(err)
	defer u.Close()
	ask := func() string {
		u.Write([]byte("who?"))
		u.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		buf := make([]byte, 100)
		n, _ := u.Read(buf)
		return string(buf[:n])
	}
	first, second := o.gateways[0].Host.Addrs()[0].String(), o.gateways[1].Host.Addrs()[0].String()
	o.until("the first gateway carries", func() bool { return ask() == first })
	o.must(o.gateways[0].Stop())
	o.gateways[0].Host.Disconnect()
	died := time.Now()
	o.until("the second gateway carries", func() bool { return ask() == second })
	t.Logf("UDP went on %s after the death of its gateway", time.Since(died).Round(time.Millisecond))
}

// TestNamesBehindAGateway: a zone of the office, answered by its own resolver; and how soon
// a name is gone when its policy ends.
func TestNamesBehindAGateway(t *testing.T) {
	o := newOffice(t, 1, nil)
	o.resolver("www.office.test.")
	_, err := o.API.CreateZone(o.ctx, wire.Zone{Name: "office.test", Forward: &wire.ZoneForward{
		Gateways: []wire.SystemID{o.gateways[0].Status().Self.ID}, Resolvers: []string{o.addr(53)}}})
	o.must(err)
	kind := func(name string) string {
		r, err := o.laptop.Resolve(o.ctx, name, "A")
		o.must(err)
		return r.Kind + " " + r.RCode
	}
	o.until("the zone is known", func() bool { return kind("www.office.test") == "forwarded NOERROR" })
	if got := kind("nobody.office.test"); got != "forwarded NXDOMAIN" {
		t.Errorf("a name that the resolver does not know: %s", got)
	}
	c, _, err := o.open("www.office.test:7")
	o.must(err)
	defer c.Close()
	o.echoes(c)

	var gone []time.Duration
	for range 5 {
		changed, err := o.API.PolicyDo(o.ctx, string(o.policy.ID), "enable")
		o.must(err)
		_, err = o.API.WaitApplied(o.ctx, changed.Revision)
		o.must(err)
		o.until("the name is there", func() bool { return kind("www.office.test") == "forwarded NOERROR" })
		began := time.Now()
		_, err = o.API.PolicyDo(o.ctx, string(o.policy.ID), "disable")
		o.must(err)
		o.until("the name is gone", func() bool { return kind("www.office.test") == "outside SERVFAIL" })
		gone = append(gone, time.Since(began))
	}
	slices.Sort(gone)
	t.Logf("a name was gone %s after its policy was told to end (median of %d, at most %s)", gone[2].Round(time.Millisecond), len(gone), gone[4].Round(time.Millisecond))
}

// resolver answers for one name with the address of the service.
func (o *office) resolver(name string) {
	u, err := o.service.ListenUDP(53)
	o.must(err)
	o.t.Cleanup(func() { u.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := u.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if raw := AnswerDNS(buf[:n], name, o.service.Addrs()[0]); raw != nil {
				u.WriteToUDPAddrPort(raw, from)
			}
		}
	}()
}

// TestACutTransferIsNotWhole: downloads are cut in the middle while the program
// goes on sending; none of them ends like one that is complete.
func TestACutTransferIsNotWhole(t *testing.T) {
	o := newOffice(t, 1, nil)
	l, err := o.service.ListenTCP(9)
	o.must(err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go io.Copy(io.Discard, c)
			go func() {
				defer c.Close()
				for buf := make([]byte, 1000); ; {
					if _, err := c.Write(buf); err != nil {
						return
					}
				}
			}()
		}
	}()
	var ready, done sync.WaitGroup
	for range 10 {
		c, err := o.laptop.DialContext(o.ctx, "tcp", o.addr(9))
		o.must(err)
		defer c.Close()
		ready.Add(1)
		done.Go(func() { // the upload beside it, which a reset may be told first
			for buf := make([]byte, 1000); ; {
				if _, err := c.Write(buf); err != nil {
					return
				}
			}
		})
		done.Go(func() {
			io.ReadFull(c, make([]byte, 1))
			ready.Done()
			if _, err := io.Copy(io.Discard, c); err == nil {
				t.Error("a cut download looks complete")
			}
		})
	}
	ready.Wait()
	_, err = o.API.PolicyDo(o.ctx, string(o.policy.ID), "disable")
	o.must(err)
	done.Wait()
}

// TestWhatOpensNothingIsRefused where it is written, with its path, or told in the status.
func TestWhatOpensNothingIsRefused(t *testing.T) {
	o := newOffice(t, 1, nil)
	overlay, err := o.laptop.Status().Self.IPv4.Prefix(24)
	o.must(err)
	p := o.policy.Policy
	p.ID, p.Name = "", "bad"
	p.Gateways = []wire.GatewayRoute{{System: p.Gateways[0].System, Subnets: []string{"10.9.0.0/24", overlay.String(), "127.0.0.0/24", "10.9.0.0/24", "0.0.0.0/0"}}}
	p.SubnetFilter = []string{"10.9.0.7", "100.64.0.0 - 100.64.0.9", "169.254.169.254", "10.9.0.7"}
	_, err = o.API.CreatePolicy(o.ctx, p)
	var bad *api.Problem
	if !errors.As(err, &bad) {
		t.Fatal(err)
	}
	var paths []string
	for _, e := range bad.Problems {
		paths = append(paths, e.Path)
	}
	want := []string{"gateways[0].subnets[1]", "gateways[0].subnets[2]", "gateways[0].subnets[3]", "subnet_filter[1]", "subnet_filter[2]", "subnet_filter[3]"}
	if !slices.Equal(paths, want) {
		t.Errorf("refused %v, want %v: %v", paths, want, bad)
	}

	// A gateway that loses its permission, and what names lean on it.
	gate := o.gateways[0].Status().Self.ID
	_, err = o.API.CreateZone(o.ctx, wire.Zone{Name: "office.test", Forward: &wire.ZoneForward{Gateways: []wire.SystemID{gate}, Resolvers: []string{o.addr(53)}}})
	o.must(err)
	_, err = o.API.CreateZone(o.ctx, wire.Zone{Name: "ours.test"})
	o.must(err)
	p.Name, p.Gateways[0].Subnets, p.SubnetFilter = "named", []string{o.subnet().String()}, []string{"www.ours.test"}
	_, err = o.API.CreatePolicy(o.ctx, p)
	o.must(err)
	_, err = o.API.SetRoutes(o.ctx, id(o.gateways[0]), nil, []string{o.subnet().String()})
	o.must(err)
	s, err := o.API.Revision(o.ctx)
	o.must(err)
	told := strings.Join(s.Warnings, "\n")
	for _, want := range []string{
		"names gateway " + string(gate) + " for " + o.subnet().String() + ", which it may not carry", "zone office.test asks ",
		"names www.ours.test, which is in our zone ours.test",
	} {
		if !strings.Contains(told, want) {
			t.Errorf("the status does not say %q:\n%s", want, told)
		}
	}
}
