package api

import (
	"net/netip"
	"time"

	"enclave/wire"
)

// Zone is a DNS zone with its version.
type Zone struct {
	wire.Zone
	BuiltIn bool          `json:"built_in,omitempty"` // it holds the systems' automatic names
	Version wire.Revision `json:"version"`            // for If-Match; 0 where nothing is stored of a built-in one
}

// Record is a DNS record with its version.
type Record struct {
	wire.Record
	Zone    string        `json:"zone"`
	Version wire.Revision `json:"version"` // for If-Match
}

// Resolution is what a name stands for, for one asker.
type Resolution struct {
	Name      string          `json:"name"`
	As        wire.SystemID   `json:"as"`
	AsName    string          `json:"as_name,omitempty"`
	At        time.Time       `json:"at"`
	Kind      string          `json:"kind"` // found, empty, missing, forwarded, outside, behind
	Zone      string          `json:"zone,omitempty"`
	Wildcard  bool            `json:"wildcard,omitempty"`
	Systems   []Resolved      `json:"systems"`             // an answer is one of them
	Resolvers []Via           `json:"resolvers,omitempty"` // who is asked where it is forwarded
	Addresses []netip.Addr    `json:"addresses,omitempty"` // what was answered, where somebody was asked
	Gateways  []wire.SystemID `json:"gateways,omitempty"`  // who resolves it where it is behind one
	RCode     string          `json:"rcode,omitempty"`     // with Addresses, as DNS has it
	Why       string          `json:"why,omitempty"`
}

// Resolved is a system that a name stands for.
type Resolved struct {
	ID   wire.SystemID `json:"id"`
	Name string        `json:"name"`
	IPv4 netip.Addr    `json:"ipv4"`
	IPv6 netip.Addr    `json:"ipv6"`
}

// Via is a resolver behind a gateway.
type Via struct {
	Gateway  wire.SystemID  `json:"gateway"`
	Resolver netip.AddrPort `json:"resolver"`
}
