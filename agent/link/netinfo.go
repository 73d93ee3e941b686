package link

import (
	"net/netip"
	"time"

	"enclave/wire"
)

// NetInfo is what the link has learned of the network it stands on, for netcheck.
type NetInfo struct {
	UDP      bool             `json:"udp"`      // some STUN server answered
	IPv4     bool             `json:"ipv4"`     // one answered over IPv4
	IPv6     bool             `json:"ipv6"`     // one answered over IPv6
	NAT      string           `json:"nat"`      // none, easy, hard, blocked, or empty: not known yet
	Port     uint16           `json:"port"`     // of the UDP socket
	Room     int              `json:"room"`     // bytes that the kernel holds for it; 0: not known
	Observed []netip.AddrPort `json:"observed"` // as STUN servers see the socket
	Home     wire.RelayID     `json:"home,omitempty"`
	Relays   []RelayInfo      `json:"relays"`
	Mapping  *Mapping         `json:"mapping,omitempty"` // nil: not asked for
	Listen   string           `json:"listen,omitempty"`  // where peers may come by TCP; empty: nowhere
}

// The kinds of NAT, as wire.Reach.NAT carries them. Mapping is in the sense of
// RFC 4787 section 4.1.
const (
	NATNone    = "none"    // the socket is seen at an address of this machine
	NATEasy    = "easy"    // one mapping for every destination
	NATHard    = "hard"    // the mapping varies by destination
	NATBlocked = "blocked" // no STUN server answers
)

// RelayInfo is how a relay is reached.
type RelayInfo struct {
	ID        wire.RelayID  `json:"id"`
	Addr      string        `json:"addr"`
	STUN      []string      `json:"stun"`
	RTT       time.Duration `json:"rtt,omitempty"` // by STUN; zero: no answer
	Connected bool          `json:"connected"`
	How       string        `json:"how,omitempty"`   // connected by proxy HOST, as a WebSocket; empty: plain TLS
	Error     string        `json:"error,omitempty"` // why the last connection ended or failed
}

// Drops counts what was dropped and why.
type Drops struct {
	UnknownSource uint64 `json:"unknown_source"` // WireGuard message from an address of no peer
	NoSession     uint64 `json:"no_session"`     // WireGuard message of a peer that names no session, or a handshake with a wrong MAC or too many
	UnknownKey    uint64 `json:"unknown_key"`    // disco packet of a key that no peer has
	BadDisco      uint64 `json:"bad_disco"`      // a box that does not open, or a body that makes no sense
	Replay        uint64 `json:"replay"`         // ping, pong or call-me seen before or not asked for
	BadSTUN       uint64 `json:"bad_stun"`       // STUN answer to no question of ours
	Noise         uint64 `json:"noise"`          // neither WireGuard, disco nor STUN
	NoRoute       uint64 `json:"no_route"`       // nothing to send it by
	QueueFull     uint64 `json:"queue_full"`     // a relay or the device did not keep up
	WriteFailed   uint64 `json:"write_failed"`   // the socket refused it
	Floods        uint64 `json:"floods"`         // times that the kernel was told to drop strangers
	UnknownSender uint64 `json:"unknown_sender"` // relayed from a system that is no peer
	Callers       uint64 `json:"callers"`        // TCP connections that proved to be no peer's, or came too often
}
