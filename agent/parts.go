package agent

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"enclave/agent/filter"
	"enclave/agent/gateway"
	"enclave/agent/link"
	"enclave/agent/tunnel"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/disco"
	"enclave/wire/svid"
)

// parts are what an agent is built of. The link stands from the start; the overlay
// comes with the first map, which says what this system's addresses are.
type parts struct {
	agent   *Agent
	link    *link.Link
	overlay atomic.Pointer[overlay]
}

var _ plane = (*parts)(nil)

// overlay is the data plane: WireGuard, its stack and the filter between them.
type overlay struct {
	addrs  []netip.Addr
	tunnel *tunnel.Tunnel
	filter *filter.Table

	// gate carries others to networks behind this system. It is there from the first
	// route or grant on; gateErr says why it cannot be. Both are the loop's.
	gate    atomic.Pointer[gateway.Gateway]
	gateErr atomic.Pointer[error]
	died    events // announces that a gateway of ours has stopped to answer

	namers atomic.Pointer[map[netip.Addr]*wire.Peer] // who may reach names behind us, by address
}

// open builds the link.
func (a *Agent) open() (*parts, error) {
	trust, err := a.trust()
	if err != nil {
		return nil, err
	}
	p := &parts{agent: a}
	p.link, err = link.New(link.Config{
		Network: a.cfg.Network, Self: a.st.System, WireGuard: a.keys.WireGuard, Disco: disco.PrivateKey(a.st.Disco),
		TLS: func(id wire.RelayID) *tls.Config {
			return svid.ClientConfig(trust, a.source, svid.Relay(trust.Org, id))
		},
		Streams: link.Streams{
			Listen: a.cfg.ListenTCP,
			Server: func() *tls.Config { return svid.ServerConfig(trust, a.source, svid.ClientRequired) },
			Client: func(id wire.SystemID) *tls.Config {
				return svid.ClientConfig(trust, a.source, svid.System(trust.Org, id))
			},
		},
		Logger:  a.log.With("part", "link"),
		OnReach: func(r wire.Reach) { a.events.post(&r) },
		OnRoute: func(s link.PeerStatus) {
			a.log.Debug("route", "peer", s.ID, "route", s.Route.String())
			if o := p.overlay.Load(); o != nil {
				o.tunnel.SetSize(s.Key, s.MTU)
			}
			a.events.announce()
		},
		Port:               a.cfg.Port,
		MTU:                a.cfg.MTU,
		Proxy:              a.cfg.Proxy,
		Predict:            a.cfg.Predict,
		Spray:              a.cfg.Spray,
		Mapper:             a.cfg.Mapper,
		LoopbackCandidates: a.cfg.Loopback,
	})
	if err != nil {
		return nil, err
	}
	a.parts.Store(p)
	return p, nil
}

// closeOverlay resets what runs through the overlay and ends it.
func (p *parts) closeOverlay() {
	o := p.overlay.Load()
	if o == nil {
		return
	}
	if g := o.gate.Load(); g != nil {
		g.Close()
	}
	o.tunnel.Close()
}

// apply makes the data plane follow m, of whose peers those given are in force. The
// filter comes first: when apply has taken that step, nothing that they are not
// granted passes any more, whatever the rest still does.
func (p *parts) apply(m *wire.Map, peers []wire.Peer, cause string, now, at time.Time) error {
	o, err := p.overlayFor(m, at)
	if err != nil || o == nil {
		return err
	}
	rules := make([]filter.Peer, len(peers))
	links := make([]link.Peer, len(peers))
	tunnels := make([]tunnel.Peer, len(peers))
	for i, peer := range peers {
		addrs := []netip.Addr{peer.IPv4, peer.IPv6}
		rules[i] = filter.Peer{ID: peer.ID, Addrs: addrs, Grants: peer.Grants}
		links[i] = link.Peer{ID: peer.ID, WireGuard: peer.WireGuard, Disco: peer.Disco, Reach: peer.Reach, Ticket: peer.Ticket}
		if len(peer.SVID) > 0 {
			links[i].SVID = peer.SVID[0]
		}
		tunnels[i] = tunnel.Peer{Key: peer.WireGuard, Addrs: addrs}
	}
	named := namers(peers) // before the filter lets a flow to one through
	o.namers.Store(&named)
	p.cut(o, o.filter.Update(rules, cause, now))
	p.carry(o, m, peers)
	p.link.SetRelays(m.Relays)
	p.link.SetPeers(links)
	return o.tunnel.SetPeers(tunnels)
}

