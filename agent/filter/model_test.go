package filter

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"enclave/wire"
)

// model is the filter as one would write it without a thought for speed: a list of
// grants, a list of flows, and every question answered by looking at all of them.
// It speaks in specs and never sees a byte.
type model struct {
	now    time.Time
	peers  []Peer
	flows  []*modelFlow
	pieces []modelPiece
}

type modelFlow struct {
	first  spec // as its opener sent it
	byUs   bool
	state  string
	fin    map[bool]bool // by whether we sent it
	spoke  bool          // the other end of the opener did
	dead   bool
	last   time.Time
	policy wire.PolicyID
	rule   int
}

type modelPiece struct {
	name  string
	flow  *modelFlow
	end   int
	until time.Time
}

var ourAddrs = []netip.Addr{us4, us6}

func (m *model) peer(a netip.Addr) (Peer, bool) {
	for _, p := range m.peers {
		if slices.Contains(p.Addrs, a) {
			return p, true
		}
	}
	return Peer{}, false
}

func ruleProto(s spec) wire.Proto {
	switch {
	case s.proto == protoTCP:
		return wire.TCP
	case s.proto == protoUDP:
		return wire.UDP
	case s.proto == protoICMP && s.src.Is4(), s.proto == protoICMPv6 && s.src.Is6():
		return wire.ICMP
	}
	return wire.Any
}

// grant looks for what lets s open a flow now.
func (m *model) grant(s spec, byUs bool) (best *wire.Grant) {
	from, other, proto := us, s.dst, ruleProto(s)
	if !byUs {
		other = s.src
	}
	p, ok := m.peer(other)
	if !ok {
		return nil
	}
	to := p.ID
	if !byUs {
		from, to = to, from
	}
	for i := range p.Grants {
		g := &p.Grants[i]
		fits := g.Proto == wire.Any || g.Proto == proto && (proto == wire.ICMP || g.Ports.Contains(s.dport))
		if g.From == from && g.To == to && g.ActiveAt(m.now) && fits &&
			(best == nil || g.Policy < best.Policy || g.Policy == best.Policy && g.Rule < best.Rule) {
			best = g
		}
	}
	return best
}

func isReply(s spec) bool {
	return ruleProto(s) == wire.ICMP && (s.typ == 0 || s.typ == 129)
}

// belongs reports whether s, sent by us or not, is part of f.
func (f *modelFlow) belongs(s spec, ours bool) bool {
	if s.proto != f.first.proto {
		return false
	}
	if ours != f.byUs {
		s = s.reversed()
	}
	if s.src != f.first.src || s.dst != f.first.dst || s.sport != f.first.sport {
		return false
	}
	if ruleProto(s) == wire.ICMP {
		return isReply(s) == (ours != f.byUs)
	}
	return s.dport == f.first.dport
}

func (f *modelFlow) life() time.Duration {
	return map[string]time.Duration{
		"tcp opening": time.Minute, "tcp open": 24 * time.Hour, "tcp half closed": time.Hour, "tcp closing": 30 * time.Second,
		"udp opening": 2 * time.Minute, "udp open": 5 * time.Minute,
		"icmp opening": time.Minute, "icmp open": time.Minute,
		"any opening": 10 * time.Minute, "any open": 10 * time.Minute,
	}[ruleProto(f.first).String()+" "+f.state]
}

func (m *model) silent(f *modelFlow) bool { return !f.dead && m.now.Sub(f.last) >= f.life() }

// find returns the flow of s and forgets it if it was silent.
func (m *model) find(s spec, ours bool) *modelFlow {
	for i, f := range m.flows {
		if f.belongs(s, ours) {
			if m.silent(f) {
				m.flows = slices.Delete(m.flows, i, i+1)
				return nil
			}
			return f
		}
	}
	return nil
}

func (m *model) allowed(f *modelFlow) bool {
	if f.dead {
		return false
	}
	if g := m.grant(f.first, f.byUs); g != nil {
		f.policy, f.rule = g.Policy, g.Rule
		return true
	}
	f.dead = true
	return false
}

func (m *model) addresses(s spec, ours bool) Verdict {
	if ours {
		switch _, ok := m.peer(s.dst); {
		case !slices.Contains(ourAddrs, s.src):
			return Spoofed
		case !ok:
			return UnknownPeer
		}
		return Accept
	}
	switch _, ok := m.peer(s.src); {
	case !ok:
		return Spoofed
	case !slices.Contains(ourAddrs, s.dst):
		return NotForUs
	}
	return Accept
}

