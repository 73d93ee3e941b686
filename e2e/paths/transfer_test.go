package paths

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"enclave/e2e/natlab"
	lab "enclave/e2e/world"
	"enclave/wire"
	"enclave/wire/api"
)

// transfer is one TCP connection of two whole agents that is kept full.
type transfer struct {
	t        *testing.T
	ctx      context.Context
	net      *natlab.Lab
	from, to *lab.Agent
	arrived  atomic.Int64
	accepted atomic.Int32
	stop     chan struct{}
	sent     chan ending
	received chan ending
}

// ending is what one side of a transfer says of it at last.
type ending struct {
	sum   string
	bytes int64
	err   error
}

// newTransfer makes two agents whose hosts cannot talk but by the relay, and begins.
func newTransfer(t *testing.T) *transfer {
	t.Helper()
	if testing.Short() {
		t.Skip("TCP over the simulated internet needs the wall clock")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	x := &transfer{t: t, ctx: ctx, net: natlab.New(natlab.Config{Seed: baseSeed()}).Start(),
		stop: make(chan struct{}), sent: make(chan ending, 1), received: make(chan ending, 1)}
	t.Cleanup(func() { x.net.Close() })
	w, err := lab.New(ctx, lab.Config{Lab: x.net, Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	x.must(err)
	t.Cleanup(func() { w.Close() })
	mile := natlab.Over(natlab.LinkConfig{Latency: 5 * time.Millisecond})
	var agents [2]*lab.Agent
	for i, name := range []string{"sender", "receiver"} {
		key, err := w.API.CreateKey(ctx, api.KeyCreate{Name: name, Approval: "automatic", Tags: []wire.Tag{wire.Tag(name)}})
		x.must(err)
		agents[i], err = w.Agent(ctx, name, x.net.Behind(natlab.Easy()), key.Secret, mile)
		x.must(err)
	}
	x.from, x.to = agents[0], agents[1]
	x.until("both agents run", func() bool {
		return x.from.Status().State == api.AgentRunning && x.to.Status().State == api.AgentRunning
	})
	x.net.Partition(x.from.Host, x.to.Host) // so that the relay comes first
	p, err := w.API.CreatePolicy(ctx, wire.Policy{Name: "p", Kind: wire.Direct, Enabled: true, SenderTags: []wire.Tag{"sender"},
		ReceiverTags: []wire.Tag{"receiver"}, ACLs: []wire.ACL{{Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 80}}}}})
	x.must(err)
	_, err = w.API.WaitApplied(ctx, p.Version)
	x.must(err)
	x.begin()
	return x
}

func (x *transfer) must(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

// until waits for ok and says how long that took.
func (x *transfer) until(what string, ok func() bool) time.Duration {
	x.t.Helper()
	begun := time.Now()
	for !ok() {
		select {
		case <-time.After(20 * time.Millisecond): // TCP stacks run on the wall clock: there is no event
		case <-x.ctx.Done():
			x.t.Fatalf("never: %s; %+v", what, x.from.Status().Peers)
		}
	}
	return time.Since(begun).Round(time.Millisecond)
}

func (x *transfer) begin() {
	l, err := x.to.Listen(x.ctx, 80)
	x.must(err)
	x.t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			x.received <- ending{err: err}
			return
		}
		x.accepted.Add(1)
		h := sha256.New()
		n, err := io.Copy(io.MultiWriter(h, counter{&x.arrived}), c)
		c.Close()
		x.received <- ending{hex.EncodeToString(h.Sum(nil)), n, err}
	}()
	begun := time.Now()
	c, err := x.from.DialContext(x.ctx, "tcp", "receiver.enclave:80")
	x.must(err)
	x.t.Logf("connected after %v", time.Since(begun))
	go func() {
		h := sha256.New()
		block, n := make([]byte, 16<<10), int64(0)
		rng := rand.New(rand.NewPCG(baseSeed(), 1))
		for {
			for i := range block {
				block[i] = byte(rng.Uint32())
			}
			select {
			case <-x.stop:
				err := c.Close()
				x.sent <- ending{hex.EncodeToString(h.Sum(nil)), n, err}
				return
			case <-time.After(2 * time.Millisecond): // some 50 Mbit/s: two cores are shared
			}
			k, err := c.Write(block)
			h.Write(block[:k])
			if n += int64(k); err != nil {
				x.sent <- ending{err: err}
				return
			}
		}
	}()
}

