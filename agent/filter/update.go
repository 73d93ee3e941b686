package filter

import (
	"slices"
	"strings"
	"time"

	"enclave/wire"
)

// Causes of the cuts that no update asked for.
const (
	CauseExpired = "the last rule that allowed it has ended"
	CauseIdle    = "silent for too long"
)

// Cut is a flow that was ended, and the packets that tell its endpoints. They go
// straight to the local stack and to the peer, not through Out again, and the local
// ones before any packet that In accepts afterwards.
type Cut struct {
	Flow    wire.Flow // with the rule that had allowed it
	Name    string    // of the policy, as its grant said
	Peer    wire.SystemID
	Inbound bool // the peer had opened it
	Beyond  bool // one end lies behind a gateway
	Cause   string
	By      *wire.Grant // that allowed it last, when it ended by its clock; read only
	Local   [][]byte    // for the local stack
	Remote  [][]byte    // for the peer; of use only while its key is still known
}

// change is what an update does to one peer.
type change struct {
	id     wire.SystemID
	addrs  []addr
	grants []wire.Grant
	rules  [2]*rules // nil when the grants are the old ones
}

// Update replaces the peers and their grants. Every established flow is looked up
// again: one that some grant still allows stays, with that grant's policy and rule;
// the others end for the given cause, and from then on none of their packets pass.
func (t *Table) Update(peers []Peer, cause string, now time.Time) []Cut {
	t.update.Lock()
	defer t.update.Unlock()
	changes, byAddr := t.plan(peers, now)

	t.mu.Lock()
	defer t.mu.Unlock()
	t.tick(now)
	t.refreshAll()
	cuts := t.recheck(CauseExpired) // what ended by itself is not laid to the update
	t.replace(changes, byAddr)
	return append(cuts, t.recheck(cause)...)
}

// plan prepares an update while packets still pass by the old rules. Reading byID
// without mu is sound: only Update writes it.
func (t *Table) plan(peers []Peer, now time.Time) ([]change, map[addr]wire.SystemID) {
	changes, byAddr := make([]change, 0, len(peers)), make(map[addr]wire.SystemID, 2*len(peers))
	seen := make(map[wire.SystemID]bool, len(peers))
	for _, p := range peers {
		if p.ID == t.self || seen[p.ID] {
			continue // a map that lists a system twice, or as its own peer, adds nothing by it
		}
		seen[p.ID] = true
		c := change{id: p.ID, grants: p.Grants}
		for _, a := range p.Addrs {
			a, ok := unicast(a)
			if _, taken := byAddr[a]; ok && !taken && !slices.Contains(t.ours, a) {
				byAddr[a] = p.ID
				c.addrs = append(c.addrs, a)
			}
		}
		if old := t.byID[p.ID]; old == nil || !slices.EqualFunc(old.grants, p.Grants, sameGrant) {
			c.grants = slices.Clone(p.Grants)
			c.rules[outbound] = newRules(c.grants, t.self, p.ID)
			c.rules[inbound] = newRules(c.grants, p.ID, t.self)
			for _, r := range c.rules {
				r.compile(now.UnixNano())
			}
		}
		changes = append(changes, c)
	}
	return changes, byAddr
}

func sameGrant(a, b wire.Grant) bool {
	return a.From == b.From && a.To == b.To && a.Proto == b.Proto && a.Policy == b.Policy && a.Rule == b.Rule &&
		a.NotBefore.Equal(b.NotBefore) && a.NotAfter.Equal(b.NotAfter) &&
		(a.Ports == nil) == (b.Ports == nil) && slices.Equal(a.Ports, b.Ports) &&
		(a.Subnets == nil) == (b.Subnets == nil) && slices.Equal(a.Subnets, b.Subnets) &&
		a.Priority == b.Priority && a.Order == b.Order && a.Name == b.Name && a.Ends == b.Ends
}

