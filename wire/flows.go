package wire

import (
	"net/netip"
	"time"
)

// PathFlows is where an agent answers an Ask: POST FlowReport -> 204.
const PathFlows = "/agent/v1/flows"

// How much one report names; of flows, More counts the rest.
const (
	MaxReportedFlows   = 800
	MaxReportedPeers   = 400
	MaxReportedDenials = 256
)

// Ask is a question of control, sent down the map stream. It changes nothing that an
// agent keeps, and an agent that cannot answer in time lets it be. What it asks for may
// stand together.
type Ask struct {
	ID     string `json:"id"`               // goes into the answer
	Flows  bool   `json:"flows,omitempty"`  // which flows live now?
	Peers  bool   `json:"peers,omitempty"`  // over which paths are peers reached?
	Denied bool   `json:"denied,omitempty"` // what was refused of late?
	// Cut ends flows, at most MaxReportedFlows. It takes no grant away: what is still
	// allowed may be opened again.
	Cut   []CutFlow `json:"cut,omitempty"`
	Cause string    `json:"cause,omitempty"` // of the cut, for the log; at most MaxCauseLen
}

// CutFlow names a live flow at one of its ends.
type CutFlow struct {
	Peer  SystemID       `json:"peer"` // the other end
	Proto Proto          `json:"proto"`
	Src   netip.AddrPort `json:"src"` // who opened it; port 0 for ICMP
	Dst   netip.AddrPort `json:"dst"`
}

// FlowReport answers an Ask.
type FlowReport struct {
	ID     string           `json:"id"`
	Flows  []ReportedFlow   `json:"flows"`
	More   int              `json:"more,omitempty"` // flows that are not named
	Peers  []ReportedPeer   `json:"peers,omitempty"`
	Denied []ReportedDenial `json:"denied,omitempty"`
	Cut    int              `json:"cut,omitempty"` // flows that were ended
}

// ReportedFlow is a live flow as one of its ends sees it.
type ReportedFlow struct {
	Flow
	Peer    SystemID  `json:"peer"`
	Inbound bool      `json:"inbound"` // the peer opened it
	Since   time.Time `json:"since"`
	Bytes   uint64    `json:"bytes"`
}

// ReportedPeer is how an agent reaches a peer.
type ReportedPeer struct {
	ID            SystemID      `json:"id"`
	Route         string        `json:"route"`         // direct, relay, none
	Via           string        `json:"via,omitempty"` // address or relay
	Since         time.Time     `json:"since,omitzero"`
	RTT           time.Duration `json:"rtt_ns,omitempty"`
	WhyNotDirect  string        `json:"why_not_direct,omitempty"` // a code
	Why           string        `json:"why,omitempty"`            // the same for people
	LastHandshake time.Time     `json:"last_handshake,omitzero"`
	Received      uint64        `json:"received_bytes"`
	Sent          uint64        `json:"sent_bytes"`
}

// ReportedDenial is a kind of packet that an agent's filter refused, and how often; or,
// where it has a name, something that was dialled or asked for by a name that stands for
// nobody there.
type ReportedDenial struct {
	Proto   Proto          `json:"proto"`
	Src     netip.Addr     `json:"src"`
	Dst     netip.AddrPort `json:"dst"`            // port 0 where there is none; of a name only the port counts
	Name    string         `json:"name,omitempty"` // as it was asked for; of a question by DNS the protocol is any
	Inbound bool           `json:"inbound"`
	Reason  string         `json:"reason"`
	Count   uint64         `json:"count"`
	First   time.Time      `json:"first"`
	Last    time.Time      `json:"last"`
}
