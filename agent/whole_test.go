package agent_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"enclave/agent"
	"enclave/agent/proxy"
	"enclave/e2e/freeport"
	"enclave/wire"
	"enclave/wire/api"
)

func TestTwoAgents(t *testing.T) {
	m := newMesh(t)
	var ka, kb agent.MemoryKeeper
	a, b := m.node("alice", &ka), m.node("bob", &kb)
	if _, err := a.DialContext(m.ctx, "tcp", "bob:80"); !errors.Is(err, agent.ErrNotReady) {
		t.Errorf("before Run: %v", err)
	}
	stopA, stopB := run(t, a.Run), run(t, b.Run)
	m.introduce([]*agent.Agent{a}, []*agent.Agent{b})
	bob := b.Status().Self

	t.Run("dial", func(t *testing.T) {
		l, err := b.Listen(m.ctx, 80)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go echo(l)
		for _, addr := range []string{"bob:80", "bob.enclave:80", "BOB.enclave.:80", string(bob.ID) + ".id.enclave:80",
			bob.IPv4.String() + ":80", "[" + bob.IPv6.String() + "]:80", "[::ffff:" + bob.IPv4.String() + "]:80"} {
			m.echoes(a.DialContext(m.ctx, "tcp", addr))
		}
		c, err := a.DialContext(m.ctx, "tcp", netip.AddrPortFrom(bob.IPv6, 80).String())
		if err != nil || c.RemoteAddr().String() != netip.AddrPortFrom(bob.IPv6, 80).String() {
			t.Fatalf("by IPv6: %v, %v", c, err)
		}
		c.Close()
		for addr, want := range map[string]error{
			"carol:80": agent.ErrUnknownName, "100.64.0.250:80": agent.ErrUnknownName, "alice:80": agent.ErrUnknownName, ":80": agent.ErrUnknownName,
			"bob:22": agent.ErrDenied, "[" + bob.IPv6.String() + "]:22": agent.ErrDenied,
			"bob:81": syscall.ECONNREFUSED, // allowed, and nobody listens
		} {
			if _, err := a.DialContext(m.ctx, "tcp", addr); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", addr, err, want)
			}
		}
		told := map[string]string{} // with the packets that were refused
		for _, d := range a.Status().Denied {
			told[d.Dst.String()] = d.Reason
		}
		for addr, why := range map[string]string{bob.IPv4.String() + ":22": "no rule", "[" + bob.IPv6.String() + "]:22": "no rule", "100.64.0.250:80": "no policy"} {
			if !strings.HasPrefix(told[addr], why) {
				t.Errorf("the refused dial of %s is told as %q, want %q", addr, told[addr], why)
			}
		}
		all, err := m.api.Denied(m.ctx)
		if err != nil {
			t.Fatal(err)
		}
		named := map[string]api.Denied{} // names that stand for nobody
		for _, d := range all {
			if d.Name != "" {
				named[d.Name] = d
			}
		}
		if d := named["carol"]; d.AtName != "alice" || d.Names != [2]string{"alice", "carol"} || d.Proto != wire.TCP || d.Dst.Port() != 80 {
			t.Errorf("a dial of nobody's name is told as %+v", d)
		}
		if _, err := b.DialContext(m.ctx, "tcp", "alice:80"); !errors.Is(err, agent.ErrDenied) {
			t.Errorf("the receiver starts a flow: %v", err)
		}
		for _, addr := range []string{"bob", "bob:", "bob:0", "bob:65536", "bob:http", "bob:-1", "fd00::2:80", ""} {
			if _, err := a.DialContext(m.ctx, "tcp", addr); err == nil || errors.Is(err, agent.ErrUnknownName) || errors.Is(err, agent.ErrDenied) {
				t.Errorf("%q: %v", addr, err)
			}
		}
		for _, network := range []string{"icmp", "any", "tcp9", ""} {
			if _, err := a.DialContext(m.ctx, network, "bob:80"); err == nil || !strings.Contains(err.Error(), "want tcp or udp") {
				t.Errorf("network %q: %v", network, err)
			}
		}
	})

	t.Run("udp", func(t *testing.T) {
		pc, err := b.ListenUDP(m.ctx, 53)
		if err != nil {
			t.Fatal(err)
		}
		defer pc.Close()
		go func() {
			buf := make([]byte, 100)
			if n, from, err := pc.ReadFrom(buf); err == nil {
				pc.WriteTo(buf[:n], from)
			}
		}()
		m.echoes(a.DialContext(m.ctx, "udp", "bob:53"))
	})

	t.Run("listen", func(t *testing.T) {
		l, err := b.Listen(m.ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Listen(m.ctx, netip.MustParseAddrPort(l.Addr().String()).Port()); err == nil {
			t.Error("a port was given twice")
		}
		done := make(chan error, 1)
		go func() { done <- echo(l) }()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		for _, addr := range []netip.Addr{bob.IPv4, bob.IPv6} { // one port for both families
			m.echoes(a.DialContext(m.ctx, "tcp", net.JoinHostPort(addr.String(), port)))
		}
		l.Close()
		l.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept ended with %v", err)
		}
	})

	t.Run("status", func(t *testing.T) {
		// The relay comes first; a change of route is told, as any change is.
		m.until(a, "direct", func(s api.AgentStatus) bool { return len(s.Peers) == 1 && s.Peers[0].Route == "direct" })
		s := a.Status()
		if len(s.Peers) != 1 || s.Peers[0].Name != "bob" || s.Peers[0].Route != "direct" || s.Peers[0].LastHandshake.IsZero() || len(s.Peers[0].Grants) == 0 {
			t.Errorf("peers %+v", s.Peers)
		}
		if s.Self.Name != "alice" || !s.Control.Connected || s.Control.URL != m.url || s.ValidUntil == nil || s.SVIDUntil.Before(time.Now().Add(time.Hour)) ||
			s.Filter["out: accepted"] == 0 || len(s.Warnings) != 0 || len(s.Reach.Candidates) == 0 {
			t.Errorf("status %+v", s)
		}
		if keys := a.Keys(); !slices.Equal(keys, []wire.WireGuardKey{b.PublicKey()}) {
			t.Errorf("keys %v", keys)
		}
		if r, err := a.Ping(m.ctx, "bob"); err != nil || r.Peer != bob.ID || r.Route != "direct" || r.RTT <= 0 {
			t.Errorf("ping %+v, %v", r, err)
		}
	})

	t.Run("services", func(t *testing.T) { services(t, m, a, b) })
	t.Run("local", func(t *testing.T) { local(t, m, a) })

	if err := stopB(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.DialContext(m.ctx, "tcp", "alice:80"); !errors.Is(err, agent.ErrNotReady) {
		t.Errorf("after Run: %v", err)
	}
	if _, err := b.Ping(m.ctx, "alice"); !errors.Is(err, agent.ErrUnknownName) {
		t.Errorf("ping after Run: %v", err)
	}

	// Back from its state, as the same system; and offline again for a fresh dial.
	b = m.node("bob", &kb)
	stopB = run(t, b.Run)
	m.until(b, "running", running)
	if b.Status().Self.ID != bob.ID {
		t.Error("it came back as another system")
	}
	stopB()
	a2 := m.node("alice", &ka) // who has not met bob since it was introduced
	stopA()
	run(t, a2.Run)
	m.until(a2, "knowing bob", func(s api.AgentStatus) bool { return s.State == api.AgentRunning && len(s.Peers) == 1 })
	// Both while it waits for an answer, and when it has tried all the same.
	for _, patience := range []time.Duration{time.Second, 5500 * time.Millisecond} {
		short, cancel := context.WithTimeout(m.ctx, patience)
		var e *proxy.Error
		if _, err := a2.DialContext(short, "tcp", "bob:80"); !errors.As(err, &e) || e.Reason != proxy.Offline {
			t.Errorf("a peer that is off, after %s: %v", patience, err)
		}
		cancel()
	}
}

