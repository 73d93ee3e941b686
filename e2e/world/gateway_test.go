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
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
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

func (o *office) system(name string, at *natlab.Network) *Agent {
	o.t.Helper()
	key, err := o.API.CreateKey(o.ctx, api.KeyCreate{Name: name, Approval: "automatic", Tags: []wire.Tag{wire.Tag(name)}})
	o.must(err)
	a, err := o.Agent(o.ctx, name, at, key.Secret)
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
	c.SetDeadline(time.Now().Add(30 * time.Second))
	got := make([]byte, 4)
	if _, err := c.Write([]byte("ping")); err != nil {
		o.t.Fatalf("the flow has ended: %v", err)
	}
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, []byte("ping")) {
		o.t.Fatalf("the flow has ended: %q, %v", got, err)
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
	d.SetDeadline(time.Now().Add(20 * time.Second))
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
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the sender's end was told %v, want a reset", err)
	}
	for _, host := range []string{"laptop", "gate0"} {
		o.until(host+" logs the cut", func() bool { return o.logged.said(host, "policy.disable") })
	}
}
