package world

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"enclave/agent/proxy"
	"enclave/e2e/natlab"
	"enclave/wire"
	"enclave/wire/api"
)

// office is a network without agents but for its gateways: a service that says which of
// its hosts asked, and a laptop elsewhere that wants to reach it.
type office struct {
	*World
	t        *testing.T
	ctx      context.Context
	logged   keptCuts
	lan      *natlab.Network
	service  *natlab.Host
	laptop   *Agent
	gateways []*Agent
	policy   api.Policy
}

// newOffice makes an office with n gateways under a policy that edit has changed.
func newOffice(t *testing.T, n int, edit func(o *office, p *wire.Policy)) *office {
	t.Helper()
	if testing.Short() {
		t.Skip("TCP over the simulated internet needs the wall clock")
	}
	o := &office{t: t}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	o.ctx = ctx
	lab := natlab.New(natlab.Config{Seed: 11}).Start()
	t.Cleanup(func() { lab.Close() })
	w, err := New(ctx, Config{Lab: lab, Dir: t.TempDir(), Logger: slog.New(cutLog{Handler: slog.DiscardHandler, kept: &o.logged}), Beat: time.Second})
	o.must(err)
	t.Cleanup(func() { w.Close() })
	o.World, o.lan = w, lab.Behind(natlab.Easy())
	o.service = lab.Host("service", o.lan)
	o.serve(7)
	o.laptop = o.system("laptop", lab.Internet())
	for i := range n {
		o.gateways = append(o.gateways, o.system(fmt.Sprintf("gate%d", i), o.lan))
	}
	p := wire.Policy{Name: "office", Kind: wire.Gateway, Enabled: true, SenderTags: []wire.Tag{"laptop"},
		ACLs: []wire.ACL{{Proto: wire.TCP, Ports: wire.Ports{{Lo: 1, Hi: 99}}}, {Proto: wire.UDP}, {Proto: wire.ICMP}}}
	for i, g := range o.gateways {
		_, err := o.API.SetRoutes(ctx, string(g.Status().Self.ID), []wire.Route{{Subnet: o.subnet()}}, nil)
		o.must(err)
		p.Gateways = append(p.Gateways, wire.GatewayRoute{System: g.Status().Self.ID, Subnets: []string{o.subnet().String()}})
		p.SenderTags = append(p.SenderTags, wire.Tag(fmt.Sprintf("other%d", i)))
	}
	if edit != nil {
		edit(o, &p)
	}
	o.policy, err = o.API.CreatePolicy(ctx, p)
	o.must(err)
	_, err = o.API.WaitApplied(ctx, o.policy.Version)
	o.must(err)
	return o
}

func (o *office) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) until(what string, ok func() bool) {
	o.t.Helper()
	for !ok() {
		select {
		case <-time.After(5 * time.Millisecond): // TCP stacks run on the wall clock: there is no event
		case <-o.ctx.Done():
			o.t.Fatalf("never: %s; cuts %v", what, o.logged.list)
		}
	}
}

func (o *office) system(name string, at *natlab.Network, options ...natlab.HostOption) *Agent {
	o.t.Helper()
	key, err := o.API.CreateKey(o.ctx, api.KeyCreate{Name: name, Approval: "automatic", Tags: []wire.Tag{wire.Tag(name)}})
	o.must(err)
	a, err := o.Agent(o.ctx, name, at, key.Secret, options...)
	o.must(err)
	o.until(name+" runs", func() bool { return a.Status().State == api.AgentRunning })
	return a
}

// subnet is that of the office.
func (o *office) subnet() netip.Prefix {
	p, err := o.service.Addrs()[0].Prefix(24)
	o.must(err)
	return p
}

func (o *office) addr(port int) string { return fmt.Sprintf("%s:%d", o.service.Addrs()[0], port) }

// serve greets every connection with the address that it comes from, then echoes.
func (o *office) serve(port uint16) {
	l, err := o.service.ListenTCP(port)
	o.must(err)
	o.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
				fmt.Fprintln(c, host)
				io.Copy(c, c)
			}()
		}
	}()
}

// open opens a flow and returns which of the office's hosts it arrived from.
func (o *office) open(addr string) (net.Conn, string, error) {
	c, err := o.laptop.DialContext(o.ctx, "tcp", addr)
	if err != nil {
		return nil, "", err
	}
	var line []byte
	for b := make([]byte, 1); b[0] != '\n'; line = append(line, b[0]) {
		if _, err := c.Read(b); err != nil {
			c.Close()
			return nil, "", err
		}
	}
	return c, strings.TrimSpace(string(line)), nil
}

