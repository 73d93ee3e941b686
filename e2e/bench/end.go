package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"enclave/agent"
	"enclave/agent/link"
	"enclave/cli/node"
	"enclave/wire"
	"enclave/wire/api"
)

// nodeConfig says which node to be; it travels to another process.
type nodeConfig struct {
	Name        string `json:"name"` // a measures, b serves
	Stock       bool   `json:"stock"`
	Control     string `json:"control,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Key         string `json:"key,omitempty"`
}

// stockPeer is what a stock node is told of the other.
type stockPeer struct {
	Key  []byte     `json:"key"`
	Addr netip.Addr `json:"addr"`
	Port uint16     `json:"port"`
}

// started is what others need to know of a node.
type started struct {
	ID    wire.SystemID `json:"id,omitempty"`
	Stock *stockPeer    `json:"stock,omitempty"`
	Addr  string        `json:"addr,omitempty"` // of a carrier
}

// port of the service on every node.
const port = 7

// end is one node of a pair, in this process.
type end struct {
	stock *stockNode
	agent *agent.Agent
	other netip.Addr // of a stock node
	stop  func()
}

// start brings a node up and serves on it.
func start(ctx context.Context, cfg *nodeConfig) (*end, *started, error) {
	if cfg.Stock {
		addrs := map[string]netip.Addr{"a": netip.AddrFrom4([4]byte{100, 64, 0, 1}), "b": netip.AddrFrom4([4]byte{100, 64, 0, 2})}
		s, err := newStockNode(addrs[cfg.Name])
		if err != nil {
			return nil, nil, err
		}
		n := &end{stock: s, stop: s.dev.Close, other: addrs[map[string]string{"a": "b", "b": "a"}[cfg.Name]]}
		l, err := s.net.ListenTCPAddrPort(netip.AddrPortFrom(s.addr, port))
		if err != nil {
			return nil, nil, errors.Join(err, n.close())
		}
		pc, err := s.net.ListenUDPAddrPort(netip.AddrPortFrom(s.addr, port))
		if err != nil {
			return nil, nil, errors.Join(err, n.close())
		}
		go serve(l)
		go servePackets(pc)
		return n, &started{Stock: &stockPeer{Key: s.key, Addr: s.addr, Port: s.port}}, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	a, err := agent.New(agent.Config{Name: cfg.Name, Control: cfg.Control, Fingerprint: cfg.Fingerprint, Keeper: &agent.MemoryKeeper{},
		Key: func() (string, error) { return cfg.Key, nil }, Network: link.System(), Loopback: true, MTU: mtu, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		cancel()
		return nil, nil, err
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = a.Run(ctx) }() // what it ended with shows in every measurement
	n := &end{agent: a, stop: func() { cancel(); <-done }}
	for a.Status().State != api.AgentRunning {
		select {
		case <-a.Changed():
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, nil, errors.Join(ctx.Err(), n.close())
		}
	}
	l, err := a.Listen(ctx, port)
	if err != nil {
		return nil, nil, errors.Join(err, n.close())
	}
	pc, err := a.ListenUDP(ctx, port)
	if err != nil {
		return nil, nil, errors.Join(err, n.close())
	}
	go serve(l)
	go servePackets(pc)
	_ = node.Trim() // as "enclave agent" does a moment after its start
	forgetPeak()
	return n, &started{ID: a.Status().Self.ID}, nil
}

func (n *end) close() error {
	n.stop()
	return nil
}

// introduce tells a stock node of the other.
func (n *end) introduce(p *stockPeer) error { return n.stock.introduce(p.Key, p.Addr, p.Port) }

// dial opens a flow to the other node.
func (n *end) dial(ctx context.Context, network string) (net.Conn, error) {
	if n.agent != nil {
		return n.agent.DialContext(ctx, network, fmt.Sprintf("b.enclave:%d", port))
	}
	return n.stock.dial(ctx, network, netip.AddrPortFrom(n.other, port))
}

// direct waits for the direct path: over the relay would be another benchmark.
func (n *end) direct(ctx context.Context) error {
	if n.agent == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		r, err := n.agent.Ping(ctx, "b")
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
