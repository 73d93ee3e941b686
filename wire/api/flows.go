package api

import (
	"net/netip"
	"time"

	"enclave/wire"
)

// PeerPath is how a system reaches one that it is introduced to, as its agent tells.
type PeerPath struct {
	wire.ReportedPeer
	Name string `json:"name"`
}

// Denied is a kind of packet that the filter of a system refused, as its agent tells.
type Denied struct {
	wire.ReportedDenial
	At     wire.SystemID `json:"at"` // who refused it
	AtName string        `json:"at_name"`
	From   wire.SystemID `json:"from,omitempty"` // whose address Src is, where it is a system's
	To     wire.SystemID `json:"to,omitempty"`
	Names  [2]string     `json:"names"` // of From and To, for people
}

// CutFlows picks live flows to be ended: those from one system to another and, where
// they are given, of that service or those addresses.
type CutFlows struct {
	From  string         `json:"from"` // ID or name
	To    string         `json:"to"`   // of the gateway, for what lies behind one
	Proto wire.Proto     `json:"protocol,omitempty"`
	Port  uint16         `json:"port,omitempty"` // at To
	Src   netip.AddrPort `json:"src,omitzero"`
	Dst   netip.AddrPort `json:"dst,omitzero"`
}

// FlowsCut answers it.
type FlowsCut struct {
	Flows []LiveFlow `json:"flows"`
	Ends  int        `json:"ends"` // of these flows that have said that they ended it, two a flow at most
}

// SystemAccess is what a system may open and who may open what to it, at an instant.
type SystemAccess struct {
	At    time.Time `json:"at"`
	Items []Access  `json:"items"`
	More  bool      `json:"more,omitempty"` // there is more than an answer holds
}
