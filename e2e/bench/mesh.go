package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"enclave/agent"
	"enclave/agent/link"
	"enclave/cli/client"
	"enclave/cli/node"
	"enclave/relay"
	"enclave/wire"
	"enclave/wire/api"
)

// echoes is how many round trips one round takes.
const echoes = 2000

// Mesh measures two agents of this machine over loopback, in one process, beside the
// cipher's limit and plain loopback TCP. The kinds take turns within each round, so
// that a slow minute of the machine hits them alike.
func Mesh(ctx context.Context, cfg Config) (Result, error) {
	res := Result{Bench: "mesh", Rounds: cfg.Rounds, Each: cfg.Each, CPUs: runtime.NumCPU()}
	dir, err := os.MkdirTemp("", "enclave-bench-")
	if err != nil {
		return res, err
	}
	defer os.RemoveAll(dir)
	m, err := newPair(ctx, dir)
	if err != nil {
		return res, err
	}
	defer m.close()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return res, err
	}
	defer plain.Close()
	go serve(plain)
	loopback := func() (net.Conn, error) { return net.Dial("tcp", plain.Addr().String()) }
	overlay := func() (net.Conn, error) { return m.a.DialContext(ctx, "tcp", "b.enclave:7") }

	rounds := make(map[string][]float64)
	add := func(name string, v float64, err error) error {
		rounds[name] = append(rounds[name], v)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return ctx.Err()
	}
	for i := range cfg.Rounds {
		cfg.progress("mesh", i)
		v, err := cipher(cfg.Each)
		if err := add("cipher", v, err); err != nil {
			return res, err
		}
		for _, g := range []struct {
			name    string
			streams int
			dial    func() (net.Conn, error)
		}{{"loopback 1", 1, loopback}, {"loopback 4", 4, loopback}, {"mesh 1", 1, overlay}, {"mesh 4", 4, overlay}} {
			v, err := goodput(g.streams, cfg.Each, g.dial)
			if err := add(g.name, v, err); err != nil {
				return res, err
			}
		}
		for name, dial := range map[string]func() (net.Conn, error){"loopback": loopback, "mesh": overlay} {
			rtt, err := roundTrips(echoes, dial)
			if err != nil {
				return res, err
			}
			slices.Sort(rtt)
			rounds[name+" p50"] = append(rounds[name+" p50"], float64(rtt[len(rtt)/2].Nanoseconds())/1000)
			rounds[name+" p99"] = append(rounds[name+" p99"], float64(rtt[len(rtt)*99/100].Nanoseconds())/1000)
		}
	}
	limit := figure("ChaCha20-Poly1305 seal+open, one core", "Gbit/s", rounds["cipher"])
	tcp1 := figure("loopback TCP, 1 stream", "Gbit/s", rounds["loopback 1"])
	tcp4 := figure("loopback TCP, 4 streams", "Gbit/s", rounds["loopback 4"])
	rtt50 := figure("loopback TCP, round trip p50", "µs", rounds["loopback p50"])
	rtt99 := figure("loopback TCP, round trip p99", "µs", rounds["loopback p99"])
	mesh1 := figure("mesh, 1 stream", "Gbit/s", rounds["mesh 1"])
	mesh4 := figure("mesh, 4 streams", "Gbit/s", rounds["mesh 4"])
	res.Figures = []Figure{limit, tcp1, tcp4, mesh1.of(limit), mesh4.of(limit),
		withName(mesh1, "mesh, 1 stream, beside TCP").of(tcp1), withName(mesh4, "mesh, 4 streams, beside TCP").of(tcp4),
		rtt50, rtt99, figure("mesh, round trip p50", "µs", rounds["mesh p50"]).of(rtt50), figure("mesh, round trip p99", "µs", rounds["mesh p99"]).of(rtt99)}
	return res, nil
}

func withName(f Figure, name string) Figure {
	f.Name = name
	return f
}

// pair is two agents with a control plane and a relay of their own.
type pair struct {
	cancel context.CancelFunc
	g      *errgroup.Group
	a, b   *agent.Agent
}

func newPair(ctx context.Context, dir string) (*pair, error) {
	ctx, cancel := context.WithCancel(ctx)
	p := &pair{cancel: cancel}
	p.g, ctx = errgroup.WithContext(ctx)
	fail := func(err error) (*pair, error) { p.close(); return nil, err }

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fail(err)
	}
	stun, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return fail(errors.Join(err, l.Close()))
	}
	quiet := slog.New(slog.DiscardHandler)
	url := "https://" + l.Addr().String()
	up, err := node.OpenUp(ctx, node.UpConfig{
		Control: node.ControlConfig{Dir: filepath.Join(dir, "up"), URL: url, Listener: l, Logger: quiet},
		Relay: node.RelayConfig{Name: "bench", Keeper: &agent.MemoryKeeper{}, Dial: (&net.Dialer{}).DialContext, Logger: quiet,
			STUN: []relay.PacketConn{stun}, Info: wire.RelayInfo{Addr: l.Addr().String(), STUN: []string{stun.LocalAddr().String()}}},
	})
	if err != nil {
		return fail(err)
	}
	p.g.Go(func() error { return up.Run(ctx) })
	first := up.First()
	for name, a := range map[string]**agent.Agent{"a": &p.a, "b": &p.b} {
		*a, err = agent.New(agent.Config{Name: name, Control: url, Fingerprint: first.Fingerprint, Keeper: &agent.MemoryKeeper{},
			Key: func() (string, error) { return first.EnrolmentKey, nil }, Network: link.System(), Loopback: true, MTU: 1420, Logger: quiet})
		if err != nil {
			return fail(err)
		}
		p.g.Go(func() error { return (*a).Run(ctx) })
	}
	if err := p.introduce(ctx, url, first); err != nil {
		return fail(err)
	}
	listener, err := p.b.Listen(ctx, 7)
	if err != nil {
		return fail(err)
	}
	go serve(listener)
	return p, p.direct(ctx)
}

// introduce makes the policy that lets a reach b.
func (p *pair) introduce(ctx context.Context, url string, first *node.First) error {
	c, err := client.New(client.Config{URL: url, Token: first.Token, Fingerprint: first.Fingerprint})
	if err != nil {
		return err
	}
	defer c.Close()
	for _, a := range []*agent.Agent{p.a, p.b} {
		for a.Status().State != api.AgentRunning {
			select {
			case <-a.Changed():
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		self := a.Status().Self
		if _, err := c.SetTags(ctx, string(self.ID), []wire.Tag{wire.Tag(self.Name)}, nil); err != nil {
			return err
		}
	}
	made, err := c.CreatePolicy(ctx, wire.Policy{Name: "bench", Kind: wire.Direct, Enabled: true, SenderTags: []wire.Tag{"a"},
		ReceiverTags: []wire.Tag{"b"}, ACLs: []wire.ACL{{Proto: wire.Any}}})
	if err != nil {
		return err
	}
	_, err = c.WaitApplied(ctx, made.Version)
	return err
}

// direct waits for the direct path: over the relay would be another benchmark.
func (p *pair) direct(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		r, err := p.a.Ping(ctx, "b")
		if err == nil && r.Route == "direct" {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("no direct path on loopback: %w", ctx.Err())
		}
	}
}

func (p *pair) close() {
	p.cancel()
	_ = p.g.Wait() // what it ended with was said where it mattered
}
