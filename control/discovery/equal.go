package discovery

import (
	"bytes"
	"slices"

	"enclave/wire"
)

func equalSelf(a, b *wire.Self) bool {
	return a.ID == b.ID && a.Org == b.Org && a.Name == b.Name && a.Zone == b.Zone &&
		a.IPv4 == b.IPv4 && a.IPv6 == b.IPv6 && a.State == b.State && slices.Equal(a.Tags, b.Tags) && slices.Equal(a.Routes, b.Routes) && (a.Routes == nil) == (b.Routes == nil)
}

func equalRelay(a, b wire.Relay) bool {
	return a.ID == b.ID && a.Addr == b.Addr && slices.Equal(a.STUN, b.STUN)
}

// EqualReach reports whether two reports say the same.
func EqualReach(a, b *wire.Reach) bool {
	return a.Relay == b.Relay && a.NAT == b.NAT && slices.Equal(a.Candidates, b.Candidates) && slices.Equal(a.Unreachable, b.Unreachable)
}

// SameToPeers reports whether two entries of a system read the same in a peer's map.
func SameToPeers(a, b *System) bool {
	return a.ID == b.ID && a.Name == b.Name && a.IPv4 == b.IPv4 && a.IPv6 == b.IPv6 &&
		a.WireGuard == b.WireGuard && a.Disco == b.Disco && bytes.Equal(a.KeySignature, b.KeySignature) &&
		slices.EqualFunc(a.SVID, b.SVID, bytes.Equal) && EqualReach(&a.Reach, &b.Reach) &&
		slices.Equal(a.Names, b.Names) && slices.EqualFunc(a.Forwards, b.Forwards, equalForward)
}

func equalForward(a, b wire.Forward) bool {
	return a.Zone == b.Zone && slices.Equal(a.Resolvers, b.Resolvers)
}
