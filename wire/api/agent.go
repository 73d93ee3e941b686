package api

import (
	"net/netip"
	"time"

	"enclave/wire"
)

// AgentStatus is what an agent says about itself on its local socket.
type AgentStatus struct {
	State      string           `json:"state"` // one of the Agent constants
	Self       wire.Self        `json:"self"`
	Control    ControlStatus    `json:"control"`
	Revision   wire.Revision    `json:"revision"`
	ValidUntil *time.Time       `json:"valid_until,omitempty"` // the map fails closed then; null is never
	SVIDUntil  time.Time        `json:"svid_until,omitzero"`
	Reach      wire.Reach       `json:"reach"`
	Network    *AgentNetwork    `json:"network,omitempty"`
	Peers      []AgentPeer      `json:"peers"`
	Rejected   []RejectedPeer   `json:"rejected,omitempty"` // peers control named that did not verify
	Filter     map[string]int64 `json:"filter"`             // packets by verdict
	Flows      []AgentFlow      `json:"flows"`
	Denied     []Denial         `json:"denied,omitempty"`
	Spoofed    uint64           `json:"spoofed"` // packets with an inner source that is not the peer's
	Version    string           `json:"version"`
	Warnings   []string         `json:"warnings,omitempty"`
	Gateway    *AgentGateway    `json:"gateway,omitempty"` // what it carries for others; absent for one that is no gateway
	Witness    *Witness         `json:"witness,omitempty"`
}

// AgentTrust is whom an agent believes: nothing of it is secret.
type AgentTrust struct {
	Org   wire.OrgID `json:"org"`
	Roots [][]byte   `json:"roots"` // certificates, DER
}

// AgentNetwork is what an agent has learned of the network it stands on.
type AgentNetwork struct {
	UDP      bool             `json:"udp"` // some STUN server answered, by which family is next
	IPv4     bool             `json:"ipv4"`
	IPv6     bool             `json:"ipv6"`
	Port     uint16           `json:"port"`                    // of the UDP socket
	Room     int              `json:"socket_buffer,omitempty"` // bytes of what has come that the kernel holds; absent: not known
	Observed []netip.AddrPort `json:"observed"`                // as STUN servers see it
	Relays   []AgentRelay     `json:"relays"`
	Mapping  *AgentMapping    `json:"port_mapping,omitempty"` // absent: not asked for
	Listen   string           `json:"listen_tcp,omitempty"`   // where peers may come by TCP; absent: nowhere
}

// AgentMapping is a port that the router was asked to open.
type AgentMapping struct {
	Addr  string `json:"addr,omitempty"`  // where peers reach it
	How   string `json:"how,omitempty"`   // pcp, nat-pmp, upnp
	Error string `json:"error,omitempty"` // why there is none
}

// AgentRelay is a relay as an agent reaches it.
type AgentRelay struct {
	ID        wire.RelayID  `json:"id"`
	Addr      string        `json:"addr"`
	STUN      []string      `json:"stun"`
	RTT       time.Duration `json:"rtt_ns,omitempty"` // by STUN; zero: no answer
	Connected bool          `json:"connected"`        // agents hold the connection to their home only
	How       string        `json:"how,omitempty"`    // connected by proxy HOST, as a WebSocket, or both; absent: plain TLS
	Error     string        `json:"error,omitempty"`  // of the last connection
}

// AgentGateway is what a gateway carries.
type AgentGateway struct {
	Routes  []wire.Route `json:"routes"`
	TCP     int          `json:"tcp"` // flows now
	UDP     int          `json:"udp"`
	Opened  uint64       `json:"opened"`  // flows ever
	Refused uint64       `json:"refused"` // by the gateway itself, for where they were going
	Failed  uint64       `json:"failed"`  // that nothing behind it answered
	Echoes  uint64       `json:"echoes"`  // answered
}

// Witness is what an agent remembers of control's audit trail.
type Witness struct {
	Key        string     `json:"key"`
	Checkpoint string     `json:"checkpoint"`
	Size       int64      `json:"size"`
	At         time.Time  `json:"at"`
	Alarm      string     `json:"alarm,omitempty"`   // why Refused is not believed
	Refused    string     `json:"refused,omitempty"` // the checkpoint that contradicts
	RefusedAt  *time.Time `json:"refused_at,omitempty"`
}

