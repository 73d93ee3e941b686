package path

import (
	"net/netip"

	"enclave/wire"
)

// Route is where the data for a peer goes. Direct wins over Stream, which is set only
// where there is no Direct, and both over Relay, which stays set beside them as the
// fallback. The zero Route leads nowhere.
type Route struct {
	Direct netip.AddrPort `json:"direct,omitzero"` // by UDP
	Stream netip.AddrPort `json:"stream,omitzero"` // by TCP
	Relay  wire.RelayID   `json:"relay,omitempty"`
}

// IsDirect reports whether data goes straight to the peer, by UDP or by TCP.
func (r Route) IsDirect() bool { return r.Direct.IsValid() || r.Stream.IsValid() }

// IsNone reports whether there is no way to the peer.
func (r Route) IsNone() bool { return !r.IsDirect() && r.Relay == "" }

// String is the route in the words of status: an address, tcp and one, relay NAME, or none.
func (r Route) String() string {
	switch {
	case r.Direct.IsValid():
		return r.Direct.String()
	case r.Stream.IsValid():
		return "tcp " + r.Stream.String()
	case r.Relay != "":
		return "relay " + string(r.Relay)
	}
	return "none"
}

// Why says why a pair is not direct by UDP. Empty means that it is.
type Why string

// The reasons. The codes are stable for scripts; Sentence says them to people.
const (
	WhyDirect       Why = ""
	WhyNoCandidates Why = "no-candidates"
	WhyUDPBlocked   Why = "udp-blocked"       // here
	WhyUDPThere     Why = "udp-blocked-there" // at the other side
	WhyLost         Why = "lost"
	WhyProbing      Why = "probing"
	WhyOneWay       Why = "one-way"
	WhyHardNAT      Why = "hard-nat" // on both sides
	WhyHardHere     Why = "hard-nat-here"
	WhyHardThere    Why = "hard-nat-there"
	WhyNarrow       Why = "narrow"
	WhyNoRelay      Why = "no-relay"
	WhyNoAnswer     Why = "no-answer"
)

// Sentence is the reason as a clause that may follow "not direct:".
func (w Why) Sentence() string {
	switch w {
	case WhyDirect:
		return ""
	case WhyNoCandidates:
		return "the other side has named no address yet"
	case WhyUDPBlocked:
		return "UDP is blocked here: no relay's STUN answers"
	case WhyUDPThere:
		return "UDP is blocked at the other side"
	case WhyLost:
		return "the direct path fell silent; looking for another"
	case WhyProbing:
		return "looking for a direct path now"
	case WhyOneWay:
		return "the other side's probes arrive here, but ours are not answered: a firewall stands in one direction"
	case WhyHardNAT:
		return "the NATs of both sides map by destination: there is no port to aim at"
	case WhyHardHere:
		return "the NAT here maps by destination, and the other side lets in only ports that it has sent to"
	case WhyHardThere:
		return "the other side's NAT maps by destination, and the one here lets in only ports that were sent to"
	case WhyNarrow:
		return "the direct path carries only packets below 576 bytes; the relay carries all"
	case WhyNoRelay:
		return "no relay that both reach, so the other side cannot be told when to open its NAT"
	case WhyNoAnswer:
		return "no address of the other side answers; tried again with growing pauses"
	}
	return string(w)
}
