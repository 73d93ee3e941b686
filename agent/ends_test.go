package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"enclave/agent"
	"enclave/agent/proxy"
	"enclave/wire/api"
)

// TestRevoked ends the agent and says so, and a restart ends at once; a disabled one waits.
func TestRevoked(t *testing.T) {
	m := newMesh(t)
	for verb, want := range map[string]string{"disable": api.AgentDisabled, "revoke": api.AgentRevoked, "delete": api.AgentRevoked} {
		t.Run(verb, func(t *testing.T) {
			var k agent.MemoryKeeper
			a := m.node("n-"+verb, &k)
			done := make(chan error, 1)
			ctx, cancel := context.WithCancel(m.ctx)
			defer cancel()
			// What it exposes ends with its overlay, and is not what it says it ended of.
			g, ctx := errgroup.WithContext(ctx)
			g.Go(func() error { return a.Run(ctx) })
			g.Go(func() error {
				return a.Serve(ctx, agent.Services{Exposes: []proxy.Expose{{Network: "tcp", Port: 80, Target: "127.0.0.1:9"}, {Network: "udp", Port: 80, Target: "127.0.0.1:9"}}})
			})
			go func() { done <- g.Wait() }()
			m.until(a, "running", running)
			id := string(a.Status().Self.ID)
			var err error
			if verb == "delete" {
				_, err = m.api.DeleteSystem(m.ctx, id)
			} else {
				_, err = m.api.SystemDo(m.ctx, id, verb)
			}
			if err != nil {
				t.Fatal(err)
			}
			m.until(a, want, func(s api.AgentStatus) bool { return s.State == want })
			if want == api.AgentDisabled {
				if _, err := m.api.SystemDo(m.ctx, id, "enable"); err != nil {
					t.Fatal(err)
				}
				m.until(a, "running again", running)
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
				return
			}
			if err := <-done; !errors.Is(err, agent.ErrRevoked) {
				t.Fatalf("ended with %v", err)
			}
			raw, _ := k.Load()
			if bytes.Contains(raw, []byte(`"map":`)) {
				t.Error("a revoked agent keeps the map")
			}
			if err := m.node("n", &k).Run(m.ctx); !errors.Is(err, agent.ErrRevoked) {
				t.Errorf("a restart ends with %v", err)
			}
		})
	}
}

// TestReplaced: of two processes with one identity the newer stays.
func TestReplaced(t *testing.T) {
	m := newMesh(t)
	var k agent.MemoryKeeper
	a := m.node("one", &k)
	done := make(chan error, 1)
	go func() { done <- a.Run(m.ctx) }()
	m.until(a, "running", running)
	raw, _ := k.Load()
	var copied agent.MemoryKeeper
	copied.Save(raw)
	b := m.node("two", &copied)
	run(t, b.Run)
	if err := <-done; !errors.Is(err, agent.ErrReplaced) {
		t.Errorf("the older one ended with %v", err)
	}
	m.until(b, "running", running)
}

// TestNothingIsLeft: when Run has returned, so has everything it started.
func TestNothingIsLeft(t *testing.T) {
	m := newMesh(t)
	var k agent.MemoryKeeper
	a, b := m.node("alice", &k), m.node("bob", new(agent.MemoryKeeper))
	stopA, stopB := run(t, a.Run), run(t, b.Run)
	m.introduce([]*agent.Agent{a}, []*agent.Agent{b})
	l, err := b.Listen(m.ctx, 80)
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan struct{})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	m.echoes(a.DialContext(m.ctx, "tcp", "bob:80"))
	if err := errors.Join(stopA(), stopB()); err != nil {
		t.Fatal(err)
	}
	<-accepted // a listener ends with its agent
	l.Close()
	var s struct{ Map json.RawMessage }
	if raw, _ := k.Load(); json.Unmarshal(raw, &s) != nil || !bytes.Contains(s.Map, []byte("bob")) {
		t.Error("the last map was not kept")
	}
	var left []string
	for range 3000 {
		if left = goroutines("enclave/agent", "wireguard", "gvisor"); len(left) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond) // for what is past its last statement
	}
	t.Errorf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
}

// goroutines returns those of whom any is in a package named so, but tests and the
// relay of the control process.
func goroutines(names ...string) (out []string) {
	buf := make([]byte, 4<<20)
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "_test.") || strings.Contains(g, "cli/node") {
			continue
		}
		if slices.ContainsFunc(names, func(n string) bool { return strings.Contains(g, n) }) {
			out = append(out, g)
		}
	}
	return out
}
