package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"enclave/agent"
	"enclave/cli/client"
	"enclave/cli/node"
	"enclave/relay"
	"enclave/wire"
)

// hub is a control plane and a relay in this process, for all pairs of agents.
type hub struct {
	cancel context.CancelFunc
	g      *errgroup.Group
	url    string
	stun   string
	first  *node.First
}

func newHub(ctx context.Context, dir string) (*hub, error) {
	ctx, cancel := context.WithCancel(ctx)
	h := &hub{cancel: cancel}
	h.g, ctx = errgroup.WithContext(ctx)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.close()
		return nil, err
	}
	stun, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		h.close()
		return nil, errors.Join(err, l.Close())
	}
	quiet := slog.New(slog.DiscardHandler)
	h.url, h.stun = "https://"+l.Addr().String(), stun.LocalAddr().String()
	up, err := node.OpenUp(ctx, node.UpConfig{
		Control: node.ControlConfig{Dir: filepath.Join(dir, "up"), URL: h.url, Listener: l, Logger: quiet},
		Relay: node.RelayConfig{Name: "bench", Keeper: &agent.MemoryKeeper{}, Dial: (&net.Dialer{}).DialContext, Logger: quiet,
			STUN: []relay.PacketConn{stun}, Info: wire.RelayInfo{Addr: l.Addr().String(), STUN: []string{stun.LocalAddr().String()}}},
	})
	if err != nil {
		h.close()
		return nil, err
	}
	h.g.Go(func() error { return up.Run(ctx) })
	h.first = up.First()
	return h, nil
}

func (h *hub) close() {
	h.cancel()
	_ = h.g.Wait() // what it ended with was said where it mattered
}

// pair is two nodes that know each other; a measures.
type pair struct{ a, b host }

func (p *pair) close() { _ = errors.Join(p.a.close(), p.b.close()) }

// measure does a job at a.
func (p *pair) measure(ctx context.Context, j *job) ([]float64, error) {
	a, err := p.a.do(ctx, j)
	if err != nil {
		return nil, err
	}
	return a.Values, nil
}

// meet starts a node on each host and introduces them: with stock nodes by hand, with
// agents by a policy of a control plane of their own.
func meet(ctx context.Context, dir string, stock bool, a, b host) (p *pair, stop func(), err error) {
	p = &pair{a, b}
	stop = p.close
	if stock {
		return p, stop, meetStock(ctx, p)
	}
	h, err := newHub(ctx, dir)
	if err != nil {
		return p, stop, err
	}
	return p, func() { p.close(); h.close() }, h.meet(ctx, p)
}

func meetStock(ctx context.Context, p *pair) error {
	x, err := p.a.do(ctx, &job{Do: doStart, Node: &nodeConfig{Name: "a", Stock: true}})
	if err != nil {
		return err
	}
	y, err := p.b.do(ctx, &job{Do: doStart, Node: &nodeConfig{Name: "b", Stock: true}})
	if err != nil {
		return err
	}
	if _, err := p.a.do(ctx, &job{Do: doIntroduce, Peer: y.Started.Stock}); err != nil {
		return err
	}
	_, err = p.b.do(ctx, &job{Do: doIntroduce, Peer: x.Started.Stock})
	return err
}

func (h *hub) meet(ctx context.Context, p *pair) error {
	c, err := client.New(client.Config{URL: h.url, Token: h.first.Token, Fingerprint: h.first.Fingerprint})
	if err != nil {
		return err
	}
	defer c.Close()
	for name, at := range map[string]host{"a": p.a, "b": p.b} {
		s, err := at.do(ctx, &job{Do: doStart, Node: &nodeConfig{Name: name, Control: h.url, Fingerprint: h.first.Fingerprint, Key: h.first.EnrolmentKey}})
		if err != nil {
			return err
		}
		if _, err := c.SetTags(ctx, string(s.Started.ID), []wire.Tag{wire.Tag(name)}, nil); err != nil {
			return err
		}
	}
	made, err := c.CreatePolicy(ctx, wire.Policy{Name: "bench", Kind: wire.Direct, Enabled: true, SenderTags: []wire.Tag{"a"},
		ReceiverTags: []wire.Tag{"b"}, ACLs: []wire.ACL{{Proto: wire.Any}}})
	if err != nil {
		return err
	}
	if _, err = c.WaitApplied(ctx, made.Version); err != nil {
		return err
	}
	if _, err := p.a.do(ctx, &job{Do: doDirect}); err != nil {
		return fmt.Errorf("agents: %w", err)
	}
	return nil
}
