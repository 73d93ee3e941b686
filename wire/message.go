package wire

import (
	"fmt"
	"time"
)

// The agent protocol is JSON over HTTP/2 with mutual TLS 1.3. Paths, in the order
// an agent uses them. Only PathEnrol is open to a caller without an SVID.
const (
	PathEnrol  = "/agent/v1/enrol"  // POST EnrolRequest -> EnrolResponse
	PathRenew  = "/agent/v1/renew"  // POST RenewRequest -> RenewResponse
	PathStream = "/agent/v1/stream" // GET -> one Message a line
	PathReport = "/agent/v1/report" // POST Report -> 204
	PathRelay  = "/agent/v1/relay"  // POST RelayInfo -> 204, by a relay: where it is reached now
)

// Keys are a system's public keys and the statement that binds them together.
type Keys struct {
	Identity  IdentityKey  `json:"identity"`
	WireGuard WireGuardKey `json:"wireguard"`
	Disco     DiscoKey     `json:"disco"`
	Signature []byte       `json:"signature"` // by Identity over KeyStatement; also proves possession
}

// Host is what a system says about itself; nothing is decided by it.
type Host struct {
	Hostname string `json:"hostname,omitempty"`
	Platform string `json:"platform,omitempty"` // linux/amd64
	Version  string `json:"version,omitempty"`
}

// EnrolRequest buys an identity with an enrolment key. Sent again with the same
// identity key (a crash before the answer was kept), it returns the same system
// and uses up nothing. With Relay set it enrols a relay instead of a system.
type EnrolRequest struct {
	Version int        `json:"version"`
	Now     time.Time  `json:"now"` // the caller's clock, for a clear error
	Secret  string     `json:"secret"`
	Name    string     `json:"name"`
	Keys    Keys       `json:"keys"`
	Host    Host       `json:"host"`
	Relay   *RelayInfo `json:"relay,omitempty"`
	Run     *RunInfo   `json:"run,omitempty"` // it is a run, not a machine
}

// RelayInfo is how a relay that enrols, or has moved, can be reached.
type RelayInfo struct {
	Addr string   `json:"addr"`
	STUN []string `json:"stun"`
}

// EnrolResponse is the identity. State is Pending until an administrator approves.
type EnrolResponse struct {
	Now       time.Time   `json:"now"`
	System    SystemID    `json:"system,omitempty"`
	Relay     RelayID     `json:"relay,omitempty"`
	Org       OrgID       `json:"org"`
	State     SystemState `json:"state"`
	SVID      [][]byte    `json:"svid"`  // DER chain, leaf first
	Roots     [][]byte    `json:"roots"` // DER
	TicketKey []byte      `json:"ticket_key"`
}

// RenewRequest asks for a new SVID for the same identity key, before the old one
// ends, over mutual TLS with the old one.
type RenewRequest struct {
	Now  time.Time `json:"now"`
	Host Host      `json:"host"`
}

// RenewResponse carries the new SVID.
type RenewResponse struct {
	Now   time.Time `json:"now"`
	SVID  [][]byte  `json:"svid"`
	Roots [][]byte  `json:"roots"`
}

// Message is one line of the map stream; exactly one field is set.
type Message struct {
	Map       *Map       `json:"map,omitempty"`
	Delta     *Delta     `json:"delta,omitempty"`
	Heartbeat *Heartbeat `json:"heartbeat,omitempty"`
	Bye       *Bye       `json:"bye,omitempty"`
	Ask       *Ask       `json:"ask,omitempty"`

	// Checkpoint comes to agents that asked for it, with QueryWitness.
	Checkpoint *Checkpoint `json:"checkpoint,omitempty"`
}

// ParseMessage decodes a line of the map stream. The bounds hold what it takes of memory
// to some hundred megabytes, whoever wrote it.
func ParseMessage(line []byte) (*Message, error) {
	if len(line) > MaxMapMessage {
		return nil, Problem{Message: fmt.Sprintf("%d bytes, at most %d", len(line), MaxMapMessage)}
	}
	m := new(Message)
	err := unmarshal(line, m, bounds{elements: MaxPeers, members: MaxMembers, all: MaxMapValues, texts: MaxMapTexts})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// QueryWitness is the query of PathStream by which an agent says that it is a witness of
// the audit trail, and how many records the checkpoint has that it remembers (0: none).
const QueryWitness = "witness"

// Checkpoint is the signed state of control's audit trail (docs/format/audit.md), with
// the proof that it continues the state of Old records.
type Checkpoint struct {
	Note  string   `json:"note"`
	Key   string   `json:"key"`
	Old   int64    `json:"old,omitempty"`
	Proof [][]byte `json:"proof,omitempty"`
}

// Heartbeat says that the stream lives and where the revision is. ValidUntil
// extends the map at hand when its revision is Revision.
type Heartbeat struct {
	Now        time.Time `json:"now"`
	Revision   Revision  `json:"revision"`
	ValidUntil time.Time `json:"valid_until,omitzero"`
}

// Bye ends a stream for a reason the agent acts on.
type Bye struct {
	Code    string `json:"code"` // one of the Bye constants
	Message string `json:"message"`
}

// Codes of Bye.
const (
	ByeRevoked  = "revoked"  // the identity is gone; enrol again
	ByeReplaced = "replaced" // another process connected with this identity
	ByeRestart  = "restart"  // the server goes down; reconnect with back-off
)

// Report is what an agent tells control: what it has applied and where it is.
type Report struct {
	Applied Revision `json:"applied"`
	Reach   *Reach   `json:"reach,omitempty"` // nil when unchanged
}
