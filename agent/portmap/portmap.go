// Package portmap asks the router of the local network for an open UDP port: the default
// gateway by PCP (RFC 6887) and by its predecessor NAT-PMP (RFC 6886), else whoever answers
// on the network by UPnP-IGD.
//
// It is for agents that were told to (--port-mapping). The protocols are without
// authentication: what answers is believed to be a router no further than that a port may
// be open at the address it names, which peers then try like any other. An address that
// the internet has no way to, as behind a carrier's NAT, is refused. Decisions: 0017, 0171.
package portmap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/huin/goupnp/dcps/internetgateway2"
	natpmp "github.com/jackpal/go-nat-pmp"

	"enclave/agent/link"
)

const (
	life     = 2 * time.Hour // asked for; RFC 6886 section 3.3 recommends it
	pmpIn    = 2 * time.Second
	upnpIn   = 6 * time.Second // discovery waits for late answers
	upnpName = "enclave"       // what the router shows for the mapping
)

var (
	errNoGateway = errors.New("no default gateway is known")
	errNested    = errors.New("the router's own address is not of the internet: another NAT is before it")
)

// Router asks the router, for one at a time. Fields that are left out find it.
type Router struct {
	Gateway func() (netip.Addr, error) // default gateway
	Root    *url.URL                   // description of a UPnP device; nil discovers

	once  sync.Once // makes nonce
	nonce pcpNonce
	given netip.AddrPort // by PCP, last
}

var _ link.Mapper = (*Router)(nil)

// Map implements link.Mapper.
func (r *Router) Map(ctx context.Context, port uint16) (link.Mapping, error) {
	m, pcp := r.pcp(ctx, port, life)
	if errors.Is(pcp, errNested) {
		_, _ = r.pcp(ctx, port, 0) // of no use: given back
	}
	if pcp == nil || ctx.Err() != nil || errors.Is(pcp, errNested) {
		return m, pcp
	}
	m, pmp := r.natPMP(port)
	if pmp == nil || ctx.Err() != nil || errors.Is(pmp, errNested) {
		return m, pmp
	}
	m, upnp := r.upnp(ctx, port)
	if upnp == nil {
		return m, nil
	}
	return m, fmt.Errorf("PCP: %w; NAT-PMP: %w; UPnP: %w", pcp, pmp, upnp)
}

// Unmap implements link.Mapper.
func (r *Router) Unmap(ctx context.Context, port uint16, m link.Mapping) {
	switch m.How {
	case "pcp":
		_, _ = r.pcp(ctx, port, 0)
		r.given = netip.AddrPort{}
	case "nat-pmp":
		if c, err := r.client(); err == nil {
			_, _ = c.AddPortMapping("udp", int(port), 0, 0) // RFC 6886 section 3.4
		}
	case "upnp":
		if igd, _, err := r.discover(ctx); err == nil {
			_ = igd.DeletePortMappingCtx(ctx, "", m.Addr.Port(), "UDP")
		}
	}
}

func (r *Router) gateway() (netip.Addr, error) {
	if r.Gateway != nil {
		return r.Gateway()
	}
	return gateway()
}

func (r *Router) client() (*natpmp.Client, error) {
	at, err := r.gateway()
	if err != nil {
		return nil, err
	}
	return natpmp.NewClientWithTimeout(at.AsSlice(), pmpIn), nil
}

func (r *Router) natPMP(port uint16) (link.Mapping, error) {
	c, err := r.client()
	if err != nil {
		return link.Mapping{}, err
	}
	ext, err := c.GetExternalAddress()
	if err != nil {
		return link.Mapping{}, err
	}
	addr, err := public(netip.AddrFrom4(ext.ExternalIPAddress))
	if err != nil {
		return link.Mapping{}, err
	}
	got, err := c.AddPortMapping("udp", int(port), int(port), int(life/time.Second))
	switch {
	case err != nil:
		return link.Mapping{}, err
	case got.MappedExternalPort == 0 || got.PortMappingLifetimeInSeconds == 0:
		return link.Mapping{}, errNotGiven
	}
	lasts := min(time.Duration(got.PortMappingLifetimeInSeconds)*time.Second, life)
	return link.Mapping{Addr: netip.AddrPortFrom(addr, got.MappedExternalPort), Lasts: lasts, How: "nat-pmp"}, nil
}

// igd is the part of WANIPConnection that both versions share.
type igd interface {
	GetExternalIPAddressCtx(context.Context) (string, error)
	AddPortMappingCtx(ctx context.Context, remote string, external uint16, proto string, internal uint16, client string, enabled bool, name string, lease uint32) error
	DeletePortMappingCtx(ctx context.Context, remote string, external uint16, proto string) error
	LocalAddr() net.IP
}

// discover returns the router's service and our address as it sees us.
func (r *Router) discover(ctx context.Context) (igd, netip.Addr, error) {
	var found []igd
	if r.Root != nil {
		list, err := internetgateway2.NewWANIPConnection1ClientsByURLCtx(ctx, r.Root)
		if err != nil {
			return nil, netip.Addr{}, err
		}
		for _, c := range list {
			found = append(found, c)
		}
	} else {
		one, _, _ := internetgateway2.NewWANIPConnection1ClientsCtx(ctx)
		for _, c := range one {
			found = append(found, c)
		}
		if len(found) == 0 && ctx.Err() == nil {
			two, _, _ := internetgateway2.NewWANIPConnection2ClientsCtx(ctx)
			for _, c := range two {
				found = append(found, c)
			}
		}
	}
	for _, c := range found {
		if mine, ok := netip.AddrFromSlice(c.LocalAddr()); ok {
			return c, mine.Unmap(), nil
		}
		if r.Root != nil { // not discovered, so nobody has said where we are
			d, err := net.Dial("udp", r.Root.Host)
			if err != nil {
				return nil, netip.Addr{}, err
			}
			defer d.Close()
			return c, d.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
		}
	}
	return nil, netip.Addr{}, errors.New("no router answers")
}

func (r *Router) upnp(ctx context.Context, port uint16) (link.Mapping, error) {
	ctx, cancel := context.WithTimeout(ctx, upnpIn)
	defer cancel()
	c, mine, err := r.discover(ctx)
	if err != nil {
		return link.Mapping{}, err
	}
	text, err := c.GetExternalIPAddressCtx(ctx)
	if err != nil {
		return link.Mapping{}, err
	}
	addr, err := netip.ParseAddr(text)
	if err == nil {
		addr, err = public(addr)
	}
	if err != nil {
		return link.Mapping{}, err
	}
	if err := c.AddPortMappingCtx(ctx, "", port, "UDP", port, mine.String(), true, upnpName, uint32(life/time.Second)); err != nil {
		return link.Mapping{}, err
	}
	return link.Mapping{Addr: netip.AddrPortFrom(addr, port), Lasts: life, How: "upnp"}, nil
}

// carrier is the range of carriers' NATs (RFC 6598).
var carrier = netip.MustParsePrefix("100.64.0.0/10")

func public(a netip.Addr) (netip.Addr, error) {
	if a = a.Unmap(); !a.IsGlobalUnicast() || a.IsPrivate() || carrier.Contains(a) {
		return a, fmt.Errorf("%w (%s)", errNested, a)
	}
	return a, nil
}