func services(t *testing.T, m *mesh, a, b *agent.Agent) {
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	go echo(target)
	stopB := run(t, func(ctx context.Context) error {
		return b.Serve(ctx, agent.Services{Exposes: []proxy.Expose{{Network: "tcp", Port: 80, Target: target.Addr().String()}}})
	})
	// A port that is taken: nothing half-starts.
	taken := netip.MustParseAddrPort(target.Addr().String())
	free := freeport.Loopback(t)
	err = a.Serve(m.ctx, agent.Services{SOCKS: free, HTTPProxy: taken, Forwards: []proxy.Forward{{Network: "udp", Listen: freeport.Loopback(t), Target: "bob:53"}}})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "HTTP proxy") {
		t.Errorf("a taken port: %v", err)
	}
	l, err := net.Listen("tcp", free.String())
	if err != nil {
		t.Fatalf("the other port is still held: %v", err)
	}
	l.Close()
	stopA := run(t, func(ctx context.Context) error {
		return a.Serve(ctx, agent.Services{Forwards: []proxy.Forward{{Network: "tcp", Listen: free, Target: "bob.enclave:80"}}})
	})
	var c net.Conn
	for m.ctx.Err() == nil {
		if c, err = net.Dial("tcp", free.String()); err == nil {
			break
		}
		runtime.Gosched()
	}
	m.echoes(c, err)
	if err := errors.Join(stopA(), stopB()); err != nil {
		t.Errorf("services ended with %v", err)
	}
	if c, err := net.Dial("tcp", free.String()); err == nil {
		c.Close()
		t.Error("the forward is still there")
	}
}