// echoes reports whether a flow still carries.
func (o *office) echoes(c net.Conn) {
	o.t.Helper()
	c.SetDeadline(time.Now().Add(time.Minute))
	got := make([]byte, 4)
	if _, err := c.Write([]byte("ping")); err != nil {
		o.t.Fatalf("the flow has ended: %v", err)
	}
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, []byte("ping")) {
		o.t.Fatalf("the flow has ended: %q, %v", got, err)
	}
}

// wasReset wants the sender's end of a flow that was cut to be told so.
func (o *office) wasReset(c net.Conn) {
	o.t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		o.t.Errorf("the sender's end was told %v, want a reset", err)
	}
}

// TestAGatewayCarries what its policy says, and nothing else, into a network without agents.
func TestAGatewayCarries(t *testing.T) {
	o := newOffice(t, 1, nil)
	c, from, err := o.open(o.addr(7))
	o.must(err)
	defer c.Close()
	if want := o.gateways[0].Host.Addrs()[0].String(); from != want {
		t.Errorf("the service was asked by %s, want the gateway %s", from, want)
	}
	o.echoes(c)

	for what, addr := range map[string]string{
		"a port that no rule allows": o.addr(100),
		"an address outside":         "192.0.2.1:7",
		"the gateway itself":         o.gateways[0].Host.Addrs()[0].String() + ":7",
		"a closed port":              o.addr(8),
	} {
		c, err := o.laptop.DialContext(o.ctx, "tcp", addr)
		if err == nil {
			c.Close()
			t.Errorf("%s: opened", what)
		}
		var p *proxy.Error
		if what == "a port that no rule allows" && (!errors.As(err, &p) || p.Reason != proxy.Denied) {
			t.Errorf("%s: %v", what, err)
		}
		if what == "a closed port" && !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v", what, err)
		}
	}

	u, err := o.service.ListenUDP(53)
	o.must(err)
	defer u.Close()
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := u.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			u.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	d, err := o.laptop.DialContext(o.ctx, "udp", o.addr(53))
	o.must(err)
	defer d.Close()
	d.SetDeadline(time.Now().Add(time.Minute))
	d.Write([]byte("query"))
	buf := make([]byte, 100)
	if n, err := d.Read(buf); err != nil || string(buf[:n]) != "query" {
		t.Errorf("UDP: %q, %v", buf[:n], err)
	}
}

// TestAFlowThroughAGatewayEnds with its policy: both ends are reset and both systems say
// why.
func TestAFlowThroughAGatewayEnds(t *testing.T) {
	o := newOffice(t, 1, nil)
	c, _, err := o.open(o.addr(7))
	o.must(err)
	defer c.Close()
	o.echoes(c)
	_, err = o.API.PolicyDo(o.ctx, string(o.policy.ID), "disable")
	o.must(err)
	o.wasReset(c)
	for _, host := range []string{"laptop", "gate0"} {
		o.until(host+" logs the cut", func() bool { return o.logged.said(host, "policy.disable") })
	}
}

// TestGatewaysTakeOver kills the first gateway under 100 open flows: new ones go through
// the other within seconds, and once the first is back new flows take it again while those
// of the other stay.
func TestGatewaysTakeOver(t *testing.T) {
	for _, priority := range []string{wire.PriorityOrdered, wire.PriorityBalanced, wire.PriorityNearest} {
		t.Run(priority, func(t *testing.T) { takeOver(t, priority) })
	}
}

