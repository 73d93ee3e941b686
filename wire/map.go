package wire

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// SystemState is where a system is in its life.
type SystemState string

// The states of a system. Only an approved, enabled and unrevoked one counts.
const (
	Pending      SystemState = "pending"
	Connected    SystemState = "connected"
	Disconnected SystemState = "disconnected"
	Disabled     SystemState = "disabled"
	Revoked      SystemState = "revoked"
)

// CandidateKind says how an address was learned.
type CandidateKind string

// The kinds of candidate; a relay is not an address and travels as Peer.Relay.
const (
	HostCandidate     CandidateKind = "host"     // an interface address
	ObservedCandidate CandidateKind = "observed" // as a STUN server saw it (RFC 8489)
	MappedCandidate   CandidateKind = "mapped"   // opened by a port mapping protocol
	TCPCandidate      CandidateKind = "tcp"      // takes streams, where UDP does not pass; all others are of UDP
)

// Candidate is an address at which a system may be reachable.
type Candidate struct {
	Kind CandidateKind  `json:"kind"`
	Addr netip.AddrPort `json:"addr"`
}

// Relay is a relay an agent may use.
type Relay struct {
	ID   RelayID  `json:"id"`
	Addr string   `json:"addr"` // host:port of its TLS listener
	STUN []string `json:"stun"` // host:port of its STUN listeners, two addresses and two ports where it has them
}

// Reach is what a system reports of where it can be found.
type Reach struct {
	Candidates []Candidate `json:"candidates,omitempty"`
	Relay      RelayID     `json:"relay,omitempty"` // the relay it listens at
	NAT        string      `json:"nat,omitempty"`   // none, easy, hard, blocked; for people

	// Unreachable are relays, sorted, where others would look for this system, or it for
	// them, and to which it finds no way. Both ends leave them out when they agree on one.
	Unreachable []RelayID `json:"unreachable,omitempty"`
}

// Self is what a map says about the system it is for.
type Self struct {
	ID    SystemID    `json:"id"`
	Org   OrgID       `json:"org"`
	Name  string      `json:"name"`
	Zone  string      `json:"zone"` // DNS zone of the names, "enclave"
	IPv4  netip.Addr  `json:"ipv4"`
	IPv6  netip.Addr  `json:"ipv6"`
	State SystemState `json:"state"`
	Tags  []Tag       `json:"tags,omitempty"`

	// Routes are the subnets that this system may carry for others: empty for one that
	// is no gateway, null where control does not say.
	Routes []Route `json:"routes"`
}

// Peer is a system that some policy introduces to the receiver of the map.
type Peer struct {
	ID           SystemID     `json:"id"`
	Name         string       `json:"name"`
	IPv4         netip.Addr   `json:"ipv4"`
	IPv6         netip.Addr   `json:"ipv6"`
	WireGuard    WireGuardKey `json:"wireguard"`
	Disco        DiscoKey     `json:"disco"`
	SVID         [][]byte     `json:"svid"`          // DER chain, leaf first
	KeySignature []byte       `json:"key_signature"` // Ed25519 over KeyStatement by the SVID's key
	Reach        Reach        `json:"reach"`
	Ticket       []byte       `json:"ticket,omitempty"` // lets this pair meet at a relay
	Grants       []Grant      `json:"grants"`           // between the two, both directions

	// Names are those that the peer answers to, lower case, without a final dot; the
	// first label may be "*". No list at all, from an older control plane, means
	// NAME.ZONE; ID.id.ZONE each peer has besides.
	Names    []string  `json:"names"`
	Forwards []Forward `json:"forwards,omitempty"` // zones it leads to, by what Grants reach
}

// Map is everything a system needs to know, and nothing else.
type Map struct {
	Revision   Revision  `json:"revision"`
	ValidUntil time.Time `json:"valid_until,omitzero"` // fail closed after it without contact; zero is for ever
	Self       Self      `json:"self"`
	Peers      []Peer    `json:"peers"` // sorted by ID
	Relays     []Relay   `json:"relays"`
	DNS        DNS       `json:"dns"`
}

// Delta turns the map of revision Since into that of Revision. Peers are replaced
// whole: a peer is small, and a patch of a patch is where maps go wrong.
type Delta struct {
	Since      Revision   `json:"since"`
	Revision   Revision   `json:"revision"`
	ValidUntil time.Time  `json:"valid_until,omitzero"`
	Self       *Self      `json:"self,omitempty"`
	Upsert     []Peer     `json:"upsert,omitempty"`
	Gone       []SystemID `json:"gone,omitempty"`
	Relays     *[]Relay   `json:"relays,omitempty"`
	DNS        *DNS       `json:"dns,omitempty"`

	// Cause is what made the change, for the log of what it cuts:
	// policy.disable "Web for laptops" by alice. Empty when nothing was decided.
	Cause string `json:"cause,omitempty"`
}

// ErrOldRevision is returned for a map or delta that would take the state back.
var ErrOldRevision = errors.New("revision is older than the one applied")

// ErrRevisionJump is returned for a map that is further ahead than MaxRevisionJump.
var ErrRevisionJump = errors.New("revision is further ahead than changes can have brought it")

// ErrGap is returned for a delta that does not follow the map at hand; the
// receiver asks for a full map.
var ErrGap = errors.New("delta does not follow the applied revision")

// Apply changes m by d, whole or not at all. A delta of the same revision is fine:
// reach and liveness change without a policy change.
func (m *Map) Apply(d *Delta) error {
	if d.Revision < m.Revision {
		return fmt.Errorf("%w: have %d, got %d", ErrOldRevision, m.Revision, d.Revision)
	}
	if d.Since != m.Revision {
		return fmt.Errorf("%w: have %d, delta follows %d", ErrGap, m.Revision, d.Since)
	}
	peers := make(map[SystemID]Peer, len(m.Peers)+len(d.Upsert))
	for _, p := range m.Peers {
		peers[p.ID] = p
	}
	for _, id := range d.Gone {
		delete(peers, id)
	}
	for _, p := range d.Upsert {
		peers[p.ID] = p
	}
	if len(peers) > MaxPeers {
		return fmt.Errorf("%d peers, at most %d", len(peers), MaxPeers)
	}
	m.Peers = m.Peers[:0:0]
	for _, p := range peers {
		m.Peers = append(m.Peers, p)
	}
	slices.SortFunc(m.Peers, func(a, b Peer) int { return strings.Compare(string(a.ID), string(b.ID)) })
	m.Revision, m.ValidUntil = d.Revision, d.ValidUntil
	if d.Self != nil {
		m.Self = *d.Self
	}
	if d.Relays != nil {
		m.Relays = *d.Relays
	}
	if d.DNS != nil {
		m.DNS = *d.DNS
	}
	return nil
}
