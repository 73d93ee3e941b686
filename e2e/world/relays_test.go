package world

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"enclave/e2e/natlab"
	"enclave/wire"
	"enclave/wire/api"
)

// relayed is a world with two relays, in which a laptop and a server have no other way
// to each other, and data flows between them over TCP.
type relayed struct {
	stage
	relays   [2]*Relay
	sent, at atomic.Int64 // bytes
	longest  atomic.Int64 // nanoseconds in which nothing arrived
	stop     atomic.Bool
	failed   chan error // what either end was told
}

func newRelayed(t *testing.T) *relayed {
	t.Helper()
	return newRelayedAt(t, "")
}

// newRelayedAt is newRelayed where the server, which then is on the internet, takes peers by
// TCP at listen.
func newRelayedAt(t *testing.T, listen string) *relayed {
	t.Helper()
	if testing.Short() {
		t.Skip("TCP over the simulated internet needs the wall clock")
	}
	s := &relayed{failed: make(chan error, 2)}
	s.t = t
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	s.ctx = ctx
	lab := natlab.New(natlab.Config{Seed: 11}).Start()
	t.Cleanup(func() { lab.Close() })
	w, err := New(ctx, Config{Lab: lab, Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	s.must(err)
	t.Cleanup(func() { w.Close() })
	s.World, s.relays[0] = w, w.relay
	s.relays[1], err = w.AddRelay(ctx, "second", natlab.Over(natlab.LinkConfig{Latency: 30 * time.Millisecond}))
	s.must(err)
	for at, tag := range map[**Agent]wire.Tag{&s.laptop: "laptops", &s.web: "servers"} {
		key, err := s.API.CreateKey(ctx, api.KeyCreate{Name: string(tag), Approval: "automatic", Tags: []wire.Tag{tag}})
		s.must(err)
		network := lab.Behind(natlab.UDPBlocked())
		if tag == "servers" && listen != "" {
			network = lab.Internet()
		}
		*at, err = s.Agent(ctx, string(tag[:len(tag)-1]), network, key.Secret)
		s.must(err)
	}
	if listen != "" {
		s.must(s.web.Stop())
		s.web.ListenTCP = listen
		s.must(s.web.Start(ctx))
	}
	s.until("both run", func() bool {
		return s.laptop.Status().State == api.AgentRunning && s.web.Status().State == api.AgentRunning
	})
	p, err := s.API.CreatePolicy(ctx, wire.Policy{Name: "p", Kind: wire.Direct, Enabled: true, SenderTags: []wire.Tag{"laptops"}, ReceiverTags: []wire.Tag{"servers"},
		ACLs: []wire.ACL{{Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 80}}}}})
	s.must(err)
	_, err = s.API.WaitApplied(ctx, p.Version)
	s.must(err)
	s.transfer()
	return s
}

// transfer sends 200 kB a second from the laptop to the server until the test ends.
func (s *relayed) transfer() {
	l, err := s.web.Listen(s.ctx, 80)
	s.must(err)
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
	}()
	c, err := s.laptop.DialContext(s.ctx, "tcp", "server.enclave:80")
	s.must(err)
	far := <-accepted
	s.t.Cleanup(func() { s.stop.Store(true); c.Close(); far.Close(); l.Close() })
	go func() {
		b := make([]byte, 1000)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for ; !s.stop.Load(); <-tick.C {
			if _, err := c.Write(b); err != nil {
				s.failed <- err
				return
			}
			s.sent.Add(int64(len(b)))
		}
	}()
	go func() {
		b := make([]byte, 64<<10)
		for last := time.Now(); ; {
			n, err := far.Read(b)
			now := time.Now()
			s.longest.Store(max(s.longest.Load(), int64(now.Sub(last))))
			last = now
			if s.at.Add(int64(n)); err != nil {
				s.failed <- err
				return
			}
		}
	}()
	s.until("bytes flow", func() bool { return s.at.Load() > 50_000 })
}

// carrier is the relay by which the laptop reaches the server now.
func (s *relayed) carrier() *Relay {
	s.t.Helper()
	peers := s.laptop.Status().Peers
	for _, r := range s.relays {
		id, err := r.ID(s.ctx)
		s.must(err)
		if slices.ContainsFunc(peers, func(p api.AgentPeer) bool { return p.Route == "relay" && p.Via == string(id) }) {
			return r
		}
	}
	s.t.Fatalf("carried by none of the relays: %+v", peers)
	return nil
}

// goesOn waits until everything that was sent up to now has arrived.
func (s *relayed) goesOn() {
	s.t.Helper()
	for want := s.sent.Load() + 200_000; s.at.Load() < want; {
		select {
		case err := <-s.failed:
			s.t.Fatalf("the connection ended: %v", err)
		case <-s.ctx.Done():
			s.t.Fatalf("%d of %d bytes arrived", s.at.Load(), want)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// TestStraightByTCP: a laptop without UDP reaches a server that takes peers by TCP. The one
// connection of a transfer begins by a relay, goes over to the stream, does not notice that
// both relays vanish, and ends with the policy.
func TestStraightByTCP(t *testing.T) {
	s := newRelayedAt(t, ":443")
	byTCP := func(a *Agent) bool {
		peers := a.Status().Peers
		return len(peers) == 1 && peers[0].Route == "direct" && strings.HasPrefix(peers[0].Via, "tcp ")
	}
	s.until("both go by TCP", func() bool { return byTCP(s.laptop) && byTCP(s.web) })
	s.longest.Store(0)
	for _, r := range s.relays {
		r.Host.Disconnect()
	}
	s.goesOn()
	gap := time.Duration(s.longest.Load())
	if t.Logf("both relays vanished under a transfer by TCP; nothing arrived for at most %v", gap); !byTCP(s.laptop) {
		t.Errorf("the laptop has %+v", s.laptop.Status().Peers)
	}
	for _, r := range s.relays {
		r.Host.Reconnect()
	}
	list, err := s.API.Policies(s.ctx)
	s.must(err)
	off := list[0].Policy
	off.Enabled = false
	_, err = s.API.UpdatePolicy(s.ctx, "p", off, list[0].Version)
	s.must(err)
	select {
	case err := <-s.failed:
		t.Logf("the policy ended, and the connection: %v", err)
	case <-s.ctx.Done():
		t.Fatal("the connection outlives the policy")
	}
	s.until("the peer is forgotten", func() bool { return len(s.laptop.Status().Peers) == 0 && len(s.web.Status().Peers) == 0 })
}

// TestRelayDiesUnderTransfer: the relay that carries a TCP connection loses its network
// in mid-transfer. The connection lives on over the other one.
func TestRelayDiesUnderTransfer(t *testing.T) {
	s := newRelayed(t)
	r := s.carrier()
	s.longest.Store(0)
	r.Host.Disconnect()
	s.goesOn()
	gap := time.Duration(s.longest.Load())
	t.Logf("the relay vanished under a transfer; nothing arrived for %v", gap)
	if now := s.carrier(); now == r {
		t.Error("still by the relay that is gone")
	}
	r.Host.Reconnect() // so that it can be stopped
}

// TestRelayDrainsUnderTransfer: a relay that is told to end moves its clients first.
func TestRelayDrainsUnderTransfer(t *testing.T) {
	s := newRelayed(t)
	r := s.carrier()
	s.longest.Store(0)
	began := time.Now()
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	s.goesOn()
	t.Logf("the relay ended in %v; the longest time in which nothing arrived: %v", took, time.Duration(s.longest.Load()))
	if now := s.carrier(); now == r {
		t.Error("still by the relay that is gone")
	}
}