// overlayFor returns the data plane, made on first use with the time that is given. Nil
// means that this system has no addresses yet.
func (p *parts) overlayFor(m *wire.Map, at time.Time) (*overlay, error) {
	if o := p.overlay.Load(); o != nil {
		if m.Self.IPv4 != o.addrs[0] || m.Self.IPv6 != o.addrs[1] {
			return nil, fmt.Errorf("this system's addresses have changed from %s to %s and %s: restart the agent", o.addrs, m.Self.IPv4, m.Self.IPv6)
		}
		return o, nil
	}
	if !m.Self.IPv4.IsValid() || !m.Self.IPv6.IsValid() {
		return nil, nil
	}
	o := &overlay{addrs: []netip.Addr{m.Self.IPv4, m.Self.IPv6}}
	o.died.init()
	o.filter = filter.New(filter.Config{Self: m.Self.ID, Addrs: o.addrs})
	o.filter.SetClock(at, time.Now())
	var err error
	o.tunnel, err = tunnel.New(tunnel.Config{
		Addrs: o.addrs, MTU: p.agent.cfg.MTU, PrivateKey: [32]byte(p.agent.st.WireGuard), Bind: p.link,
		Filter: o.filter, Netstack: p.agent.cfg.Netstack, Logger: p.agent.log.With("part", "tunnel"), Lazy: true,
	})
	if err != nil {
		return nil, err
	}
	if err := o.tunnel.Up(); err != nil {
		o.tunnel.Close()
		return nil, err
	}
	p.overlay.Store(o)
	return o, nil
}

// expire cuts flows whose time has come and returns when to look again.
func (p *parts) expire(now time.Time) time.Time {
	o := p.overlay.Load()
	if o == nil {
		return time.Time{}
	}
	cuts, next := o.filter.Expire(now)
	p.cut(o, cuts)
	return next
}

// set makes wall the time by which grants end.
func (p *parts) set(wall time.Time) {
	if o := p.overlay.Load(); o != nil {
		o.filter.SetClock(wall, time.Now())
	}
}

// cut ends flows: both ends are told, and the log says why.
func (p *parts) cut(o *overlay, cuts []filter.Cut) {
	for _, c := range cuts {
		cause := c.Cause
		if c.By != nil {
			cause = cmp.Or(c.By.Ended(p.agent.view.Load().called), cause)
		}
		p.agent.log.Info("flow cut", "flow", c.Flow.String(), "policy", c.Flow.Policy, "name", c.Name, "rule", c.Flow.Rule,
			"peer", c.Peer, "inbound", c.Inbound, "cause", cause)
		o.tunnel.Inject(c.Local, c.Remote)
		if g := o.gate.Load(); g != nil && c.Beyond && c.Inbound {
			g.Cut(c.Flow)
		}
	}
}

// stats asks WireGuard about all its peers: one question, whoever is asked about.
func (o *overlay) stats() map[wire.WireGuardKey]tunnel.Stats {
	if o == nil {
		return nil
	}
	return o.tunnel.PeerStats()
}

// liveFlows are the flows that still carry something: whoever asks what a change would
// cut means no connection that its program has closed.
func (o *overlay) liveFlows() []filter.FlowInfo {
	return slices.DeleteFunc(o.filter.Flows(), func(f filter.FlowInfo) bool { return f.Over() })
}

// fill adds what the data plane knows to a status.
func (o *overlay) fill(s *api.AgentStatus) {
	s.Spoofed = o.tunnel.Spoofed()
	st := o.filter.Stats()
	for direction, counts := range map[string]filter.Verdicts{"in: ": st.In, "out: ": st.Out} {
		for v, n := range counts {
			if n > 0 {
				s.Filter[direction+filter.Verdict(v).String()] = int64(n)
			}
		}
	}
	for _, f := range o.liveFlows() {
		s.Flows = append(s.Flows, api.AgentFlow{Flow: f.Flow, PolicyName: f.Name, Until: f.Until, Ends: f.Ends, Peer: f.Peer, Inbound: f.Inbound, Since: f.Since, Bytes: f.Bytes[0] + f.Bytes[1]})
	}
	for _, d := range o.filter.Denials() {
		s.Denied = append(s.Denied, api.Denial{Proto: d.Proto.String(), Src: netip.AddrPortFrom(d.Src, 0), Dst: d.Dst,
			Reason: d.Reason.String(), Count: d.Count, Last: d.Last})
	}
}