// replace puts a plan into effect. Peers that stay keep their counters, and their
// flows are looked up again only if something changed for them.
func (t *Table) replace(changes []change, byAddr map[addr]wire.SystemID) {
	old := t.byID
	t.byID = make(map[wire.SystemID]*peer, len(changes))
	for _, c := range changes {
		p := old[c.id]
		delete(old, c.id)
		if p == nil {
			p = &peer{id: c.id}
		}
		t.byID[c.id] = p
		moved := !slices.Equal(p.addrs, c.addrs)
		p.addrs, p.outer = c.addrs, outer(c.addrs)
		if c.rules[0] != nil {
			p.grants, p.rules = c.grants, c.rules
		}
		if moved || c.rules[0] != nil {
			t.renew(p)
		}
	}
	t.byAddr = make(map[addr]*peer, len(byAddr))
	for a, id := range byAddr {
		t.byAddr[a] = t.byID[id]
	}
	t.gates = t.gates[:0:0]
	for _, c := range changes {
		if p := t.byID[c.id]; len(p.rules[outbound].beyond) > 0 && p.outer.IsValid() {
			t.gates = append(t.gates, p)
		}
	}
	slices.SortFunc(t.gates, func(a, b *peer) int { return strings.Compare(string(a.id), string(b.id)) })
	for _, p := range old { // gone: no address leads to them, so none of their flows is allowed
		t.renew(p)
	}
	t.edges()
}

// refreshAll compiles the rules of every peer that has passed an edge.
func (t *Table) refreshAll() {
	if wall := t.clock.wall; wall < t.edgeFrom || wall >= t.edgeUntil {
		for _, p := range t.byID {
			t.refresh(p)
		}
		t.edges()
	}
}

// edges finds the instants between which no peer's rules change.
func (t *Table) edges() {
	var none rules
	none.compile(0)
	t.edgeFrom, t.edgeUntil = none.from, none.until
	for _, p := range t.byID {
		t.edgeFrom, t.edgeUntil = max(t.edgeFrom, p.from), min(t.edgeUntil, p.until)
	}
}

// recheck looks every flow up again whose peer changed, and cuts those that no
// rule allows.
func (t *Table) recheck(cause string) (cuts []Cut) {
	if !t.stale {
		return nil
	}
	t.stale = false
	for i := len(t.list) - 1; i >= 0; i-- { // remove moves the last one down
		f := t.list[i]
		if !t.silent(f) && !t.allowed(f) {
			cuts = append(cuts, t.cut(f, cause))
		}
	}
	t.stale = false
	return cuts
}

// cut ends f.
func (t *Table) cut(f *flow, cause string) Cut {
	c := Cut{Flow: f.names(), Name: f.rule.Name, Peer: f.peer.id, Inbound: f.opener == inbound, Cause: cause}
	c.Local, c.Remote = f.farewell(outbound), f.farewell(inbound)
	c.Beyond = f.beyond
	if cause == CauseExpired && f.rule.until <= t.clock.wall {
		c.By = &f.rule.Grant
	}
	if f.beyond {
		t.wrapAll(c.Remote, f.peer.outer)
	}
	t.remove(f)
	t.counters.cut++
	return c
}

// idleStep is the least time between two looks at silent flows. A packet finds a
// silent flow ended at its exact time anyway; this only frees memory.
const idleStep = int64(time.Second)

// Expire ends what ends by itself: flows whose last rule has ended, and TCP
// connections that were silent for too long, whose endpoints are told as well.
// Other silent flows are forgotten without a word. It returns when to call it
// again; zero means that nothing is pending until the next packet or update.
func (t *Table) Expire(now time.Time) (cuts []Cut, next time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tick(now)
	t.refreshAll()
	cuts = t.recheck(CauseExpired)
	for len(t.idle) > 0 && t.idle[0].due <= t.clock.own {
		switch f := t.idle[0]; {
		case f.last+f.idle() > t.clock.own:
			t.idle.later(f, f.last+f.idle())
		case f.proto == wire.TCP && (f.state == open || f.state == halfClosed):
			cuts = append(cuts, t.cut(f, CauseIdle))
		default:
			t.remove(f)
			t.counters.idle++
		}
	}
	return cuts, t.next()
}

// next returns the next instant at which Expire has something to do, by the table's time
// and not by the wall clock, which may lie behind it.
func (t *Table) next() (next time.Time) {
	var none rules
	none.compile(0)
	if t.edgeUntil != none.until {
		next = time.Unix(0, t.edgeUntil)
	}
	if len(t.idle) > 0 {
		silent := time.Unix(0, t.clock.wall+max(t.idle[0].due-t.clock.own, idleStep))
		if next.IsZero() || silent.Before(next) {
			next = silent
		}
	}
	return next
}
