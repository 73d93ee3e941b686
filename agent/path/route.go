package path

import (
	"net/netip"

	"enclave/wire"
)

// Route is where the data for a peer goes. Direct wins over Relay; Relay stays set
// beside it as the fallback. The zero Route leads nowhere.
type Route struct {
	Direct netip.AddrPort `json:"direct,omitzero"`
	Relay  wire.RelayID   `json:"relay,omitempty"`
}

// IsDirect reports whether data goes straight to the peer.
func (r Route) IsDirect() bool { return r.Direct.IsValid() }

// IsNone reports whether there is no way to the peer.
func (r Route) IsNone() bool { return !r.IsDirect() && r.Relay == "" }

// String is the route in the words of status: an address, relay NAME, or none.
func (r Route) String() string {
	switch {
	case r.IsDirect():
		return r.Direct.String()
	case r.Relay != "":
		return "relay " + string(r.Relay)
	}
	return "none"
}

// Why says why a pair is not direct. Empty means that it is.
type Why string

// The reasons. They are words for people and stable for scripts.
const (
	WhyDirect       Why = ""
	WhyNoCandidates Why = "no-candidates" // nobody has named an address of the peer
	WhyUDPBlocked   Why = "udp-blocked"   // UDP does not leave one of the two networks
	WhyLost         Why = "lost"          // the direct path fell silent; looking for another
	WhyProbing      Why = "probing"       // a round of probes is under way
	WhyOneWay       Why = "one-way"       // its pings arrive, ours are not answered
	WhyHardNAT      Why = "hard-nat"      // both NATs map by destination: no port to aim at
	WhyNoAnswer     Why = "no-answer"     // no address answers; probing again with back-off
)
