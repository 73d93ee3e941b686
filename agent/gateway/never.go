package gateway

import (
	"fmt"
	"net/netip"
	"slices"
)

// barred is a range that no gateway reaches, and why.
type barred struct {
	netip.Prefix
	why string
}

// never lists what is out of reach whatever a grant says; control leaves it out of grants
// already (decision 0022), but control is no reason to open this host to others, and a
// route that translates may lead anywhere. IPv4 in IPv6 clothes is refused by Translate.
func never() []barred {
	p := netip.MustParsePrefix
	return []barred{
		{p("0.0.0.0/8"), "this network"}, {p("127.0.0.0/8"), "loopback"}, {p("169.254.0.0/16"), "link-local"},
		{p("224.0.0.0/4"), "multicast"}, {p("240.0.0.0/4"), "reserved or broadcast"},
		{p("::/128"), "unspecified"}, {p("::1/128"), "loopback"}, {p("::/96"), "IPv4 in IPv6"}, {p("::ffff:0:0/96"), "IPv4 in IPv6"},
		{p("64:ff9b::/96"), "IPv4 in IPv6"}, {p("64:ff9b:1::/48"), "IPv4 in IPv6"}, // RFC 8215: a network's own translator
		{p("2001::/32"), "IPv4 in IPv6"}, {p("2002::/16"), "IPv4 in IPv6"},
		{p("fe80::/10"), "link-local"}, {p("fec0::/10"), "site-local"}, {p("ff00::/8"), "multicast"},
		// Metadata services that are not link-local: Azure, Oracle, Alibaba, AWS.
		{p("168.63.129.16/32"), "a cloud's metadata service"}, {p("192.0.0.192/32"), "a cloud's metadata service"},
		{p("100.100.100.200/32"), "a cloud's metadata service"}, {p("fd00:ec2::/32"), "a cloud's metadata service"},
		{p("fd20:ce::254/128"), "a cloud's metadata service"},
	}
}

// judge says why a is out of reach, or nil.
func (g *Gateway) judge(a netip.Addr) error {
	if !a.IsValid() || a.Zone() != "" {
		return fmt.Errorf("%s is no address to reach", a)
	}
	for _, b := range never() {
		if b.Contains(a) {
			return fmt.Errorf("%s is out of reach of every gateway: %s", a, b.why)
		}
	}
	for _, p := range g.cfg.Overlay {
		if p.Contains(a) {
			return fmt.Errorf("%s is out of reach of every gateway: it is the overlay's", a)
		}
	}
	own, err := g.own()
	if err == nil && slices.Contains(own, a) {
		err = fmt.Errorf("%s is the gateway itself, which it does not reach", a)
	}
	return err
}
