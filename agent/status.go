package agent

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"enclave/agent/link"
	"enclave/agent/proxy"
	"enclave/agent/tunnel"
	"enclave/wire"
	"enclave/wire/api"
)

// Status tells what the agent knows of itself and its peers.
func (a *Agent) Status() api.AgentStatus {
	v := a.view.Load()
	s := api.AgentStatus{
		State: v.state, Self: v.self, Control: v.control, Revision: v.revision, Rejected: v.rejected,
		Version: a.cfg.Version, Peers: []api.AgentPeer{}, Flows: []api.AgentFlow{}, Filter: map[string]int64{},
	}
	if until := v.until; !until.IsZero() {
		s.ValidUntil = &until
	}
	if s.Control.Connected {
		s.Control.How = a.way.String()
	}
	s.Warnings = a.warnings(v, time.Now())
	s.Witness = v.witness.view()
	if c := a.cert.Load(); c != nil {
		s.SVIDUntil = c.Leaf.NotAfter
	}
	if v.reach != nil {
		s.Reach = *v.reach
	}
	p := a.parts.Load()
	if p == nil {
		return s
	}
	s.Network = agentNetwork(p.link.NetInfo())
	routes := make(map[wire.SystemID]link.PeerStatus)
	for _, r := range p.link.Status() {
		routes[r.ID] = r
	}
	o := p.overlay.Load()
	stats := o.stats()
	for i := range v.peers {
		peer := &v.peers[i]
		s.Peers = append(s.Peers, agentPeer(peer, routes[peer.ID], stats[peer.WireGuard]))
	}
	if o != nil {
		o.fill(&s)
		s.Gateway = o.gatewayStatus(v.self)
	}
	return s
}

// warnings are what an operator should do something about.
func (a *Agent) warnings(v *view, now time.Time) (out []string) {
	warn := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if v.until.IsZero() && (v.state == api.AgentRunning || v.state == api.AgentOffline) {
		warn("the map never expires: without control this agent goes on for ever")
	}
	if skew := v.control.ClockSkew; skew.Abs() > wire.MaxClockSkew {
		word := "behind"
		if skew < 0 {
			word = "ahead of"
		}
		warn("this machine's clock is %s %s control's: hours and expiry end at the wrong time, and the identity cannot be renewed; set the clock",
			skew.Abs().Round(time.Second), word)
	}
	if err := a.unproved.Load(); err != nil {
		tense := "ends"
		if until := a.cert.Load().Leaf.NotAfter; !now.Before(until) {
			tense = "ended"
		}
		warn("the identity of this system %s %s and is not renewed yet: %v", tense, a.cert.Load().Leaf.NotAfter.UTC().Format(time.RFC3339), *err)
	}
	if w := v.witness; w != nil && w.Alarm != "" {
		warn("the audit trail of control cannot be trusted: %s (refused at %s; this system keeps both checkpoints, see: enclave audit witness)",
			w.Alarm, w.RefusedAt.UTC().Format(time.RFC3339))
	}
	if p := a.parts.Load(); p != nil {
		if o := p.overlay.Load(); o != nil {
			out = append(out, o.gatewayWarnings(v.self)...)
		}
	}
	if v.trouble != nil {
		warn("the data plane does not follow the map: %v", v.trouble)
	}
	return out
}

func agentNetwork(n link.NetInfo) *api.AgentNetwork {
	out := &api.AgentNetwork{Listen: n.Listen, UDP: n.UDP, IPv4: n.IPv4, IPv6: n.IPv6, Port: n.Port, Room: n.Room,
		Observed: append([]netip.AddrPort{}, n.Observed...), Relays: []api.AgentRelay{}}
	if m := n.Mapping; m != nil {
		out.Mapping = &api.AgentMapping{How: m.How, Error: m.Error}
		if m.Addr.IsValid() {
			out.Mapping.Addr = m.Addr.String()
		}
	}
	for _, r := range n.Relays {
		out.Relays = append(out.Relays, api.AgentRelay{ID: r.ID, Addr: r.Addr, STUN: append([]string{}, r.STUN...), RTT: r.RTT, Connected: r.Connected, How: r.How, Error: r.Error})
	}
	return out
}

