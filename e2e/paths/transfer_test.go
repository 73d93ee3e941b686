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

// TestOneTransferManyRoutes keeps one TCP connection of two whole agents full while the
// pair goes from the relay to the direct path, back to the relay, and to the direct path
// again: every byte arrives, in one connection.
func TestOneTransferManyRoutes(t *testing.T) {
	if testing.Short() {
		t.Skip("TCP over the simulated internet needs the wall clock")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	net := natlab.New(natlab.Config{Seed: baseSeed()}).Start()
	defer net.Close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w, err := lab.New(ctx, lab.Config{Lab: net, Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	must(err)
	defer w.Close()
	mile := natlab.Over(natlab.LinkConfig{Latency: 5 * time.Millisecond})
	var agents [2]*lab.Agent
	for i, name := range []string{"sender", "receiver"} {
		key, err := w.API.CreateKey(ctx, api.KeyCreate{Name: name, Approval: "automatic", Tags: []wire.Tag{wire.Tag(name)}})
		must(err)
		agents[i], err = w.Agent(ctx, name, net.Behind(natlab.Easy()), key.Secret, mile)
		must(err)
	}
	from, to := agents[0], agents[1]
	until := func(what string, ok func() bool) time.Duration {
		t.Helper()
		begun := time.Now()
		for !ok() {
			select {
			case <-time.After(20 * time.Millisecond): // TCP stacks run on the wall clock: there is no event
			case <-ctx.Done():
				t.Fatalf("never: %s; %+v", what, from.Status().Peers)
			}
		}
		return time.Since(begun).Round(time.Millisecond)
	}
	until("both agents run", func() bool {
		return from.Status().State == api.AgentRunning && to.Status().State == api.AgentRunning
	})
	net.Partition(from.Host, to.Host) // so that the relay comes first
	p, err := w.API.CreatePolicy(ctx, wire.Policy{Name: "p", Kind: wire.Direct, Enabled: true, SenderTags: []wire.Tag{"sender"},
		ReceiverTags: []wire.Tag{"receiver"}, ACLs: []wire.ACL{{Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 80}}}}})
	must(err)
	_, err = w.API.WaitApplied(ctx, p.Version)
	must(err)

	l, err := to.Listen(ctx, 80)
	must(err)
	defer l.Close()
	type end struct {
		sum   string
		bytes int64
		err   error
	}
	received := make(chan end, 1)
	accepted := atomic.Int32{}
	var arrived atomic.Int64
	go func() {
		c, err := l.Accept()
		if err != nil {
			received <- end{err: err}
			return
		}
		accepted.Add(1)
		h := sha256.New()
		n, err := io.Copy(io.MultiWriter(h, counter{&arrived}), c)
		c.Close()
		received <- end{hex.EncodeToString(h.Sum(nil)), n, err}
	}()
	begun := time.Now()
	c, err := from.DialContext(ctx, "tcp", "receiver.enclave:80")
	must(err)
	t.Logf("connected after %v", time.Since(begun))
	stop := make(chan struct{})
	sent := make(chan end, 1)
	go func() {
		h := sha256.New()
		block, n := make([]byte, 16<<10), int64(0)
		rng := rand.New(rand.NewPCG(baseSeed(), 1))
		for {
			for i := range block {
				block[i] = byte(rng.Uint32())
			}
			select {
			case <-stop:
				err := c.Close()
				sent <- end{hex.EncodeToString(h.Sum(nil)), n, err}
				return
			case <-time.After(2 * time.Millisecond): // some 50 Mbit/s: two cores are shared
			}
			k, err := c.Write(block)
			h.Write(block[:k])
			if n += int64(k); err != nil {
				sent <- end{err: err}
				return
			}
		}
	}()
	flows := func() bool {
		before := arrived.Load()
		time.Sleep(200 * time.Millisecond) // what flows, flows in that time
		return arrived.Load() > before
	}
	route := func(kind string) func() bool {
		return func() bool {
			for _, a := range agents {
				for _, p := range a.Status().Peers {
					if p.Route != kind {
						return false
					}
				}
			}
			return flows()
		}
	}
	t.Logf("relayed, flowing: %v", until("relayed", route("relay")))
	net.Heal(from.Host, to.Host)
	t.Logf("relay to direct, flowing: %v", until("direct", route("direct")))
	net.Partition(from.Host, to.Host)
	t.Logf("direct path cut, flowing by relay: %v", until("relayed again", route("relay")))
	net.Heal(from.Host, to.Host)
	t.Logf("relay to direct again, flowing: %v", until("direct again", route("direct")))
	close(stop)
	drained := until("all has arrived", func() bool { return len(sent) > 0 && len(received) > 0 })
	s, r := <-sent, <-received
	if s.err != nil || r.err != nil || s.sum != r.sum || s.bytes != r.bytes || accepted.Load() != 1 {
		t.Fatalf("sent %+v, received %+v, %d connections", s, r, accepted.Load())
	}
	t.Logf("seed %d: %d MB in one connection over relay, direct, relay, direct: 0 connections and 0 bytes lost; the rest arrived %v after the last write", baseSeed(), r.bytes>>20, drained)
}

// counter counts what is written to it.
type counter struct{ n *atomic.Int64 }

func (c counter) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return len(b), nil
}