func local(t *testing.T, m *mesh, a *agent.Agent) {
	dir, err := os.MkdirTemp("", "enclave") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, agent.SocketName)
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close() // as a process that was killed leaves it
	caller := agent.NewLocal(dir)
	if _, err := caller.Status(m.ctx); !errors.Is(err, agent.ErrNoAgent) {
		t.Errorf("nobody there: %v", err)
	}
	var s api.AgentStatus
	serve := func() (stop func() error) {
		stop = run(t, func(ctx context.Context) error { return a.ServeLocal(ctx, dir) })
		for m.ctx.Err() == nil {
			if s, err = caller.Status(m.ctx); !errors.Is(err, agent.ErrNoAgent) {
				break
			}
			runtime.Gosched()
		}
		return stop
	}
	stop := serve()
	if err != nil || s.Self.Name != "alice" || len(s.Peers) != 1 {
		t.Fatalf("status %+v, %v", s, err)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	if r, err := caller.Ping(m.ctx, "bob"); err != nil || r.Name != "bob" {
		t.Errorf("ping %+v, %v", r, err)
	}
	if r, err := caller.WaitFor(m.ctx, "bob.enclave", time.Minute); err != nil || r.Name != "bob" {
		t.Errorf("waitfor %+v, %v", r, err)
	}
	var p *api.Problem
	if _, err := caller.Ping(m.ctx, "carol"); !errors.As(err, &p) || p.Code != "unknown_name" || p.Status != http.StatusNotFound || p.Hint == "" {
		t.Errorf("an unknown name: %v", err)
	}
	if _, err := caller.WaitFor(m.ctx, "carol", 50*time.Millisecond); !errors.As(err, &p) || p.Code != "unknown_name" {
		t.Errorf("waiting for an unknown name: %v", err)
	}
	for _, d := range []time.Duration{0, -time.Second, 2 * time.Hour} {
		if _, err := caller.WaitFor(m.ctx, "bob", d); !errors.As(err, &p) || p.Status != http.StatusBadRequest {
			t.Errorf("timeout %s: %v", d, err)
		}
	}
	// What is asked ends with it, and the socket goes. Of several ends one is not held up by
	// the machine.
	var took []time.Duration
	for {
		waiting := make(chan error, 1)
		go func() { _, err := caller.WaitFor(m.ctx, "carol", time.Minute); waiting <- err }()
		time.Sleep(10 * time.Millisecond) // not needed: the race it opens is the test's
		began := time.Now()
		if err := stop(); err != nil {
			t.Errorf("ended with %v", err)
		}
		took = append(took, time.Since(began))
		if err := <-waiting; err == nil {
			t.Error("a waiting call ended well")
		}
		if took[len(took)-1] < 900*time.Millisecond {
			break
		}
		if len(took) == 5 {
			t.Errorf("ended after %s", took)
			break
		}
		stop = serve()
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}
	long := filepath.Join(dir, strings.Repeat("d", 120))
	if err := a.ServeLocal(m.ctx, long); !errors.Is(err, agent.ErrLongPath) || !strings.Contains(err.Error(), "at most 107") {
		t.Errorf("a long path: %v", err)
	}
}