func agentPeer(p *wire.Peer, r link.PeerStatus, t tunnel.Stats) api.AgentPeer {
	out := api.AgentPeer{
		ID: p.ID, Name: p.Name, IPv4: p.IPv4, IPv6: p.IPv6, Grants: p.Grants,
		Since: r.Since, Moves: r.Moves, RTT: r.RTT, WhyNotDirect: string(r.Why), Why: r.Why.Sentence(), Received: r.RxBytes, Sent: r.TxBytes,
		LastHandshake: t.LastHandshake,
	}
	if r.Moves > 1 {
		out.Was = r.Was.String()
	}
	out.Route, out.Via = routeWords(r.Route)
	return out
}

// Ping probes a peer over the path that its data takes. It needs no rule: it is
// answered below the overlay, by whoever a policy has introduced.
func (a *Agent) Ping(ctx context.Context, name string) (api.PingResult, error) {
	if host, err := a.address(ctx, name); err == nil { // a name behind a gateway
		name = host
	}
	peer, err := a.peer(name, name)
	if addr, parsed := netip.ParseAddr(name); err != nil && parsed == nil {
		return a.pingBehind(ctx, addr.Unmap(), err)
	}
	if err != nil {
		return api.PingResult{}, err
	}
	p := a.parts.Load()
	if p == nil {
		return api.PingResult{}, ErrNotReady
	}
	r, err := p.link.Ping(ctx, peer.ID)
	if err != nil {
		return api.PingResult{}, fmt.Errorf("ping %s: %w", peer.Name, err)
	}
	out := api.PingResult{Peer: peer.ID, Name: peer.Name, Addr: peer.IPv4, RTT: r.RTT}
	if out.Route, out.Via = routeWords(r.Route); !r.Route.Direct.IsValid() {
		out.Why = a.whyNotDirect(p, peer.ID)
	}
	return out, nil
}

func (a *Agent) whyNotDirect(p *parts, id wire.SystemID) string {
	for _, s := range p.link.Status() {
		if s.ID == id {
			return s.Why.Sentence()
		}
	}
	return ""
}

// PingThrough is Ping and then an ICMP echo through the overlay, which takes a rule.
func (a *Agent) PingThrough(ctx context.Context, name string) (api.PingResult, error) {
	r, err := a.Ping(ctx, name)
	if err != nil || r.Route == "gateway" { // that one is an echo already
		return r, err
	}
	o, err := a.data()
	if err != nil {
		return r, err
	}
	to := r.Addr
	if addr, err := netip.ParseAddr(name); err == nil {
		to = addr.Unmap()
	}
	r.Inner = new(api.InnerPing)
	if !o.allows(wire.ICMP, netip.AddrPortFrom(to, 0), time.Now()) {
		r.Inner.Error = fmt.Sprintf("no rule lets %s send icmp to %s", a.view.Load().self.Name, r.Name)
	} else if r.Inner.RTT, err = o.tunnel.Ping(ctx, to); err != nil {
		r.Inner.Error = err.Error()
	}
	return r, nil
}

// WaitFor returns once the named system is introduced and answers, or with the
// reason why it is not when ctx ends.
func (a *Agent) WaitFor(ctx context.Context, name string) (api.PingResult, error) {
	var last error = &proxy.Error{Reason: proxy.UnknownName, Target: name}
	for {
		changed := a.events.changed()
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		r, err := a.Ping(attempt, name)
		cancel()
		if err == nil {
			return r, nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-changed:
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return api.PingResult{}, last
		}
	}
}

// Keys returns the public keys that WireGuard holds now: exactly those of the peers
// that some policy introduces at this instant.
func (a *Agent) Keys() []wire.WireGuardKey {
	o, err := a.data()
	if err != nil {
		return nil
	}
	return slices.Collect(maps.Keys(o.tunnel.PeerStats()))
}

// PublicKey is this system's own WireGuard key.
func (a *Agent) PublicKey() wire.WireGuardKey { return a.keys.WireGuard }

// Changed returns a channel that is closed when the status has changed next.
func (a *Agent) Changed() <-chan struct{} { return a.events.changed() }
