package filter

import "strconv"

// Verdict is what became of a packet: Accept, or why it was dropped.
type Verdict uint8

// The verdicts. Every value but Accept means that the packet must go no further.
const (
	Accept         Verdict = iota
	Malformed              // no whole, consistent header
	OffLink                // multicast, or ICMP that speaks about a link: the overlay is none
	Spoofed                // the source is not an address of a known peer, or on the way out not ours
	NotForUs               // inbound, but the destination is not ours
	UnknownPeer            // outbound to an address no policy introduced
	NoRule                 // no grant lets its sender open this flow
	Unsolicited            // a reply, an ICMP error or a later TCP segment of no live flow
	BadState               // part of a live flow, but not possible in its state
	Expired                // its flow ended with its last grant and waits to be cut
	FragmentOrphan         // a later fragment whose first was not accepted
	BadFragment            // a first fragment without a whole header, or an overlap with it
	TableFull              // a new flow, and nothing in the table may give way to it
	verdicts               // how many there are
)

var verdictNames = [verdicts]string{
	Accept:         "accepted",
	Malformed:      "malformed packet",
	OffLink:        "message for a link",
	Spoofed:        "spoofed source",
	NotForUs:       "not for this system",
	UnknownPeer:    "no policy introduces the destination",
	NoRule:         "no rule allows it",
	Unsolicited:    "belongs to no live flow",
	BadState:       "not possible in the state of its flow",
	Expired:        "the last rule that allowed it has ended",
	FragmentOrphan: "fragment without its first",
	BadFragment:    "tiny or overlapping fragment",
	TableFull:      "too many flows",
}

func (v Verdict) String() string {
	if v < verdicts {
		return verdictNames[v]
	}
	return "verdict(" + strconv.Itoa(int(v)) + ")"
}

// MarshalText writes the sentence of String.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }
