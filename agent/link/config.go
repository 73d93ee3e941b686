package link

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"enclave/agent/path"
	"enclave/passage"
	"enclave/wire"
	"enclave/wire/disco"
)

// Config is what a Link is made of. Only the callbacks, Logger and the two last
// fields may be left out.
type Config struct {
	Network   Network
	Self      wire.SystemID
	WireGuard wire.WireGuardKey // own public key; named in pings
	Disco     disco.PrivateKey
	// TLS returns the client configuration for a relay: the system's SVID and the
	// verification of the relay's. ALPN and TLS 1.3 are set by the link.
	TLS    func(wire.RelayID) *tls.Config
	Logger *slog.Logger

	// OnReach is called, never concurrently, when what others should know of this
	// system has changed: candidates, the home relay, the kind of NAT.
	OnReach func(wire.Reach)
	// OnRoute is called, never concurrently, when a peer's route has changed.
	OnRoute func(PeerStatus)

	// Predict is how many ports of a peer may be guessed in a round of probes when its NAT
	// maps by destination and counts upwards; 0 guesses none.
	Predict int
	// Spray is how many ports of a peer may be tried, and how many sockets opened, when one
	// side's NAT gives each destination a random port; 0 tries none. See path.MaxSpray.
	Spray int
	// MTU is the tunnel's: of the largest inner packet, in bytes. Direct paths are tried
	// for what it takes; what does not fit one goes by the relay. 0 tries nothing.
	MTU  int
	Port uint16 // of the UDP socket; 0 is any
	// Mapper asks the router for an open port; nil does not.
	Mapper Mapper
	// Proxy names the HTTP proxy for a relay, as httpproxy.Config.ProxyFunc does; nil is
	// none.
	Proxy passage.Proxy
	// Streams are TCP connections straight to peers, for where UDP does not pass.
	Streams Streams
	// LoopbackCandidates also offers 127.0.0.1. It is set when control itself was
	// reached over loopback: then peers may be processes of this machine.
	LoopbackCandidates bool
}

func (c *Config) validate() error {
	var errs []error
	missing := func(bad bool, what string) {
		if bad {
			errs = append(errs, errors.New("link config: "+what+" is missing"))
		}
	}
	missing(c.Network == nil, "Network")
	missing(c.Self == "", "Self")
	missing(c.WireGuard.IsZero(), "WireGuard")
	missing(c.Disco == disco.PrivateKey{}, "Disco")
	missing(c.TLS == nil, "TLS")
	missing(c.Streams.Listen != "" && c.Streams.Server == nil, "Streams.Server")
	return errors.Join(errs...)
}

// Peer is a system that may be reached: a wire.Peer without what the link has no
// use for.
type Peer struct {
	ID        wire.SystemID
	WireGuard wire.WireGuardKey
	Disco     wire.DiscoKey
	Reach     wire.Reach
	SVID      []byte // its leaf, DER: whose identity a stream must prove; empty has none
	Ticket    []byte // opens the pair at a relay
}

// Route is the way to a peer.
type Route = path.Route

// PeerStatus is how a peer is reached now.
type PeerStatus struct {
	ID    wire.SystemID     `json:"id"`
	Key   wire.WireGuardKey `json:"-"`
	Route Route             `json:"route"`
	Since time.Time         `json:"since"`         // of the route
	Was   Route             `json:"was"`           // before that; none at first
	Moves uint64            `json:"moves"`         // how often the route has changed
	RTT   time.Duration     `json:"rtt,omitempty"` // of the direct path, smoothed
	Why   path.Why          `json:"why,omitempty"` // why it is not direct by UDP
	// MTU is of the largest inner packet that goes by the direct path, while that is less
	// than the tunnel's: larger ones take the relay, if there is one. 0: all do.
	MTU  int       `json:"mtu,omitempty"`
	Seen time.Time `json:"seen,omitzero"` // last data from the peer

	TxBytes   uint64 `json:"tx_bytes"` // WireGuard messages, headers below not counted
	TxPackets uint64 `json:"tx_packets"`
	RxBytes   uint64 `json:"rx_bytes"`
	RxPackets uint64 `json:"rx_packets"`
}

// Result answers Ping.
type Result struct {
	RTT   time.Duration `json:"rtt"`
	Route Route         `json:"route"`
}
