package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"enclave/agent/filter"
	"enclave/agent/gateway"
	"enclave/agent/proxy"
	"enclave/wire"
)

// carry makes the gateway of this system follow m. Its filter has the grants already.
func (p *parts) carry(o *overlay, m *wire.Map, peers []wire.Peer) {
	g := o.gate.Load()
	if g == nil {
		if !carries(m, peers) {
			return
		}
		made := gateway.New(gateway.Config{
			Network: p.agent.cfg.Network, Back: o.tunnel, Overlay: overlayRanges(m.Self), Known: p.agent.seenAs,
			Log: p.agent.log.With("part", "gateway"),
		})
		if err := o.tunnel.Forward(made); err != nil {
			made.Close()
			if o.gateErr.Swap(&err) == nil {
				p.agent.log.Error("this system cannot be a gateway", "error", err)
			}
			return
		}
		o.gate.Store(made)
		g = made
	}
	g.SetRoutes(gateway.NewRoutes(m.Self.Routes))
}

// carries reports whether this system is to be a gateway.
func carries(m *wire.Map, peers []wire.Peer) bool {
	return len(m.Self.Routes) > 0 || slices.ContainsFunc(peers, func(p wire.Peer) bool {
		return slices.ContainsFunc(p.Grants, func(g wire.Grant) bool { return g.To == m.Self.ID && g.Subnets != nil })
	})
}

// overlayRanges are those that no gateway reaches: RFC 6598 shared space, of which the
// overlay has a part, and the organisation's unique local prefix (RFC 4193).
func overlayRanges(s wire.Self) []netip.Prefix {
	six, _ := s.IPv6.Prefix(48)
	return []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10"), six}
}

// seenAs lists the addresses under which others reach this host.
func (a *Agent) seenAs() (out []netip.Addr) {
	if r := a.view.Load().reach; r != nil {
		for _, c := range r.Candidates {
			out = append(out, c.Addr.Addr().Unmap())
		}
	}
	return out
}

// gatewayTo returns the gateway that a flow to dst takes. unknown is the answer where no
// gateway carries dst at all.
func (a *Agent) gatewayTo(o *overlay, proto wire.Proto, dst netip.AddrPort, target string, unknown error) (*contact, error) {
	v := a.view.Load()
	if id, ok := o.filter.Via(proto, dst, time.Now()); ok {
		if c := v.byID[id]; c != nil {
			return c, nil
		}
	}
	for _, c := range v.byID {
		for _, g := range c.Grants {
			if g.From == v.self.ID && slices.ContainsFunc(g.Subnets, func(p netip.Prefix) bool { return p.Contains(dst.Addr()) }) {
				err := fmt.Errorf("no rule lets %s start %s/%d to %s behind %s", v.self.Name, proto, dst.Port(), dst.Addr(), c.Name)
				return nil, &proxy.Error{Reason: proxy.Denied, Target: target, Err: err}
			}
		}
	}
	return nil, unknown
}

// How gateways are watched. One that dies is noticed after at most healthEvery and two
// probes, 4 s; while there is no choice nobody is probed.
const (
	healthEvery = 2 * time.Second
	healthWait  = time.Second
)

// watchGateways tells the filter which gateways answer, and how fast.
func (p *parts) watchGateways(ctx context.Context) error {
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	health := map[wire.SystemID]filter.Health{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		o := p.overlay.Load()
		if o == nil {
			continue
		}
		ids := o.filter.Gateways()
		if len(ids) < 2 {
			if len(health) > 0 {
				health = map[wire.SystemID]filter.Health{}
				o.filter.SetHealth(health)
			}
			continue
		}
		next := p.probe(ctx, ids)
		for id, h := range next {
			if was, known := health[id]; known && was.Down != h.Down || !known && h.Down {
				p.agent.log.Info("gateway", "peer", id, "up", !h.Down)
			}
			if h.RTT == 0 {
				h.RTT = health[id].RTT
				next[id] = h
			}
		}
		health = next
		o.filter.SetHealth(health)
	}
}

// probe asks each gateway up to twice.
func (p *parts) probe(ctx context.Context, ids []wire.SystemID) map[wire.SystemID]filter.Health {
	out := make(map[wire.SystemID]filter.Health, len(ids))
	var mu sync.Mutex // guards out
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Go(func() {
			h := filter.Health{Down: true}
			for range 2 {
				try, cancel := context.WithTimeout(ctx, healthWait)
				r, err := p.link.Ping(try, id)
				cancel()
				if err == nil {
					h = filter.Health{RTT: max(r.RTT, 1)}
					break
				}
			}
			mu.Lock()
			defer mu.Unlock()
			out[id] = h
		})
	}
	wg.Wait()
	return out
}