func takeOver(t *testing.T, priority string) {
	o := newOffice(t, 2, func(o *office, p *wire.Policy) { p.Priority = priority })
	addr := [2]string{}
	for i, g := range o.gateways {
		addr[i] = g.Host.Addrs()[0].String()
	}
	if priority == wire.PriorityNearest {
		slow := natlab.LinkConfig{Latency: 15 * time.Millisecond}
		o.must(o.gateways[1].Host.SetLink(slow, slow))
		o.until("the nearest is known", func() bool { return o.takes(addr[0], 5) })
	}
	through := map[string]int{}
	var survive []net.Conn // the flows of the gateway that does not die
	for range 100 {
		c, from, err := o.open(o.addr(7))
		o.must(err)
		defer c.Close()
		if through[from]++; from == addr[1] {
			survive = append(survive, c)
		}
	}
	if priority != wire.PriorityBalanced && through[addr[0]] != 100 || through[addr[0]] < 20 {
		t.Errorf("flows by gateway %v", through)
	}
	o.must(o.gateways[0].Stop())
	o.gateways[0].Host.Disconnect()
	died := time.Now()
	c, from, err := o.open(o.addr(7))
	o.must(err)
	defer c.Close()
	took := time.Since(died)
	if from != addr[1] {
		t.Errorf("the new flow came from %s", from)
	}
	o.gateways[0].Host.Reconnect()
	o.must(o.gateways[0].Start(o.ctx))
	back := time.Now()
	o.until("the first carries again", func() bool { return !o.takes(addr[1], 5) })
	again := time.Since(back)
	for _, c := range append(survive, c) {
		o.echoes(c) // what the other carries stays with it
	}
	t.Logf("%s: of 100 flows %d by the first gateway; a new flow took %s after its death; it carried new ones again %s after its start; of %d flows of the other none was cut",
		priority, through[addr[0]], took.Round(time.Millisecond), again.Round(time.Millisecond), len(survive)+1)
}

// takes reports whether n new flows all take the gateway at addr.
func (o *office) takes(addr string, n int) bool {
	for range n {
		c, from, err := o.open(o.addr(7))
		if err != nil {
			return false
		}
		c.Close()
		if from != addr {
			return false
		}
	}
	return true
}

// TestTimeEndsAFlowThroughAGateway: an expiry and the loss of trust reach behind it.
func TestTimeEndsAFlowThroughAGateway(t *testing.T) {
	for _, cause := range []string{"expiry", "trust", "route"} {
		t.Run(cause, func(t *testing.T) {
			o := newOffice(t, 1, func(o *office, p *wire.Policy) {
				if cause == "trust" {
					p.SenderTrust = []string{"mfa"}
					_, err := o.API.SetTrust(o.ctx, id(o.laptop), "mfa", time.Time{}, nil)
					o.must(err)
				}
				if cause == "expiry" {
					end := time.Now().Add(4 * time.Second)
					p.ExpiresAt = &end
				}
			})
			c, _, err := o.open(o.addr(7))
			o.must(err)
			defer c.Close()
			o.echoes(c)
			switch cause {
			case "trust":
				_, err := o.API.DropTrust(o.ctx, id(o.laptop), "mfa")
				o.must(err)
			case "route":
				_, err := o.API.SetRoutes(o.ctx, id(o.gateways[0]), nil, []string{o.subnet().String()})
				o.must(err)
			}
			o.wasReset(c)
			if cause == "route" {
				o.until("its status says so", func() bool {
					return strings.Contains(strings.Join(o.gateways[0].Status().Warnings, " "), "may carry nothing any more")
				})
			}
			if c, _, err := o.open(o.addr(7)); err == nil {
				c.Close()
				t.Error("a new flow opened")
			}
		})
	}
}

// TestASubnetIsShownAsAnother: 10.1.1.0/24 for what is the office's own.
func TestASubnetIsShownAsAnother(t *testing.T) {
	shown := netip.MustParsePrefix("10.1.1.0/24")
	o := newOffice(t, 1, func(o *office, p *wire.Policy) {
		_, err := o.API.SetRoutes(o.ctx, id(o.gateways[0]), []wire.Route{{Subnet: o.subnet(), As: shown}}, []string{o.subnet().String()})
		o.must(err)
		p.Gateways[0].Subnets = []string{shown.String()}
	})
	real := o.service.Addrs()[0].As4()
	at := netip.AddrFrom4([4]byte{10, 1, 1, real[3]})
	c, _, err := o.open(netip.AddrPortFrom(at, 7).String())
	o.must(err)
	defer c.Close()
	o.echoes(c)
	if c, _, err := o.open(o.addr(7)); err == nil {
		c.Close()
		t.Error("the address behind is known to the sender")
	}
	r, err := o.laptop.Ping(o.ctx, at.String())
	o.must(err)
	if r.Via != "gate0" {
		t.Errorf("ping went %+v", r)
	}
}

