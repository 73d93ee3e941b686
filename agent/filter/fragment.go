package filter

import "time"

const (
	maxFragments     = 1024 // datagrams in pieces that are remembered at once
	fragmentsPerPeer = 128  // of them with one peer at the other end
	// fragmentLife is how long the rest of a datagram may take. Its pieces leave
	// together; the stack's own reassembly waits longer, in vain.
	fragmentLife = int64(10 * time.Second)
)

// fragmentKey names a datagram: RFC 791 counts the protocol in, RFC 8200 does not.
type fragmentKey struct {
	src, dst addr
	id       uint32
	proto    uint32
}

func (p *packet) fragmentKey() fragmentKey {
	k := fragmentKey{src: p.src, dst: p.dst, id: p.fragID}
	if isMapped(p.src) {
		k.proto = uint32(p.proto)
	}
	return k
}

// fragment remembers the flow that the first piece of a datagram was accepted in.
type fragment struct {
	key        fragmentKey
	flow       *flow
	serial     uint64 // of flow
	peer       *peer
	end        uint32 // where the first piece ends; no other may reach below
	until      int64
	prev, next *fragment // from the oldest to the youngest
}

// fragments is the bounded memory of datagrams in pieces, in order of age.
type fragments struct {
	by    map[fragmentKey]*fragment
	root  fragment // root.next is the oldest
	spare *fragment
}

// first notes an accepted first piece. A second one with the same identification
// takes over: it has been judged by itself, and identifications wrap.
func (s *fragments) first(f *flow, p *packet, now int64) {
	if s.by == nil {
		s.by = make(map[fragmentKey]*fragment)
		s.root.prev, s.root.next = &s.root, &s.root
	}
	k, end := p.fragmentKey(), p.fragLen
	if old := s.by[k]; old != nil {
		if old.flow == f && old.serial == f.serial {
			end = max(end, old.end)
		}
		s.drop(old)
	}
	s.makeRoom(f.peer, now)
	e := s.spare
	if e == nil {
		e = &fragment{}
	} else {
		s.spare = e.next
	}
	*e = fragment{key: k, flow: f, serial: f.serial, peer: f.peer, end: end, until: now + fragmentLife}
	e.prev, e.next = s.root.prev, &s.root
	e.prev.next, s.root.prev = e, e
	s.by[k] = e
	f.peer.frags++
}

// makeRoom drops what is too old, then the oldest of p if it has its fill, then
// the oldest of all.
func (s *fragments) makeRoom(p *peer, now int64) {
	for e := s.root.next; e != &s.root && now >= e.until; e = s.root.next {
		s.drop(e)
	}
	if p.frags >= fragmentsPerPeer {
		e := s.root.next
		for e.peer != p {
			e = e.next
		}
		s.drop(e)
	} else if len(s.by) >= maxFragments {
		s.drop(s.root.next)
	}
}

func (s *fragments) drop(e *fragment) {
	delete(s.by, e.key)
	e.prev.next, e.next.prev = e.next, e.prev
	e.peer.frags--
	*e = fragment{next: s.spare}
	s.spare = e
}

// laterFragment lets a piece follow its first.
func (t *Table) laterFragment(p *packet, d direction) Verdict {
	e := t.frags.by[p.fragmentKey()]
	var from *peer
	var v Verdict
	if e != nil && e.flow.serial == e.serial && e.flow.beyond {
		from, v = e.flow.peer, t.across(p, d, e.flow)
	} else {
		from, v = t.peerOf(p, d)
	}
	switch {
	case v != Accept:
		return t.deny(from, p, d, v)
	case e == nil || t.clock.own >= e.until || e.flow.serial != e.serial || t.live(e.flow.key) != e.flow:
		return t.deny(from, p, d, FragmentOrphan)
	case p.fragOff < e.end: // would write over the header that was judged (RFC 1858)
		t.frags.drop(e)
		return t.deny(from, p, d, BadFragment)
	case !t.allowed(e.flow):
		return t.deny(from, p, d, Expired)
	}
	t.account(e.flow, p, d)
	t.wrap(e.flow, p, d)
	return Accept
}
