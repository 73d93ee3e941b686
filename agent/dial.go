package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"

	"enclave/agent/link"
	"enclave/agent/proxy"
	"enclave/wire"
	"enclave/wire/api"
)

var (
	// ErrUnknownName is returned for a name that stands for no introduced system.
	// It does not tell whether such a system exists.
	ErrUnknownName error = &proxy.Error{Reason: proxy.UnknownName}
	// ErrDenied is returned for a flow that no grant allows.
	ErrDenied error = &proxy.Error{Reason: proxy.Denied}
	// ErrNotReady is returned before the first map and after Run.
	ErrNotReady = errors.New("this agent has no overlay: it waits for its first map, or has ended")
)

// meetWait is how long a dial waits for a peer to answer a probe before it sends the
// first packet, and meetTry how long for each probe.
const (
	meetWait = 5 * time.Second
	meetTry  = 400 * time.Millisecond
)

// DialContext opens a flow of the overlay; network is tcp or udp, addr is name:port
// or address:port. It fails at once, saying why, for a name that is not introduced
// and for a flow that no grant allows.
func (a *Agent) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	proto, err := wire.ParseProto(network)
	if err != nil || (proto != wire.TCP && proto != wire.UDP) {
		return nil, fmt.Errorf("dial %s: network %q: want tcp or udp", addr, network)
	}
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	if host, err = a.address(ctx, host); err != nil {
		return nil, &proxy.Error{Reason: proxy.UnknownName, Target: addr, Err: err}
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("dial %s: want a port number from 1 to 65535", addr)
	}
	o, err := a.data()
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	if ip, err := netip.ParseAddr(host); err == nil && port == dnsPort && slices.Contains(o.addrs, ip.Unmap()) {
		return o.dialSelf(ctx, proto, netip.AddrPortFrom(ip.Unmap(), dnsPort))
	}
	peer, err := a.peer(host, addr)
	if ip, parsed := netip.ParseAddr(host); err != nil && parsed == nil {
		dst := netip.AddrPortFrom(ip.Unmap(), uint16(port))
		if peer, err = a.gatewayTo(o, proto, dst, addr, err); err != nil {
			o.refused(proto, dst)
		}
	}
	if err != nil {
		a.unknownDial(host, proto, uint16(port))
		return nil, err
	}
	dst := netip.AddrPortFrom(peer.IPv4, uint16(port))
	if ip, err := netip.ParseAddr(host); err == nil {
		dst = netip.AddrPortFrom(ip.Unmap(), uint16(port))
	}
	if now := time.Now(); !o.allows(proto, dst, now) {
		o.refused(proto, dst)
		v := a.view.Load()
		err := fmt.Errorf("no rule lets %s start %s/%d to %s%s", v.self.Name, proto, port, peer.Name, v.ended(peer.Peer, proto, uint16(port), now))
		return nil, &proxy.Error{Reason: proxy.Denied, Target: addr, Err: err}
	}
	if err := a.meet(ctx, peer); err != nil {
		return nil, &proxy.Error{Reason: proxy.Offline, Target: addr, Err: err}
	}
	if proto == wire.UDP {
		return o.tunnel.DialUDP(dst)
	}
	if dst.Addr() != peer.IPv4 && dst.Addr() != peer.IPv6 {
		return o.dialBehind(ctx, dst)
	}
	c, err := unlessSilent(ctx, func(ctx context.Context) error { return a.probe(ctx, peer.ID) },
		func(ctx context.Context) (net.Conn, error) { return o.tunnel.DialTCP(ctx, dst) })
	if p := a.parts.Load(); errors.Is(err, errSilent) && p != nil {
		return nil, &proxy.Error{Reason: proxy.Offline, Target: addr, Err: p.lastHeard(peer.ID, peer.Name)}
	}
	if err != nil && !peer.met.Load() && !errors.Is(err, syscall.ECONNREFUSED) {
		return nil, &proxy.Error{Reason: proxy.Offline, Target: addr, Err: err}
	}
	return c, err
}

