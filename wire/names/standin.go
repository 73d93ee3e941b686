package names

import (
	"crypto/sha256"
	"net/netip"
)

// StandIns is the range of stand-ins: a unique local prefix (RFC 4193) that no system, no
// subnet of a policy and no route may use.
func StandIns() netip.Prefix { return netip.MustParsePrefix("fd5c:91ae:6d27::/48") }

// StandIn is the address that stands for a DNS name behind a gateway. Flows to it travel
// like any other; only the gateway knows what the name answers with, and the address that
// it dials never crosses the overlay (docs/decisions/0143). Everybody computes the same
// one, so that a flow finds another gateway for the name without asking.
func StandIn(name string) netip.Addr {
	sum := sha256.Sum256([]byte(name))
	a := StandIns().Addr().As16()
	copy(a[6:], sum[:10])
	return netip.AddrFrom16(a)
}