// The states of an agent.
const (
	AgentStarting = "starting"
	AgentPending  = "pending" // enrolled, waits for approval
	AgentRunning  = "running"
	AgentOffline  = "offline" // runs on the last map; control is not reachable
	AgentClosed   = "closed"  // the map's life is over; fails closed until control is back
	AgentDisabled = "disabled"
	AgentRevoked  = "revoked"
)

// ControlStatus is an agent's view of its control plane.
type ControlStatus struct {
	URL       string        `json:"url"`
	Connected bool          `json:"connected"`
	Since     time.Time     `json:"since,omitzero"`
	LastHeard time.Time     `json:"last_heard,omitzero"`
	How       string        `json:"how,omitempty"` // as of a relay
	ClockSkew time.Duration `json:"clock_skew_ns"`
	Error     string        `json:"error,omitempty"`
}

// AgentPeer is one introduced system as an agent sees it.
type AgentPeer struct {
	ID            wire.SystemID `json:"id"`
	Name          string        `json:"name"`
	IPv4          netip.Addr    `json:"ipv4"`
	IPv6          netip.Addr    `json:"ipv6"`
	Route         string        `json:"route"`          // direct, relay, none
	Via           string        `json:"via,omitempty"`  // address ("tcp" and one: direct, but not by UDP) or relay
	Since         time.Time     `json:"since,omitzero"` // of the route
	Was           string        `json:"was,omitempty"`  // the route before that, in words
	Moves         uint64        `json:"moves"`          // how often the route has changed
	RTT           time.Duration `json:"rtt_ns,omitempty"`
	WhyNotDirect  string        `json:"why_not_direct,omitempty"` // by UDP; a code
	Why           string        `json:"why,omitempty"`            // the same as a sentence
	LastHandshake time.Time     `json:"last_handshake,omitzero"`
	Received      uint64        `json:"received_bytes"`
	Sent          uint64        `json:"sent_bytes"`
	Grants        []wire.Grant  `json:"grants"`
}

// RejectedPeer is a peer that control named and that the agent does not believe.
type RejectedPeer struct {
	ID     wire.SystemID `json:"id"`
	Reason string        `json:"reason"`
}

// AgentFlow is a live flow.
type AgentFlow struct {
	wire.Flow
	PolicyName string        `json:"policy_name,omitempty"`
	Until      time.Time     `json:"until,omitzero"` // the rule counts; another may take over then
	Ends       wire.Clock    `json:"ends,omitempty"` // what ends it then
	Peer       wire.SystemID `json:"peer"`
	Inbound    bool          `json:"inbound"`
	Since      time.Time     `json:"since"`
	Bytes      uint64        `json:"bytes"`
}

// Denial is a packet the filter refused, with how often.
type Denial struct {
	Proto  string         `json:"proto"`
	Src    netip.AddrPort `json:"src"`
	Dst    netip.AddrPort `json:"dst"`
	Reason string         `json:"reason"`
	Count  uint64         `json:"count"`
	Last   time.Time      `json:"last"`
}

// PingResult is one probe of a peer over the path that data takes.
type PingResult struct {
	Peer  wire.SystemID `json:"peer"`
	Name  string        `json:"name"`
	Addr  netip.Addr    `json:"addr"`
	Route string        `json:"route"`
	Via   string        `json:"via,omitempty"`
	RTT   time.Duration `json:"rtt_ns"`
	Why   string        `json:"why,omitempty"`   // it is not direct, or not by UDP
	Inner *InnerPing    `json:"inner,omitempty"` // through the tunnel as well, when asked for
}

// InnerPing is an ICMP echo through the overlay: WireGuard, both filters and the peer's
// stack, all of which a probe of the path leaves out.
type InnerPing struct {
	RTT   time.Duration `json:"rtt_ns,omitempty"`
	Error string        `json:"error,omitempty"` // why there is no answer
}
