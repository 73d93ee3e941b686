package agent_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"enclave/agent"
	"enclave/agent/link"
	"enclave/cli/client"
	"enclave/cli/node"
	"enclave/relay"
	"enclave/wire"
	"enclave/wire/api"
)

// mesh is a control plane, a relay and agents on loopback: all of it the real thing.
type mesh struct {
	t     *testing.T
	ctx   context.Context
	url   string
	first *node.First
	api   *client.Client
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	if testing.Short() {
		t.Skip("runs on the wall clock")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stun, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{t: t, ctx: ctx, url: "https://" + l.Addr().String()}
	quiet := slog.New(slog.DiscardHandler)
	up, err := node.OpenUp(ctx, node.UpConfig{
		Control: node.ControlConfig{Dir: filepath.Join(t.TempDir(), "up"), URL: m.url, Listener: l, Logger: quiet},
		Relay: node.RelayConfig{Name: "relay", Keeper: new(agent.MemoryKeeper), Dial: (&net.Dialer{}).DialContext, Logger: quiet,
			STUN: []relay.PacketConn{stun}, Info: wire.RelayInfo{Addr: l.Addr().String(), STUN: []string{stun.LocalAddr().String()}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	m.first = up.First()
	run(t, up.Run)
	if m.api, err = client.New(client.Config{URL: m.url, Token: m.first.Token, Fingerprint: m.first.Fingerprint}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.api.Close)
	return m
}

// run runs f beside the test and returns how to stop it and wait.
func run(t *testing.T, f func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx); close(done) }()
	stop = func() error { cancel(); return <-done }
	t.Cleanup(func() { stop() })
	return stop
}

// node makes an agent that keeps its state in k.
func (m *mesh) node(name string, k agent.Keeper) *agent.Agent {
	m.t.Helper()
	a, err := agent.New(agent.Config{Name: name, Control: m.url, Fingerprint: m.first.Fingerprint, Keeper: k, Network: link.System(),
		Key: func() (string, error) { return m.first.EnrolmentKey, nil }})
	if err != nil {
		m.t.Fatal(err)
	}
	return a
}

// until waits for a to be as it should.
func (m *mesh) until(a *agent.Agent, what string, ok func(api.AgentStatus) bool) {
	m.t.Helper()
	for {
		changed := a.Changed()
		if ok(a.Status()) {
			return
		}
		select {
		case <-changed:
		case <-m.ctx.Done():
			m.t.Fatalf("never %s: %+v", what, a.Status())
		}
	}
}

func running(s api.AgentStatus) bool { return s.State == api.AgentRunning }

// introduce lets tag a of each sender start tcp/80 and udp/53 to receivers.
func (m *mesh) introduce(senders, receivers []*agent.Agent) api.Policy {
	m.t.Helper()
	for tag, agents := range map[wire.Tag][]*agent.Agent{"a": senders, "b": receivers} {
		for _, a := range agents {
			m.until(a, "running", running)
			if _, err := m.api.SetTags(m.ctx, string(a.Status().Self.ID), []wire.Tag{tag}, nil); err != nil {
				m.t.Fatal(err)
			}
		}
	}
	p, err := m.api.CreatePolicy(m.ctx, wire.Policy{Name: "p", Kind: wire.Direct, Enabled: true, SenderTags: []wire.Tag{"a"}, ReceiverTags: []wire.Tag{"b"},
		ACLs: []wire.ACL{{Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 81}, {Lo: 1024, Hi: 65535}}}, {Proto: wire.UDP, Ports: wire.Ports{{Lo: 53, Hi: 53}}}}})
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := m.api.WaitApplied(m.ctx, p.Version); err != nil {
		m.t.Fatal(err)
	}
	return p
}

func echo(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() { defer c.Close(); io.Copy(c, c) }()
	}
}

func (m *mesh) echoes(c net.Conn, err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprint(c, "hello")
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
		m.t.Fatalf("echoed %q, %v", b, err)
	}
}
