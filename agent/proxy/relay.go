package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// Relay joins a listener to one target. A forward has its listener on this machine
// and a Dialer into the overlay; an expose has its listener on the overlay and a
// *net.Dialer.
type Relay struct {
	Dialer Dialer
	Target string // host:port
	Limits Limits
	Log    *slog.Logger // nil discards
}

// Run carries TCP connections until ctx ends, and closes l. A client whose target
// is not reached is reset.
func (r *Relay) Run(ctx context.Context, l net.Listener) error {
	limits, log := r.Limits.withDefaults(), logger(r.Log)
	return serve(ctx, l, limits.Conns, log, func(ctx context.Context, c net.Conn) {
		dialCtx, cancel := context.WithTimeout(ctx, limits.Dial)
		target, err := r.Dialer.DialContext(dialCtx, "tcp", r.Target)
		cancel()
		if err != nil {
			log.Info("not forwarded", "client", c.RemoteAddr(), "target", r.Target, "reason", reasonOf(err).String(), "err", err)
			abort(c)
			return
		}
		splice(ctx, c, target)
	})
}

// RunUDP carries datagrams until ctx ends, and closes pc. Each client has a flow of
// its own to the target, so that answers find their way back.
func (r *Relay) RunUDP(ctx context.Context, pc net.PacketConn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	log := logger(r.Log)
	flows := newFlows(ctx, r.Limits.withDefaults(), func(client netip.AddrPort, err error) {
		log.Info("not forwarded", "client", client, "target", r.Target, "reason", reasonOf(err).String(), "err", err)
	})
	defer flows.wait()
	defer cancel()
	dial := func(ctx context.Context) (net.Conn, error) { return r.Dialer.DialContext(ctx, "udp", r.Target) }
	return readPackets(ctx, pc, func(pkt []byte, client netip.AddrPort) {
		flows.send(client, pkt, dial, func(_ net.Conn, answer []byte) {
			pc.WriteTo(answer, net.UDPAddrFromAddrPort(client))
		})
	})
}

// readPackets hands every datagram to handle until ctx ends, and closes pc.
func readPackets(ctx context.Context, pc net.PacketConn, handle func([]byte, netip.AddrPort)) error {
	stop := context.AfterFunc(ctx, func() { pc.Close() })
	defer stop()
	defer pc.Close()
	buf := datagrams.Get().(*[maxDatagram + 1]byte)
	defer datagrams.Put(buf)
	for {
		n, from, err := pc.ReadFrom(buf[:])
		if err != nil {
			switch {
			case ctx.Err() != nil:
				return nil
			case errors.Is(err, net.ErrClosed):
				return err
			}
			// An ICMP error about an answer that we sent shows up here on some
			// systems. The pause keeps a socket that is broken for good from spinning.
			select {
			case <-time.After(firstPause):
				continue
			case <-ctx.Done():
				return nil
			}
		}
		if a, ok := from.(*net.UDPAddr); ok {
			ap := a.AddrPort()
			handle(buf[:n], netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()))
		}
	}
}
