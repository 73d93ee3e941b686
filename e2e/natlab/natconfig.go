package natlab

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Behaviour says how much of the remote end a NAT looks at (RFC 4787 sections 4.1
// and 5). For mapping: whether a new remote gets a new outside port. For filtering:
// which remotes may send in through a mapping.
type Behaviour uint8

const (
	EndpointIndependent Behaviour = iota
	AddressDependent
	AddressAndPortDependent
)

func (b Behaviour) String() string {
	switch b {
	case EndpointIndependent:
		return "endpoint-independent"
	case AddressDependent:
		return "address-dependent"
	case AddressAndPortDependent:
		return "address-and-port-dependent"
	}
	return fmt.Sprintf("behaviour(%d)", uint8(b))
}

// mask keeps of a remote endpoint what a NAT with this behaviour looks at.
func (b Behaviour) mask(remote netip.AddrPort) netip.AddrPort {
	switch b {
	case EndpointIndependent:
		return netip.AddrPort{}
	case AddressDependent:
		return netip.AddrPortFrom(remote.Addr(), 0)
	}
	return remote
}

// PortAllocation says how a NAT picks outside ports.
type PortAllocation uint8

const (
	PortPreserving PortAllocation = iota // the inside port if it is free, else the next free one
	PortSequential                       // one after the other, which strangers can predict
	PortRandom                           // from the lab's seed
)

// NATConfig is a middlebox as data. The zero value is the friendliest home router:
// endpoint-independent in both respects, port preserving, no hairpinning.
type NATConfig struct {
	// NoTranslation makes it a stateful firewall: hosts behind it have public
	// addresses, and Filtering alone decides what comes in. With filtering
	// EndpointIndependent it is a plain router that lets everything in.
	NoTranslation bool
	Mapping       Behaviour
	Filtering     Behaviour
	Ports         PortAllocation
	// Hairpin lets two hosts on the inside meet at their outside addresses; the
	// receiver sees the outside address of the sender (RFC 4787, REQ-9).
	Hairpin bool
	// InboundRefresh also renews a mapping when a packet comes in (REQ-6 permits it).
	InboundRefresh bool

	// How long an idle mapping lives. Zero means 2 min for UDP (the least that
	// RFC 4787 REQ-5 permits), 2 h 4 min for an established TCP connection and
	// 4 min for one that opens or closes (RFC 5382), 60 s for ICMP (RFC 5508).
	UDPTimeout    time.Duration
	TCPTimeout    time.Duration
	TCPTransitory time.Duration
	ICMPTimeout   time.Duration

	IPv4Lost   bool     // IPv4 goes nowhere and nothing says so; the hosts have addresses all the same
	UDPBlocked bool     // drops all UDP, as many offices and hotels do
	TCPPorts   []uint16 // destination ports that TCP may leave to; nil means all

	Addresses   int // outside addresses; an inside host always gets the same one (REQ-2). Zero means 1
	MaxMappings int // mappings at once, zero means 16384

	// IPv6 delegates a /64 to the inside, with a stateful firewall of the same
	// Filtering in front of it and no translation (RFC 6092).
	IPv6 bool

	// Prefix is the inside IPv4 network. The zero value picks an unused /24 of
	// 192.168.0.0/16; set it to give two homes the same addresses.
	Prefix netip.Prefix
	// Uplink is the link to the outside.
	Uplink LinkConfig
}

// Easy is a common home router: a Linux-like full cone in mapping, but only remotes
// that were sent to may answer.
func Easy() NATConfig {
	return NATConfig{Filtering: AddressAndPortDependent, InboundRefresh: true}
}

// EasyAF is Easy with filtering by address, whatever the port.
func EasyAF() NATConfig { return NATConfig{Filtering: AddressDependent, InboundRefresh: true} }

// FullCone lets everyone in through a mapping and hairpins.
func FullCone() NATConfig { return NATConfig{Hairpin: true, InboundRefresh: true} }

// Hard is the symmetric NAT: a fresh random port for each remote endpoint, and a
// short memory, which makes peers behind two of them meet at a relay.
func Hard() NATConfig {
	return NATConfig{
		Mapping:    AddressAndPortDependent,
		Filtering:  AddressAndPortDependent,
		Ports:      PortRandom,
		UDPTimeout: 30 * time.Second,
	}
}

// CGNAT is a carrier's NAT as RFC 6888 wants it: endpoint-independent mapping,
// hairpinning, an inside in 100.64.0.0/10 (RFC 6598), several outside addresses.
func CGNAT() NATConfig {
	return NATConfig{
		Filtering: AddressDependent,
		Ports:     PortRandom,
		Hairpin:   true,
		Addresses: 2,
		Prefix:    netip.MustParsePrefix("100.64.0.0/24"),
	}
}

// Firewall is a stateful firewall without translation.
func Firewall() NATConfig {
	return NATConfig{NoTranslation: true, Filtering: AddressAndPortDependent, InboundRefresh: true}
}

// Open is a plain router: public addresses inside, nothing filtered.
func Open() NATConfig { return NATConfig{NoTranslation: true} }

// UDPBlocked is a home router in a network where UDP does not work.
func UDPBlocked() NATConfig {
	c := Easy()
	c.UDPBlocked = true
	return c
}

// OnlyTCP443 is the hotel: HTTPS leaves, nothing else does.
func OnlyTCP443() NATConfig {
	c := Hard()
	c.UDPBlocked, c.TCPPorts = true, []uint16{443}
	return c
}

// withDefaults fills in what zero stands for.
func (c NATConfig) withDefaults() NATConfig {
	setDefault(&c.UDPTimeout, 2*time.Minute)
	setDefault(&c.TCPTimeout, 2*time.Hour+4*time.Minute)
	setDefault(&c.TCPTransitory, 4*time.Minute)
	setDefault(&c.ICMPTimeout, time.Minute)
	setDefault(&c.MaxMappings, 16384)
	setDefault(&c.Addresses, 1)
	return c
}

func setDefault[T comparable](p *T, d T) {
	var zero T
	if *p == zero {
		*p = d
	}
}

// Validate names everything that is wrong with c.
func (c NATConfig) Validate() error {
	var errs []error
	if c.Mapping > AddressAndPortDependent {
		errs = append(errs, fmt.Errorf("mapping: unknown %v", c.Mapping))
	}
	if c.Filtering > AddressAndPortDependent {
		errs = append(errs, fmt.Errorf("filtering: unknown %v", c.Filtering))
	}
	if c.Ports > PortRandom {
		errs = append(errs, fmt.Errorf("ports: unknown allocation %d", c.Ports))
	}
	if min(c.UDPTimeout, c.TCPTimeout, c.TCPTransitory, c.ICMPTimeout) < 0 {
		errs = append(errs, errors.New("timeout: negative"))
	}
	if c.Addresses < 0 || c.Addresses > 64 {
		errs = append(errs, fmt.Errorf("addresses: %d is not within 0 to 64", c.Addresses))
	}
	if c.MaxMappings < 0 {
		errs = append(errs, errors.New("max mappings: negative"))
	}
	if c.Prefix.IsValid() && (!c.Prefix.Addr().Is4() || c.Prefix.Bits() > 29) {
		errs = append(errs, fmt.Errorf("prefix: %v is no IPv4 network with room for hosts", c.Prefix))
	}
	return errors.Join(append(errs, c.Uplink.Validate())...)
}