// Listen accepts flows to a port of this system's overlay IPv4 and IPv6 addresses;
// the filter decides who gets that far.
func (a *Agent) Listen(ctx context.Context, port uint16) (net.Listener, error) {
	o, err := a.ready(ctx)
	if err != nil {
		return nil, err
	}
	var both []net.Listener
	for _, addr := range o.addrs {
		l, err := o.tunnel.ListenTCP(netip.AddrPortFrom(addr, port))
		if err == nil && port == 0 { // the other family takes the one that was picked
			port = l.Addr().(*net.TCPAddr).AddrPort().Port()
		}
		if err != nil {
			for _, l := range both {
				l.Close()
			}
			return nil, fmt.Errorf("listen on overlay port %d: %w", port, err)
		}
		both = append(both, l)
	}
	return merge(both), nil
}

// ListenUDP opens a socket on a port of this system's overlay IPv4 address.
func (a *Agent) ListenUDP(ctx context.Context, port uint16) (net.PacketConn, error) {
	o, err := a.ready(ctx)
	if err != nil {
		return nil, err
	}
	return o.tunnel.ListenUDP(netip.AddrPortFrom(o.addrs[0], port))
}

// peer resolves the name in target. Several systems may share one; then one is picked
// at random.
func (a *Agent) peer(name, target string) (*contact, error) {
	v := a.view.Load()
	now := time.Now()
	found := v.find(name, now)
	if len(found) > 0 {
		return found[rand.IntN(len(found))], nil
	}
	err := &proxy.Error{Reason: proxy.UnknownName, Target: target}
	if v.state == api.AgentClosed && !v.until.IsZero() {
		err.Err = fmt.Errorf("no word from control: the map's life ended %s, and nobody is known until it is back", v.until.UTC().Format(time.RFC3339))
	} else if why := v.lapsed(name, now); why != "" {
		err.Err = errors.New(why)
	}
	return nil, err
}

// allows reports whether a flow may start now.
func (o *overlay) allows(proto wire.Proto, dst netip.AddrPort, now time.Time) bool {
	_, _, ok := o.filter.Check(proto, dst, now)
	return ok
}

// refused has a dial that policy refuses told with the packets that were.
func (o *overlay) refused(proto wire.Proto, dst netip.AddrPort) {
	src := o.addrs[0]
	if dst.Addr().Is6() {
		src = o.addrs[1]
	}
	o.filter.Refused(proto, src, dst, time.Now())
}

func (a *Agent) data() (*overlay, error) {
	if p := a.parts.Load(); p != nil {
		if o := p.overlay.Load(); o != nil {
			return o, nil
		}
	}
	return nil, ErrNotReady
}

// ready waits for the data plane.
func (a *Agent) ready(ctx context.Context) (*overlay, error) {
	for {
		changed := a.events.changed()
		if o, err := a.data(); err == nil {
			return o, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrNotReady, ctx.Err())
		}
	}
}

// meet returns once the peer has answered a probe since it was introduced. The two
// ends of a new pair hear of each other at slightly different times, and a handshake
// that comes too early is lost and repeated only after 5 s (WireGuard, section 6.1).
// When no answer comes in time the flow is tried all the same: a way may be slower
// than a probe may be.
func (a *Agent) meet(ctx context.Context, peer *contact) error {
	for began := time.Now(); !peer.met.Load() && time.Since(began) < meetWait; {
		p := a.parts.Load()
		if p == nil {
			return ErrNotReady
		}
		try, cancel := context.WithTimeout(ctx, meetTry)
		_, err := p.link.Ping(try, peer.ID)
		switch {
		case err == nil:
			peer.met.Store(true)
		case errors.Is(err, link.ErrUnknownPeer): // it has just ended
			cancel()
			return err
		}
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// routeWords is a route as people read it.
func routeWords(r link.Route) (kind, via string) {
	switch {
	case r.IsDirect():
		return "direct", link.Route{Direct: r.Direct, Stream: r.Stream}.String()
	case r.IsNone():
		return "none", ""
	}
	return "relay", string(r.Relay)
}
