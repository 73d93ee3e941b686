package gateway

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"enclave/agent/proxy"
	"enclave/wire"
)

// ForwardTCP carries one connection. The sender's handshake completes only once the host
// has accepted, so that a closed port is a closed port to it as well.
func (g *Gateway) ForwardTCP(src, dst netip.AddrPort, accept func() (net.Conn, error), refuse func()) {
	ctx, end, err := g.begin(flowKey{wire.TCP, src, dst})
	if err != nil {
		g.refused(src, dst, err)
		refuse()
		return
	}
	defer end()
	key := flowKey{wire.TCP, src, dst}
	reals, until, err := g.targets(ctx, key)
	if err != nil {
		g.refused(src, dst, err)
		refuse()
		return
	}
	host, real, err := g.dialAny(ctx, reals, dst.Port())
	if err != nil {
		g.counts.failed.Add(1)
		g.log.Debug("not reached behind this gateway", "from", src, "to", dst, "error", err)
		refuse()
		return
	}
	sender, err := accept()
	if err != nil {
		proxy.Abort(host)
		return
	}
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	stop := g.follow(ctx, key, real, until, cut)
	defer stop()
	proxy.Splice(ctx, sender, host)
}

// maxTried is how many addresses of a name are dialled one after the other.
const maxTried = 4

// dialAny opens a connection to the first of the addresses that answers.
func (g *Gateway) dialAny(ctx context.Context, reals []netip.Addr, port uint16) (c net.Conn, real netip.Addr, err error) {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Limits.Dial)
	defer cancel()
	for i, real := range reals[:min(len(reals), maxTried)] {
		try, done := ctx, context.CancelFunc(func() {})
		if i+1 < len(reals) { // leave time for the others
			try, done = context.WithTimeout(ctx, g.cfg.Limits.Dial/maxTried)
		}
		c, err = g.cfg.Network.DialContext(try, "tcp", netip.AddrPortFrom(real, port).String())
		if done(); err == nil {
			return c, real, nil
		}
	}
	return nil, real, err
}

func (g *Gateway) refused(src, dst netip.AddrPort, err error) {
	if errors.Is(err, net.ErrClosed) {
		return
	}
	g.counts.refused.Add(1)
	g.log.Warn("refused by this gateway", "from", src, "to", dst, "reason", err)
}

// ForwardUDP carries one UDP flow. It ends in silence, or with a cut.
func (g *Gateway) ForwardUDP(src, dst netip.AddrPort, c net.Conn) {
	defer c.Close()
	ctx, end, err := g.begin(flowKey{wire.UDP, src, dst})
	if err != nil {
		g.refused(src, dst, err)
		return
	}
	defer end()
	key := flowKey{wire.UDP, src, dst}
	reals, until, err := g.targets(ctx, key)
	if err != nil {
		g.refused(src, dst, err)
		return
	}
	host, err := g.cfg.Network.DialContext(ctx, "udp", netip.AddrPortFrom(reals[0], dst.Port()).String())
	if err != nil {
		g.counts.failed.Add(1)
		return
	}
	defer host.Close()
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	stop := context.AfterFunc(ctx, func() { c.Close(); host.Close() })
	defer stop()
	defer g.follow(ctx, key, reals[0], until, cut)()
	var last atomic.Int64
	born := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.copyUDP(c, host, born, &last)
		c.Close()
	}()
	g.copyUDP(host, c, born, &last)
	host.Close()
	<-done
}

// copyUDP carries datagrams from src to dst until both have been silent for long or src
// is closed. An ICMP error is no end: a port may open again.
func (g *Gateway) copyUDP(dst, src net.Conn, born time.Time, last *atomic.Int64) {
	buf := proxy.Datagram()
	defer proxy.FreeDatagram(buf)
	for failures := 0; failures < 16; {
		src.SetReadDeadline(born.Add(time.Duration(last.Load()) + g.cfg.Limits.Quiet))
		n, err := src.Read(buf[:])
		switch {
		case err == nil:
			failures = 0
			last.Store(int64(time.Since(born)))
			dst.Write(buf[:n]) // one that cannot be sent is lost, as UDP has it
		case errors.Is(err, net.ErrClosed), time.Since(born)-time.Duration(last.Load()) >= g.cfg.Limits.Quiet:
			return
		default:
			failures++
		}
	}
}
