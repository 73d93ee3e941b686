package netcheck

import (
	"net/netip"
	"time"

	"enclave/wire"
)

// Report is what was found. Nothing in it is judged.
type Report struct {
	At      time.Time     `json:"at"`
	Local   []netip.Addr  `json:"local"` // of the interfaces, without loopback
	IPv4    Family        `json:"ipv4"`
	IPv6    Family        `json:"ipv6"`
	Mapping Mapping       `json:"mapping"` // of IPv4; of IPv6 where nothing else answers
	Hairpin Hairpin       `json:"hairpin"`
	Relays  []RelayReport `json:"relays"`
	Portal  PortalReport  `json:"portal"`
	Proxy   ProxyReport   `json:"proxy"`
	Agent   *wire.Reach   `json:"agent,omitempty"` // what the agent that runs here reports of itself
	Notes   []string      `json:"notes,omitempty"` // what could not be looked at, and why
}

// Family is one of the two address families.
type Family struct {
	Asked    int            `json:"asked"`    // STUN servers
	Answered int            `json:"answered"` // of them
	Observed netip.AddrPort `json:"observed,omitzero"`
}

// Mapping is how a NAT chooses the outside address for a socket, RFC 4787 section 4.1.
type Mapping string

// The mappings. Two of them are what can be said with too few servers.
const (
	MapUnknown     Mapping = "unknown"                            // one server only, or none answers
	MapNone        Mapping = "none"                               // the socket is seen at an address of this machine
	MapIndependent Mapping = "endpoint-independent"               // the same for all
	MapNotByPort   Mapping = "endpoint-independent-or-by-address" // the servers share one address
	MapByAddress   Mapping = "address-dependent"
	MapByPort      Mapping = "address-and-port-dependent"
	MapDependent   Mapping = "dependent" // one of the two: no server has two ports
)

// Hairpin is whether two sockets behind the NAT reach each other by outside addresses.
type Hairpin string

// The answers.
const (
	HairpinUnknown Hairpin = "unknown"
	HairpinYes     Hairpin = "yes"
	HairpinNo      Hairpin = "no"
	HairpinNoNeed  Hairpin = "not-needed" // there is no NAT
)

// RelayReport is one relay, or a control plane that was asked in the place of one.
type RelayReport struct {
	ID   wire.RelayID `json:"id"`
	Addr string       `json:"addr"`
	STUN []STUNReport `json:"stun"`
	TLS  TLSReport    `json:"tls"`
}

// STUNReport is one STUN server.
type STUNReport struct {
	Server   string         `json:"server"` // as named
	At       netip.AddrPort `json:"at,omitzero"`
	Observed netip.AddrPort `json:"observed,omitzero"` // zero: no answer
	RTT      time.Duration  `json:"rtt_ns,omitempty"`
	Error    string         `json:"error,omitempty"`
}

// TLSReport is what a TLS connection to a relay met.
type TLSReport struct {
	State  TLSState      `json:"state"`
	RTT    time.Duration `json:"rtt_ns,omitempty"` // of the TCP handshake
	Via    string        `json:"via,omitempty"`    // the proxy, when it took one
	Issuer string        `json:"issuer,omitempty"` // who signed what was shown, where that is not the relay
	Error  string        `json:"error,omitempty"`
}

// TLSState is how far a connection came.
type TLSState string

// The states.
const (
	TLSSkipped     TLSState = "skipped"     // no address was given
	TLSBlocked     TLSState = "blocked"     // no TCP connection
	TLSBroken      TLSState = "broken"      // TCP, and then no TLS
	TLSIntercepted TLSState = "intercepted" // TLS with somebody else
	TLSRewritten   TLSState = "rewritten"   // the certificate is right, the protocol offered in the handshake was taken out
	TLSUnverified  TLSState = "unverified"  // a certificate of an enclave; no fingerprint to hold it against
	TLSVerified    TLSState = "verified"
)

// reached reports whether a relay would be usable.
func (s TLSState) reached() bool { return s == TLSVerified || s == TLSUnverified }

// PortalReport is what answered a plain HTTP request.
type PortalReport struct {
	URL    string      `json:"url,omitempty"`
	State  PortalState `json:"state"`
	Detail string      `json:"detail,omitempty"`
}

// PortalState is what that tells.
type PortalState string

// The states.
const (
	PortalSkipped PortalState = "skipped" // nobody to ask
	PortalNone    PortalState = "none"    // nothing answers, or what was expected
	PortalFound   PortalState = "found"   // sends elsewhere, or says that one must sign in
	PortalUnclear PortalState = "unclear" // a page answers: a portal's, or a web server of the relay's host
)

// ProxyReport is the HTTP proxy that the environment names for the relays.
type ProxyReport struct {
	URL     string `json:"url,omitempty"` // without user and password
	Works   bool   `json:"works"`         // it connected to a relay
	Error   string `json:"error,omitempty"`
	Ignored bool   `json:"ignored,omitempty"` // it is set, and not for these relays
}
