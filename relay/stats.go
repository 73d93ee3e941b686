package relay

import "sync/atomic"

// event is something a relay counts. Every drop, refusal and end has one, so that
// nothing is lost without a number somewhere.
type event uint8

const (
	_ event = iota
	forwarded
	forwardedBytes
	throttled
	wrapped

	dropQueueFull
	dropControl
	dropNoTicket
	dropExpired
	dropPeerGone

	ticketAccepted
	ticketBad
	ticketExpired
	ticketNotYours
	ticketTooMany

	refusedDraining
	refusedHandshakes
	refusedAddress
	refusedFull
	refusedHandshake
	refusedIdentity
	refusedHello

	endLeft
	endLost
	endReplaced
	endProtocol
	endSlow
	endIdle
	endCertificate
	endShutdown

	stunAnswered
	stunNotSTUN
	stunNotRequest
	stunForeign
	stunSize
	stunRatio
	stunRate
	stunWrite
	stunPaced

	numEvents
)

// events names them: a metric's last part, and the value of its label.
var events = [numEvents]struct{ metric, label string }{
	forwarded:      {metric: "forwarded_frames"},
	forwardedBytes: {metric: "forwarded_bytes"},
	throttled:      {metric: "throttled_frames"},
	wrapped:        {metric: "web_connections"},

	dropQueueFull: {"dropped_frames", "queue_full"}, // the receiver did not keep up
	dropControl:   {"dropped_frames", "control"},    // an answer or notice, likewise
	dropNoTicket:  {"dropped_frames", "no_ticket"},
	dropExpired:   {"dropped_frames", "expired"},
	dropPeerGone:  {"dropped_frames", "peer_gone"},

	ticketAccepted: {"tickets", "accepted"},
	ticketBad:      {"tickets", "bad"},
	ticketExpired:  {"tickets", "expired"},
	ticketNotYours: {"tickets", "not_yours"},
	ticketTooMany:  {"tickets", "too_many"},

	refusedDraining:   {"refused_connections", "draining"},
	refusedHandshakes: {"refused_connections", "handshakes_full"},
	refusedAddress:    {"refused_connections", "address_full"},
	refusedFull:       {"refused_connections", "clients_full"},
	refusedHandshake:  {"refused_connections", "handshake"},
	refusedIdentity:   {"refused_connections", "identity"},
	refusedHello:      {"refused_connections", "hello"},

	endLeft:        {"ended_connections", "left"},
	endLost:        {"ended_connections", "lost"},
	endReplaced:    {"ended_connections", "replaced"},
	endProtocol:    {"ended_connections", "protocol"},
	endSlow:        {"ended_connections", "slow"},
	endIdle:        {"ended_connections", "idle"},
	endCertificate: {"ended_connections", "certificate"},
	endShutdown:    {"ended_connections", "shutdown"},

	stunAnswered:   {"stun_datagrams", "answered"},
	stunNotSTUN:    {"stun_datagrams", "not_stun"},
	stunNotRequest: {"stun_datagrams", "not_request"}, // answers among them
	stunForeign:    {"stun_datagrams", "foreign"},     // not from an agent of ours
	stunSize:       {"stun_datagrams", "size"},
	stunRatio:      {"stun_datagrams", "ratio"}, // the answer would be too large for the question
	stunRate:       {"stun_datagrams", "rate"},
	stunWrite:      {"stun_datagrams", "write"},

	stunPaced: {metric: "stun_pauses"}, // reading paused: more come than are looked at
}

func (e event) String() string { return events[e].label }

type counters [numEvents]atomic.Uint64

func (s *Server) count(e event, n uint64) { s.counts[e].Add(n) }

// Stats is a snapshot of what a relay does. It names no client.
type Stats struct {
	Clients    int               `json:"clients"`
	Handshakes int               `json:"handshakes"`
	Pairs      int               `json:"pairs"` // tickets held open; two when both sides presented theirs
	Counts     map[string]uint64 `json:"counts"`
}

// Stats returns the figures of now. Counts has the names of the metrics, as in
// "forwarded_frames" and "dropped_frames/queue_full".
func (s *Server) Stats() Stats {
	st := Stats{Handshakes: s.door.handshakes(), Counts: make(map[string]uint64, numEvents)}
	st.Clients, st.Pairs = s.roster.size()
	for e := event(1); e < numEvents; e++ {
		name := events[e].metric
		if events[e].label != "" {
			name += "/" + events[e].label
		}
		st.Counts[name] = s.counts[e].Load()
	}
	return st
}