func (m *model) judge(s spec, ours bool) (Verdict, *modelFlow) {
	syn := s.proto == protoTCP && s.flags&(tcpSYN|tcpACK) == tcpSYN
	f := m.find(s, ours)
	if f != nil && f.state == "closing" && syn && !f.dead {
		m.flows = slices.DeleteFunc(m.flows, func(g *modelFlow) bool { return f == g })
		f = nil
	}
	if f == nil {
		switch v, g := m.addresses(s, ours), m.grant(s, ours); {
		case v != Accept:
			return v, nil
		case isReply(s), s.proto == protoTCP && !syn:
			return Unsolicited, nil
		case g == nil:
			return NoRule, nil
		}
		f = &modelFlow{first: s, byUs: ours, state: "opening", fin: map[bool]bool{}}
		m.flows = append(m.flows, f)
	}
	if !m.allowed(f) {
		return Expired, f
	}
	answers := ours != f.byUs
	switch {
	case s.proto != protoTCP:
		if answers {
			f.state = "open"
		}
	case syn && answers:
		return BadState, f
	case s.flags&tcpRST != 0:
		f.state = "closing"
	case s.flags&tcpFIN != 0:
		f.fin[ours] = true
		f.spoke = f.spoke || answers
		if f.fin[!ours] {
			f.state = "closing"
		} else if f.state == "open" {
			f.state = "half closed"
		}
	default:
		f.spoke = f.spoke || answers
		if f.state == "opening" && !answers && !syn && f.spoke {
			f.state = "open"
		}
	}
	f.last = m.now
	return Accept, f
}

func (m *model) about(s, quoted spec, ours bool) Verdict {
	if v := m.addresses(s, ours); v != Accept {
		return v
	}
	far := s.src
	if ours {
		far = s.dst
	}
	p, _ := m.peer(far)
	f := m.find(quoted, !ours)
	if f == nil {
		return Unsolicited
	}
	remote := f.first.src
	if f.byUs {
		remote = f.first.dst
	}
	if !slices.Contains(p.Addrs, remote) {
		return Unsolicited
	}
	if !m.allowed(f) {
		return Expired
	}
	return Accept
}

func (m *model) first(s spec, ours bool, name string, end int) Verdict {
	v, f := m.judge(s, ours)
	if v == Accept {
		for _, p := range m.pieces {
			if p.name == name && p.flow == f {
				end = max(end, p.end)
			}
		}
		m.pieces = slices.DeleteFunc(m.pieces, func(p modelPiece) bool { return p.name == name })
		m.pieces = append(m.pieces, modelPiece{name, f, end, m.now.Add(10 * time.Second)})
	}
	return v
}

func (m *model) later(s spec, ours bool, name string, off int) Verdict {
	if v := m.addresses(s, ours); v != Accept {
		return v
	}
	for i, p := range m.pieces {
		switch {
		case p.name != name || !m.now.Before(p.until):
		case !slices.Contains(m.flows, p.flow) || m.silent(p.flow):
			return FragmentOrphan
		case off < p.end:
			m.pieces = slices.Delete(m.pieces, i, i+1)
			return BadFragment
		case !m.allowed(p.flow):
			return Expired
		default:
			p.flow.last = m.now
			return Accept
		}
	}
	return FragmentOrphan
}

// recheck cuts what is no longer allowed.
func (m *model) recheck(cause string) (cuts []string) {
	m.flows = slices.DeleteFunc(m.flows, func(f *modelFlow) bool {
		if m.silent(f) || m.allowed(f) {
			return false
		}
		cuts = append(cuts, f.String()+" "+cause)
		return true
	})
	return cuts
}

func (m *model) update(peers []Peer, cause string) []string {
	cuts := m.recheck(CauseExpired)
	m.peers = peers
	return append(cuts, m.recheck(cause)...)
}

func (m *model) expire() []string {
	cuts := m.recheck(CauseExpired)
	m.flows = slices.DeleteFunc(m.flows, func(f *modelFlow) bool {
		if m.silent(f) && f.first.proto == protoTCP && (f.state == "open" || f.state == "half closed") {
			cuts = append(cuts, f.String()+" "+CauseIdle)
		}
		return m.silent(f)
	})
	return cuts
}

func (f *modelFlow) String() string {
	w := wire.Flow{Proto: ruleProto(f.first), Src: netip.AddrPortFrom(f.first.src, f.first.sport), Dst: netip.AddrPortFrom(f.first.dst, f.first.dport)}
	if w.Proto == wire.ICMP {
		w.Src = netip.AddrPortFrom(f.first.src, 0)
	}
	return fmt.Sprintf("%v by us %v, %s/%d", w, f.byUs, f.policy, f.rule)
}

func (m *model) live() (all []string) {
	for _, f := range m.flows {
		if !f.dead && !m.silent(f) {
			all = append(all, f.String()+" "+f.state)
		}
	}
	return all
}
