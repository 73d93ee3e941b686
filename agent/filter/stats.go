package filter

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"enclave/wire"
)

// Stats counts what happened since the table was made.
type Stats struct {
	In, Out Verdicts // packets

	Flows   int    // live now
	Peers   int    // known now
	Opened  uint64 // flows
	Idle    uint64 // flows that ended in silence
	Cut     uint64 // flows that ended because no rule allowed them any more
	Evicted uint64 // flows that gave way in a full table
}

// Verdicts counts packets by what became of them.
type Verdicts [verdicts]uint64

// Dropped is the number of packets that were not accepted.
func (v *Verdicts) Dropped() (n uint64) {
	for _, c := range v[Accept+1:] {
		n += c
	}
	return n
}

// PeerStats counts packets with one peer; index 0 is out, 1 is in. What is dropped
// for its source cannot be laid to a peer and is counted in Stats alone.
type PeerStats struct {
	Peer    wire.SystemID
	Flows   int
	Packets [2]uint64
	Bytes   [2]uint64 // with IP headers
	Dropped [2]uint64 // packets
}

type counters struct {
	verdicts                   [2]Verdicts
	opened, idle, cut, evicted uint64
}

// Stats returns the counters of the whole table.
func (t *Table) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &t.counters
	return Stats{
		In: c.verdicts[inbound], Out: c.verdicts[outbound],
		Flows: len(t.list), Peers: len(t.byID),
		Opened: c.opened, Idle: c.idle, Cut: c.cut, Evicted: c.evicted,
	}
}

// PeerStats returns the counters of every known peer, sorted by ID.
func (t *Table) PeerStats() []PeerStats {
	t.mu.Lock()
	all := make([]PeerStats, 0, len(t.byID))
	for id, p := range t.byID {
		s := p.count
		s.Peer, s.Flows = id, p.flows
		all = append(all, s)
	}
	t.mu.Unlock()
	slices.SortFunc(all, func(a, b PeerStats) int { return strings.Compare(string(a.Peer), string(b.Peer)) })
	return all
}

// FlowInfo describes a live flow.
type FlowInfo struct {
	wire.Flow
	Peer    wire.SystemID
	Name    string     // of the policy, as its grant says
	Until   time.Time  // its rule counts; another may take over then. Zero is for ever
	Ends    wire.Clock // what ends it then
	Inbound bool       // the peer opened it
	State   string     // opening, open, half closed or closing
	Since   time.Time
	Silent  time.Duration // since its last packet
	Packets [2]uint64     // index 0 is out, 1 is in
	Bytes   [2]uint64
}

// Over is whether both ends have closed it, or one has reset it: it stays for stray
// packets, and nobody would call it live.
func (f *FlowInfo) Over() bool { return f.State == stateNames[closing] }

// Flows returns the flows, oldest first, those that are over among them.
func (t *Table) Flows() []FlowInfo {
	t.mu.Lock()
	all := make([]FlowInfo, 0, len(t.list))
	for _, f := range t.list {
		if silent := t.clock.own - f.last; !f.dead && silent < f.idle() {
			all = append(all, FlowInfo{
				Flow: f.names(), Peer: f.peer.id, Name: f.rule.Name, Until: f.rule.NotAfter, Ends: f.rule.Ends, Inbound: f.opener == inbound, State: stateNames[f.state],
				Since: time.Unix(0, f.since), Silent: time.Duration(silent), Packets: f.packets, Bytes: f.bytes,
			})
		}
	}
	t.mu.Unlock()
	slices.SortStableFunc(all, func(a, b FlowInfo) int { return a.Since.Compare(b.Since) })
	return all
}

// maxDenials is how many different refusals are remembered: a screen of them with
// room for noise. The one first seen longest ago gives way.
const maxDenials = 256

// Denial is a kind of packet that was refused, and how often.
type Denial struct {
	Proto       wire.Proto
	Src         netip.Addr
	Dst         netip.AddrPort // port 0 where there is none
	Inbound     bool
	Reason      Verdict
	Count       uint64
	First, Last time.Time
}

type denialKey struct {
	src, dst addr
	port     uint16
	proto    wire.Proto
	d        direction
	v        Verdict
}

type denial struct {
	key         denialKey
	count       uint64
	first, last int64
}

type denials struct {
	at   map[denialKey]int32
	ring []denial
	hand int // the oldest, once the ring is full
}

func (s *denials) note(p *packet, d direction, v Verdict, wall int64) {
	k := denialKey{src: p.src, dst: p.dst, proto: p.protocol(), d: d, v: v}
	if p.kind == kindPorts {
		k.port = p.dport
	}
	if i, ok := s.at[k]; ok {
		s.ring[i].count++
		s.ring[i].last = wall
		return
	}
	if s.at == nil {
		s.at, s.ring = make(map[denialKey]int32, maxDenials), make([]denial, 0, maxDenials)
	}
	fresh := denial{k, 1, wall, wall}
	if len(s.ring) < maxDenials {
		s.at[k] = int32(len(s.ring))
		s.ring = append(s.ring, fresh)
		return
	}
	delete(s.at, s.ring[s.hand].key)
	s.at[k], s.ring[s.hand] = int32(s.hand), fresh
	s.hand = (s.hand + 1) % maxDenials
}

// Denials returns what was refused of late, the most recent first.
func (t *Table) Denials() []Denial {
	t.mu.Lock()
	ring := slices.Clone(t.denials.ring)
	t.mu.Unlock()
	slices.SortStableFunc(ring, func(a, b denial) int { return int(min(max(b.last-a.last, -1), 1)) })
	all := make([]Denial, len(ring))
	for i, e := range ring {
		all[i] = Denial{
			Proto: e.key.proto, Src: e.key.src.port(0).Addr(), Dst: e.key.dst.port(e.key.port),
			Inbound: e.key.d == inbound, Reason: e.key.v, Count: e.count,
			First: time.Unix(0, e.first), Last: time.Unix(0, e.last),
		}
	}
	return all
}
