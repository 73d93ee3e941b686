package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"enclave/agent/filter"
	"enclave/agent/gateway"
	"enclave/agent/proxy"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/names"
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
			Named: o.named, Log: p.agent.log.With("part", "gateway"),
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
	g.Review()
}

// namers are the peers that may reach names behind this system, by their addresses.
func namers(peers []wire.Peer) map[netip.Addr]*wire.Peer {
	out := make(map[netip.Addr]*wire.Peer)
	for i := range peers {
		p := &peers[i]
		if slices.ContainsFunc(p.Grants, func(g wire.Grant) bool { return g.From == p.ID && len(g.Names) > 0 }) {
			out[p.IPv4], out[p.IPv6] = p, p
		}
	}
	return out
}

// named says which name a stand-in is for a flow, and where the grants that allow the
// flow now let it lead.
func (o *overlay) named(proto wire.Proto, src, dst netip.AddrPort) (n gateway.Named, ok bool) {
	all := o.namers.Load()
	if all == nil || (*all)[src.Addr()] == nil {
		return n, false
	}
	p, now, stand := (*all)[src.Addr()], o.filter.Time(time.Now()), netip.PrefixFrom(dst.Addr(), dst.Addr().BitLen())
	for i := range p.Grants {
		g := &p.Grants[i]
		if g.From != p.ID || len(g.Names) == 0 || !g.ActiveAt(now) || !slices.Contains(g.Subnets, stand) ||
			g.Proto != wire.Any && (g.Proto != proto || g.Ports != nil && !g.Ports.Contains(dst.Port())) {
			continue
		}
		at := slices.IndexFunc(g.Names, func(name string) bool { return n.Name == name || names.StandIn(name) == dst.Addr() })
		if at >= 0 {
			n.Name, n.Within = g.Names[at], append(n.Within, g.Within...)
		}
	}
	return n, n.Name != ""
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

// dialBehind opens a connection through a gateway. When one dies meanwhile it begins
// again: the next first segment of this attempt may be seconds away, and the flow's
// gateway is chosen when it opens.
func (o *overlay) dialBehind(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
	for {
		died := o.died.changed()
		try, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			select {
			case <-died:
				cancel()
			case <-done:
			}
		}()
		c, err := o.tunnel.DialTCP(try, dst)
		close(done)
		again := err != nil && try.Err() != nil && ctx.Err() == nil
		cancel()
		if !again {
			return c, err
		}
	}
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
				err := fmt.Errorf("no rule lets %s start %s/%d to %s behind %s", v.self.Name, proto, dst.Port(), hostOf(target), c.Name)
				return nil, &proxy.Error{Reason: proxy.Denied, Target: target, Err: err}
			}
		}
	}
	return nil, unknown
}

// hostOf is what somebody asked for, less its port.
func hostOf(target string) string {
	if host, _, err := net.SplitHostPort(target); err == nil {
		return host
	}
	return target
}

// How gateways are watched. One that dies is noticed after at most healthEvery and two
// probes, 3 s; while there is no choice nobody is probed.
const (
	healthEvery = time.Second
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
		died := false
		for id, h := range next {
			died = died || h.Down && !health[id].Down
		}
		health = next
		o.filter.SetHealth(health)
		if died {
			o.died.announce()
		}
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

// gatewayWarnings are what an operator should do about this system as a gateway.
func (o *overlay) gatewayWarnings(self wire.Self) (out []string) {
	if err := o.gateErr.Load(); err != nil && o.gate.Load() == nil {
		out = append(out, fmt.Sprintf("this system is to be a gateway and cannot: %v", *err))
	}
	if o.gate.Load() != nil && self.Routes != nil && len(self.Routes) == 0 {
		out = append(out, fmt.Sprintf("this system was a gateway and may carry nothing any more: "+
			"\"enclave system route add %s SUBNET\" lets it, or take it out of the gateway policies", self.ID))
	}
	return out
}

// pingBehind sends an ICMP echo to an address behind a gateway, which unlike a probe of a
// peer takes a rule. unknown is the answer where no gateway carries the address.
func (a *Agent) pingBehind(ctx context.Context, addr netip.Addr, unknown error) (api.PingResult, error) {
	o, err := a.data()
	if err != nil {
		return api.PingResult{}, err
	}
	gate, err := a.gatewayTo(o, wire.ICMP, netip.AddrPortFrom(addr, 0), addr.String(), unknown)
	if err != nil {
		return api.PingResult{}, err
	}
	rtt, err := o.tunnel.Ping(ctx, addr)
	if err != nil {
		return api.PingResult{}, err
	}
	return api.PingResult{Peer: gate.ID, Name: gate.Name, Addr: addr, RTT: rtt, Route: "gateway", Via: gate.Name}, nil
}

// gatewayStatus is what this system carries; nil for one that is no gateway.
func (o *overlay) gatewayStatus(self wire.Self) *api.AgentGateway {
	g := o.gate.Load()
	if g == nil {
		return nil
	}
	s := g.Stats()
	return &api.AgentGateway{Routes: append([]wire.Route{}, self.Routes...), TCP: s.TCP, UDP: s.UDP, Opened: s.Opened,
		Refused: s.Refused, Failed: s.Failed, Echoes: s.Echoes}
}
