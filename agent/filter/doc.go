// Package filter decides, packet by packet, what passes between a system and its
// peers. It stands between WireGuard and the local stack in both directions: In
// judges what was decrypted, Out what is about to be encrypted.
//
// Its data is a Table: the peers and the wire.Grants between each of them and this
// system, and the flows those grants let start. The sender of a grant opens flows,
// the receiver answers within them; a flow lives exactly as long as some grant
// would let it be opened now. Update brings new grants and returns the flows that
// ended with the packets that end them at both endpoints; Expire does the same for
// what ends by itself, an instant of a grant or silence.
//
// It owns no socket and no clock: every call is told the time. It refuses by
// default, and it refuses what it cannot place: a source that is nobody's address,
// a TCP segment, reply or ICMP error of no live flow, a fragment whose first part
// was not seen. A protocol whose header it cannot read matches only rules for any.
//
// The rules are those of the policy model (deny by default, allow only, sender to
// receiver). Flows and their life: docs/decisions/0040; rule lookup and which rule
// is named: 0041; cutting: 0042; answers to refused packets: 0043. Packet layouts
// are those of RFC 791, 792, 768, 9293, 8200 and 4443, timeouts those of RFC 4787,
// 5382 and 5508.
package filter
