package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sync/errgroup"

	"enclave/agent/resolver"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/names"
)

// dnsPort is where the stub resolver listens on the overlay addresses.
const dnsPort = 53

// nobody is the view before the first map.
var nobody = names.New("", wire.DNS{}, nil)

// names is the view of the moment. It is nobody's once the map's life is over.
func (a *Agent) names() *names.View {
	if v := a.view.Load().names; v != nil {
		return v
	}
	return nobody
}

// resolver makes a stub resolver for senders that local accepts; nil is all.
func (a *Agent) resolver(local func(netip.Addr) bool) *resolver.Server {
	return resolver.New(resolver.Config{View: a.names, Dialer: a, Local: local, Unknown: a.unknownAsked, Logger: a.log.With("part", "resolver")})
}

func (s *Services) exposed(port uint16) bool {
	for _, e := range s.Exposes {
		if e.Port == port {
			return true
		}
	}
	return false
}

// serveNames answers on port 53 of the overlay addresses, and only this system itself:
// its answers say whom it may reach, which is no peer's to know, whatever policy opens.
func (a *Agent) serveNames(ctx context.Context) error {
	o, err := a.ready(ctx)
	if err != nil {
		return notCancelled(ctx, err)
	}
	server := a.resolver(func(from netip.Addr) bool { return slices.Contains(o.addrs, from) })
	g, ctx := errgroup.WithContext(ctx)
	for _, addr := range o.addrs {
		at := netip.AddrPortFrom(addr, dnsPort)
		pc, err := o.tunnel.ListenUDP(at)
		if err != nil {
			a.log.Warn("no stub resolver on an overlay address", "address", at, "error", err)
			continue
		}
		g.Go(func() error { return overlayEnd(ctx, server.ServeUDP(ctx, pc)) })
		l, err := o.tunnel.ListenTCP(at)
		if err != nil {
			a.log.Warn("no stub resolver on an overlay address", "address", at, "error", err)
			continue
		}
		g.Go(func() error { return overlayEnd(ctx, server.ServeTCP(ctx, l)) })
	}
	return g.Wait()
}

// overlayEnd drops the error of a socket that the overlay closed when the agent ended.
func overlayEnd(ctx context.Context, err error) error {
	if errors.Is(err, net.ErrClosed) {
		<-ctx.Done() // Run says why
		return nil
	}
	return err
}

// address asks the resolvers of a name's zone, where that is forwarded; any other name
// or address stays as it is.
func (a *Agent) address(ctx context.Context, host string) (string, error) {
	if _, err := netip.ParseAddr(host); err == nil || len(host) > 254 {
		return host, nil
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	answer := a.names().Lookup([]byte(name), time.Now())
	if answer.Kind == names.Behind {
		return names.StandIn(name).String(), nil
	}
	if answer.Kind != names.Forwarded {
		return host, nil
	}
	for _, t := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
		addrs, _, err := resolver.Lookup(ctx, a, name, t, answer.Ways)
		if err != nil {
			return "", fmt.Errorf("the resolvers of zone %s: %w", answer.Zone, err)
		}
		if len(addrs) > 0 {
			return addrs[0].String(), nil
		}
	}
	return "", fmt.Errorf("the resolvers of zone %s know no such name", answer.Zone)
}

// Resolve says what a name stands for, for this system, by the function that the stub
// resolver asks; of a forwarded zone it asks the resolvers.
func (a *Agent) Resolve(ctx context.Context, name, kind string) (api.Resolution, error) {
	plain, err := names.Parse(name)
	t, known := map[string]dnsmessage.Type{"": dnsmessage.TypeA, "A": dnsmessage.TypeA, "AAAA": dnsmessage.TypeAAAA}[strings.ToUpper(kind)]
	if err == nil && !known {
		err = fmt.Errorf("type %.20q: want A or AAAA", kind)
	}
	if err != nil {
		return api.Resolution{}, &api.Problem{Status: http.StatusBadRequest, Code: api.CodeBadRequest, Title: "bad request", Detail: err.Error()}
	}
	now, v := time.Now(), a.view.Load()
	answer := a.names().Lookup([]byte(plain), now)
	out := api.Resolution{Name: plain, As: v.self.ID, AsName: v.self.Name, At: now, Kind: answer.Kind.String(),
		Zone: answer.Zone, Wildcard: answer.Wildcard, Systems: []api.Resolved{}}
	for _, p := range answer.In(now) {
		out.Systems = append(out.Systems, api.Resolved{ID: p.ID, Name: p.Name, IPv4: p.IPv4, IPv6: p.IPv6})
		out.Addresses = append(out.Addresses, map[dnsmessage.Type]netip.Addr{dnsmessage.TypeA: p.IPv4, dnsmessage.TypeAAAA: p.IPv6}[t])
	}
	rcode := dnsmessage.RCodeSuccess
	switch answer.Kind {
	case names.Missing:
		rcode, out.Why = dnsmessage.RCodeNameError, "no policy connects this system to one of that name"
	case names.Outside:
		rcode, out.Why = dnsmessage.RCodeServerFailure, "in no zone of the organisation, and no gateway leads to one who knows it"
	case names.Behind:
		var gates []string
		for _, p := range a.names().Leading(plain, now) {
			gates, out.Gateways = append(gates, p.Name), append(out.Gateways, p.ID)
		}
		out.Why = fmt.Sprintf("behind %s, which resolves the name itself; this address stands for it on the overlay", strings.Join(gates, " and "))
		if t == dnsmessage.TypeAAAA {
			out.Addresses = []netip.Addr{names.StandIn(plain)}
		}
	case names.Forwarded:
		for _, w := range answer.Ways {
			for _, r := range w.Resolvers {
				out.Resolvers = append(out.Resolvers, api.Via{Gateway: w.Gateway.ID, Resolver: r})
			}
		}
		var err error
		if out.Addresses, rcode, err = resolver.Lookup(ctx, a, plain, t, answer.Ways); err != nil {
			out.Why = err.Error()
		}
	}
	out.RCode = rcodes[rcode]
	return out, nil
}

// rcodes are the words of the IANA registry.
var rcodes = map[dnsmessage.RCode]string{
	dnsmessage.RCodeSuccess: "NOERROR", dnsmessage.RCodeServerFailure: "SERVFAIL", dnsmessage.RCodeNameError: "NXDOMAIN",
}

// dialSelf opens a flow to this system's own stub resolver, for programs behind the
// proxies. It never leaves the stack, so no filter is asked.
func (o *overlay) dialSelf(ctx context.Context, proto wire.Proto, at netip.AddrPort) (net.Conn, error) {
	if proto == wire.UDP {
		return o.tunnel.DialUDP(at)
	}
	return o.tunnel.DialTCP(ctx, at)
}