// flows reports whether anything arrives.
func (x *transfer) flows() bool {
	before := x.arrived.Load()
	time.Sleep(200 * time.Millisecond) // what flows, flows in that time
	return x.arrived.Load() > before
}

// by reports whether both ways are of a kind, and the transfer flows.
func (x *transfer) by(kind string) func() bool {
	return func() bool {
		for _, a := range []*lab.Agent{x.from, x.to} {
			for _, p := range a.Status().Peers {
				if p.Route != kind {
					return false
				}
			}
		}
		return x.flows()
	}
}

// end stops the writer and checks that every byte arrived, in one connection.
func (x *transfer) end() (bytes int64, drained time.Duration) {
	x.t.Helper()
	close(x.stop)
	drained = x.until("all has arrived", func() bool { return len(x.sent) > 0 && len(x.received) > 0 })
	s, r := <-x.sent, <-x.received
	if s.err != nil || r.err != nil || s.sum != r.sum || s.bytes != r.bytes || x.accepted.Load() != 1 {
		x.t.Fatalf("sent %+v, received %+v, %d connections", s, r, x.accepted.Load())
	}
	return r.bytes, drained
}

// TestOneTransferManyRoutes keeps one TCP connection of two whole agents full while the
// pair goes from the relay to the direct path, back to the relay, and to the direct path
// again: every byte arrives, in one connection.
func TestOneTransferManyRoutes(t *testing.T) {
	x := newTransfer(t)
	t.Logf("relayed, flowing: %v", x.until("relayed", x.by("relay")))
	x.net.Heal(x.from.Host, x.to.Host)
	t.Logf("relay to direct, flowing: %v", x.until("direct", x.by("direct")))
	x.net.Partition(x.from.Host, x.to.Host)
	t.Logf("direct path cut, flowing by relay: %v", x.until("relayed again", x.by("relay")))
	x.net.Heal(x.from.Host, x.to.Host)
	t.Logf("relay to direct again, flowing: %v", x.until("direct again", x.by("direct")))
	bytes, drained := x.end()
	t.Logf("seed %d: %d MB in one connection over relay, direct, relay, direct: 0 connections and 0 bytes lost; the rest arrived %v after the last write", baseSeed(), bytes>>20, drained)
}

// TestTransferOverAPathOfManySizes narrows the direct path under a transfer, as far as IPv4
// goes, and widens it: every byte arrives in one connection, and all but what was under
// way at a change goes directly.
func TestTransferOverAPathOfManySizes(t *testing.T) {
	x := newTransfer(t)
	x.net.Heal(x.from.Host, x.to.Host)
	x.until("direct", x.by("direct"))
	router := x.from.Host.Network().Router()
	for _, mtu := range []int{1500, 1400, 1300, 1260, 900, 576, 1500} {
		x.must(router.SetUplink(natlab.LinkConfig{MTU: mtu}))
		// A full packet of the tunnel has 1,340 bytes. One that goes by the relay has more.
		streak := 0 // what was under way before the change must not count for it
		settled := x.until("direct at this size", func() bool {
			direct, relayed := x.goodput()
			if streak++; x.from.Status().Peers[0].Route != "direct" || direct < 50*relayed || direct < 16<<10 {
				streak = 0
			}
			return streak == 5
		})
		direct, relayed := x.goodput()
		t.Logf("MTU %d: direct after %v; of which it held for 1 s; then %d kB/s directly and %d kB/s by relays", mtu, settled, direct*5>>10, relayed*5>>10)
	}
	bytes, drained := x.end()
	t.Logf("seed %d: %d MB in one connection: 0 connections and 0 bytes lost; the rest arrived %v after the last write", baseSeed(), bytes>>20, drained)
}

// goodput is what the sender's host sends directly and elsewhere in 200 ms, in bytes.
func (x *transfer) goodput() (direct, elsewhere uint64) {
	sum := func() (direct, elsewhere uint64) {
		x.net.EachTraffic(func(from, to string, n natlab.Traffic) {
			switch {
			case from != x.from.Host.String():
			case to == x.to.Host.String():
				direct += n.Bytes
			default:
				elsewhere += n.Bytes
			}
		})
		return direct, elsewhere
	}
	d, e := sum()
	time.Sleep(200 * time.Millisecond)
	d2, e2 := sum()
	return d2 - d, e2 - e
}

// counter counts what is written to it.
type counter struct{ n *atomic.Int64 }

func (c counter) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return len(b), nil
}