// TestAnInternetGatewayKeepsToTheInternet: the default route leads neither into the
// overlay nor to the gateway's own host.
func TestAnInternetGatewayKeepsToTheInternet(t *testing.T) {
	everything := netip.MustParsePrefix("0.0.0.0/0")
	o := newOffice(t, 1, func(o *office, p *wire.Policy) {
		_, err := o.API.SetRoutes(o.ctx, id(o.gateways[0]), []wire.Route{{Subnet: everything}}, nil)
		o.must(err)
		p.Gateways[0].Subnets = []string{everything.String()}
		p.ACLs = []wire.ACL{{Proto: wire.Any}}
	})
	site := o.Lab.Host("site", o.Lab.Internet())
	l, err := site.ListenTCP(7)
	o.must(err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, "hello")
		}
	}()
	c, line, err := o.open(site.Addrs()[0].String() + ":7")
	if err != nil || line != "hello" {
		t.Fatalf("%q, %v", line, err)
	}
	c.Close()
	mine, err := o.gateways[0].Host.ListenTCP(7)
	o.must(err)
	defer mine.Close()
	for _, addr := range []string{
		o.gateways[0].Host.Addrs()[0].String(), o.gateways[0].Status().Self.IPv4.String(), "100.64.200.1",
		"127.0.0.1", "169.254.169.254", "168.63.129.16", "224.0.0.1", "255.255.255.255",
	} {
		ctx, cancel := context.WithTimeout(o.ctx, 3*time.Second)
		if c, err := o.laptop.DialContext(ctx, "tcp", addr+":7"); err == nil {
			c.Close()
			t.Errorf("%s: opened", addr)
		}
		cancel()
	}
}

// TestANameBehindAGateway: the filter names hosts, which the gateway resolves. Who dials
// the name reaches it, over the gateway that is up; nothing else opens, whatever a name
// answers with.
func TestANameBehindAGateway(t *testing.T) {
	o := newOffice(t, 2, func(o *office, p *wire.Policy) {
		p.Priority = wire.PriorityOrdered
		p.SubnetFilter = []string{"service.lab", "gate0.lab", "control.lab", "nobody.lab"}
	})
	c, from, err := o.open("service.lab:7")
	o.must(err)
	defer c.Close()
	if want := o.gateways[0].Host.Addrs()[0].String(); from != want {
		t.Errorf("the service was asked by %s, want the first gateway %s", from, want)
	}
	o.echoes(c)
	for what, addr := range map[string]string{
		"a port that no rule allows": "service.lab:100", "the address itself": o.addr(7), "the gateway by its name": "gate0.lab:7",
		"a name that leads out of the subnets": "control.lab:99", "a name of nobody": "nobody.lab:7", "a name that no policy names": "relay.lab:7",
	} {
		if c, err := o.laptop.DialContext(o.ctx, "tcp", addr); err == nil {
			c.Close()
			t.Errorf("%s: opened", what)
		}
	}
	r, err := o.laptop.Resolve(o.ctx, "service.lab", "AAAA")
	o.must(err)
	if r.Kind != "behind" || len(r.Addresses) != 1 || len(r.Gateways) != 2 {
		t.Errorf("the laptop resolves %+v", r)
	}
	byControl, err := o.API.Resolve(o.ctx, "service.lab", id(o.laptop), time.Time{})
	o.must(err)
	if byControl.Kind != r.Kind || byControl.Addresses[0] != r.Addresses[0] {
		t.Errorf("control resolves %+v", byControl)
	}
	for port, allow := range map[uint16]bool{7: true, 100: false} {
		x, err := o.API.Explain(o.ctx, id(o.laptop), "service.lab", wire.TCP, port, time.Time{})
		o.must(err)
		if x.Allow != allow || strings.Contains(fmt.Sprint(x), r.Addresses[0].String()) {
			t.Errorf("port %d: %+v", port, x)
		}
	}
	if p, err := o.laptop.Ping(o.ctx, "service.lab"); err != nil || p.Via != "gate0" {
		t.Errorf("ping: %+v, %v", p, err)
	}
	_, err = o.API.PolicyDo(o.ctx, string(o.policy.ID), "disable")
	o.must(err)
	o.wasReset(c)
	o.until("the name is gone with the policy", func() bool {
		r, err = o.laptop.Resolve(o.ctx, "service.lab", "AAAA")
		return err == nil && r.Kind == "outside"
	})
}
