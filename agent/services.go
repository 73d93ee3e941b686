package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"golang.org/x/sync/errgroup"

	"enclave/agent/proxy"
	"enclave/loglimit"
)

// Services are the ways in which programs of this machine and the overlay meet.
type Services struct {
	SOCKS, HTTPProxy netip.AddrPort // where to listen; invalid is not at all
	DNS              netip.AddrPort // as SOCKS: the stub resolver, besides that on the overlay address
	Auth             *proxy.Auth    // asked for by both proxies; nil is nobody
	Exposes          []proxy.Expose
	Forwards         []proxy.Forward
}

// Serve runs the services until ctx ends. Every local port is opened before anything
// is served, so that one that is taken is told at once and nothing half-starts.
func (a *Agent) Serve(ctx context.Context, s Services) error {
	open, err := s.listen(ctx)
	if err != nil {
		return err
	}
	log := loglimit.New(a.log.With("part", "proxy"))
	g, ctx := errgroup.WithContext(ctx)
	if l := open.socks; l != nil {
		a.log.Info("SOCKS5 proxy", "listen", l.Addr())
		g.Go(func() error { return (&proxy.SOCKS{Dialer: a, Auth: s.Auth, Log: log}).Run(ctx, l) })
	}
	if l := open.http; l != nil {
		a.log.Info("HTTP proxy", "listen", l.Addr())
		g.Go(func() error { return (&proxy.HTTP{Dialer: a, Auth: s.Auth, Log: log}).Run(ctx, l) })
	}
	if open.dns.udp != nil {
		a.log.Info("stub resolver", "listen", open.dns.udp.LocalAddr())
		server := a.resolver(nil)
		g.Go(func() error { return server.ServeUDP(ctx, open.dns.udp) })
		g.Go(func() error { return server.ServeTCP(ctx, open.dns.tcp) })
	}
	if !s.exposed(dnsPort) {
		g.Go(func() error { return a.serveNames(ctx) })
	}
	for i, f := range s.Forwards {
		relay := &proxy.Relay{Dialer: a, Target: f.Target, Log: log}
		a.log.Info("forward", "listen", f.Listen, "to", f.Target, "network", f.Network)
		g.Go(func() error {
			if f.Network == "udp" {
				return relay.RunUDP(ctx, open.forwards[i].(net.PacketConn))
			}
			return relay.Run(ctx, open.forwards[i].(net.Listener))
		})
	}
	for _, e := range s.Exposes {
		g.Go(func() error { return a.expose(ctx, e) })
	}
	return g.Wait()
}

func (a *Agent) expose(ctx context.Context, e proxy.Expose) error {
	relay := &proxy.Relay{Dialer: &net.Dialer{}, Target: e.Target, Log: loglimit.New(a.log.With("part", "proxy"))}
	if e.Network == "udp" {
		pc, err := a.ListenUDP(ctx, e.Port)
		if err != nil {
			return notCancelled(ctx, err)
		}
		a.log.Info("expose", "port", e.Port, "to", e.Target, "network", e.Network)
		return overlayEnd(ctx, relay.RunUDP(ctx, pc))
	}
	l, err := a.Listen(ctx, e.Port)
	if err != nil {
		return notCancelled(ctx, err)
	}
	a.log.Info("expose", "port", e.Port, "to", e.Target, "network", e.Network)
	return overlayEnd(ctx, relay.Run(ctx, l))
}

// notCancelled drops an error whose reason is that ctx ended.
func notCancelled(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// listeners are the local ports of services.
type listeners struct {
	socks, http net.Listener
	dns         struct {
		udp net.PacketConn
		tcp net.Listener
	}
	forwards []io.Closer // net.Listener or net.PacketConn, as the forward's network says
}

// listen opens every local port, or none.
func (s *Services) listen(ctx context.Context) (o listeners, err error) {
	var opened []io.Closer
	defer func() {
		if err != nil {
			for _, c := range opened {
				c.Close()
			}
		}
	}()
	var lc net.ListenConfig
	tcp := func(what string, at netip.AddrPort) (net.Listener, error) {
		l, err := lc.Listen(ctx, "tcp", at.String())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		opened = append(opened, l)
		return l, nil
	}
	var errs []error
	if s.SOCKS.IsValid() {
		o.socks, err = tcp("SOCKS5 proxy", s.SOCKS)
		errs = append(errs, err)
	}
	if s.HTTPProxy.IsValid() {
		o.http, err = tcp("HTTP proxy", s.HTTPProxy)
		errs = append(errs, err)
	}
	if s.DNS.IsValid() {
		o.dns.tcp, err = tcp("stub resolver", s.DNS)
		errs = append(errs, err)
		if err == nil {
			at := o.dns.tcp.Addr().String() // port 0 picks one, the same for both
			if o.dns.udp, err = lc.ListenPacket(ctx, "udp", at); err != nil {
				errs = append(errs, fmt.Errorf("stub resolver: %w", err))
			} else {
				opened = append(opened, o.dns.udp)
			}
		}
	}
	for _, f := range s.Forwards {
		if f.Network == "udp" {
			pc, err := lc.ListenPacket(ctx, "udp", f.Listen.String())
			if err != nil {
				err = fmt.Errorf("forward: %w", err)
			} else {
				opened = append(opened, pc)
			}
			o.forwards, errs = append(o.forwards, pc), append(errs, err)
			continue
		}
		l, err := tcp("forward", f.Listen)
		o.forwards, errs = append(o.forwards, l), append(errs, err)
	}
	return o, errors.Join(errs...)
}
