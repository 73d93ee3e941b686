package filter

import (
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"enclave/wire"
)

// DefaultMaxFlows bounds a table whose Config does not: about 16 MB when full.
const DefaultMaxFlows = 65536

// Peer is a system that policy introduces to this one.
type Peer struct {
	ID    wire.SystemID
	Addrs []netip.Addr // its overlay addresses; one that another peer or Self has is ignored

	// Grants between it and Self, both directions. Others in the list are ignored.
	// They must not be changed afterwards.
	Grants []wire.Grant
}

// Config says whose filter it is. The table is made anew when Addrs change, since
// no flow outlives the addresses of its local end.
type Config struct {
	Self     wire.SystemID
	Addrs    []netip.Addr // our overlay addresses
	MaxFlows int          // most live flows; zero means DefaultMaxFlows
}

// Table is the state of one system's filter. Its methods may be called from any
// goroutine. It starts without peers: everything is dropped.
type Table struct {
	self wire.SystemID
	ours []addr
	max  int

	// update is held by Update alone, around mu: rules are compared and compiled
	// under it while packets still pass by the old ones.
	update sync.Mutex

	// mu guards what follows. It is held for a few packets, about a microsecond, or
	// for one pass over the flows when rules change; never across anything that can
	// block. Parsing is done before it is taken.
	mu     sync.Mutex
	base   time.Time // the first instant seen; the table's own clock counts from it
	clock  clock
	byAddr map[addr]*peer
	byID   map[wire.SystemID]*peer // written with update held too
	gates  []*peer                 // those that grant us what lies behind them, sorted by ID
	health map[wire.SystemID]Health
	gens   uint32

	// No rule begins or ends in [edgeFrom, edgeUntil).
	edgeFrom, edgeUntil int64
	stale               bool // some flow's rule has not been looked up since its peer's rules changed

	flows   index
	list    []*flow // all flows, for sampling and for passes over them
	spare   []*flow // ended flows, to be used again
	serials uint64
	holders int    // peers with at least one flow
	hand    uint64 // where the last search for a victim looked
	idle    idleQueue

	frags    fragments
	denials  denials
	counters counters
	answers  [2]bucket
}

// clock is one instant on two clocks: rules follow the wall clock, but not back
// (SetClock does), silence the table's own, which does not jump when the wall clock is set.
type clock struct {
	wall int64 // nanoseconds since 1970
	own  int64 // nanoseconds since base, never backwards
}

// peer is what the table keeps of a Peer. It lives as long as the peer is known,
// across updates.
type peer struct {
	gen         uint32 // changes with every change of rules or addrs
	from, until int64  // the compiled rules hold in [from, until)
	count       PeerStats

	id     wire.SystemID
	addrs  []addr
	outer  netip.Addr   // where packets for behind it are sent; not valid without an IPv4 address
	grants []wire.Grant // as given, to see what an update changes
	rules  [2]*rules    // by the direction of a flow's first packet
	flows  int
	frags  int // entries in the table of fragments
}

// New returns a table that knows no peer.
func New(cfg Config) *Table {
	t := &Table{
		self:      cfg.Self,
		max:       cfg.MaxFlows,
		byAddr:    map[addr]*peer{},
		byID:      map[wire.SystemID]*peer{},
		flows:     newIndex(),
		edgeFrom:  math.MinInt64,
		edgeUntil: math.MaxInt64,
	}
	if t.max <= 0 {
		t.max = DefaultMaxFlows
	}
	for _, a := range cfg.Addrs {
		if a, ok := unicast(a); ok {
			t.ours = append(t.ours, a)
		}
	}
	return t
}

// unicast returns the form in which packets are compared with a, and whether a is
// an address that one system can have.
func unicast(a netip.Addr) (addr, bool) {
	ok := a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback()
	if !ok {
		return addr{}, false
	}
	return a.As16(), true
}

// In judges a packet that a peer sent, after decryption. WireGuard has checked
// that its source is an address of the peer whose key it came under.
func (t *Table) In(pkt []byte, now time.Time) Verdict { return t.pass(pkt, inbound, now) }

// Out judges a packet of the local stack, before encryption.
func (t *Table) Out(pkt []byte, now time.Time) Verdict { return t.pass(pkt, outbound, now) }

func (t *Table) pass(pkt []byte, d direction, now time.Time) Verdict {
	var p packet
	v := p.parse(pkt)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tick(now)
	if v == Accept {
		v = t.judge(&p, d, new(run))
	}
	t.counters.verdicts[d][v]++
	return v
}

// tick moves the clocks to now. Callers race, so now may lie a little back.
func (t *Table) tick(now time.Time) {
	if t.base.IsZero() {
		t.base = now
	}
	own := max(t.clock.own, int64(now.Sub(t.base)))
	t.clock = clock{wall: max(now.UnixNano(), t.clock.wall+own-t.clock.own), own: own}
}

// SetClock makes wall the time for rules at now, also where that is earlier than the table
// went by so far: without it what has ended stays ended, wherever the wall clock is set.
func (t *Table) SetClock(wall, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tick(now) // wall counts from here, and not from the last packet
	t.clock.wall = wall.UnixNano()
}

// Time is what grants are judged by at now: the wall clock, or later where that was set back.
func (t *Table) Time(now time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tick(now)
	return time.Unix(0, t.clock.wall)
}

// judge finds the flow of a packet, or lets it open one. A live flow implies known
// addresses, so the common case is one lookup.
func (t *Table) judge(p *packet, d direction, last *run) Verdict {
	if p.fragOff > 0 {
		return t.laterFragment(p, d)
	}
	if p.kind == kindError {
		return t.aboutFlow(p, d)
	}
	k := p.key(d)
	f := last.live(t, &k)
	if f != nil && (f.beyond || p.wrapped) {
		if v := t.across(p, d, f); v != Accept {
			return t.deny(f.peer, p, d, v)
		}
		if t.lost(p, d, f) {
			t.remove(f)
			f = nil
		}
	}
	if f != nil && f.state == closing && !f.dead && p.opensTCP() {
		t.remove(f) // its endpoints are done with it: the ports are free again
		f = nil
	}
	if f == nil {
		var v Verdict
		if f, v = t.open(p, k, d); v != Accept {
			return v
		}
	}
	was := f.state
	switch {
	case !t.allowed(f):
		return t.deny(f.peer, p, d, Expired)
	case !f.track(p, d):
		return t.deny(f.peer, p, d, BadState)
	}
	t.account(f, p, d)
	t.wrap(f, p, d)
	if p.fragmented {
		t.frags.first(f, p, t.clock.own)
	}
	if f.state != was && f.last+f.idle() < f.due {
		t.idle.earlier(f, f.last+f.idle())
	}
	return Accept
}

// live returns the flow under k, unless it has been silent for too long.
func (t *Table) live(k key) *flow {
	f := t.flows.find(&k)
	if f != nil && t.silent(f) {
		t.remove(f)
		t.counters.idle++
		return nil
	}
	return f
}

// silent reports whether f ended in silence. A dead one did not: it was cut.
func (t *Table) silent(f *flow) bool { return !f.dead && t.clock.own >= f.last+f.idle() }

// account notes that a packet of f passed.
func (t *Table) account(f *flow, p *packet, d direction) {
	if p.kind != kindError { // an error keeps nothing alive
		f.last = t.clock.own
	}
	f.packets[d]++
	f.bytes[d] += uint64(p.size)
	f.peer.count.Packets[d]++
	f.peer.count.Bytes[d] += uint64(p.size)
}

// allowed reports whether some rule lets f be opened now, and keeps the rule that
// does. A flow found without one is dead for good.
func (t *Table) allowed(f *flow) bool {
	if f.dead {
		return false
	}
	p := f.peer
	t.refresh(p)
	if f.gen == p.gen {
		return true
	}
	r, known := (*rule)(nil), false
	if f.beyond {
		r, known = t.behind(f)
	} else {
		r, known = p.rules[f.opener].lookup(f.proto, f.port()), t.byAddr[f.key.remote] == p
	}
	if r == nil || !known {
		f.dead, t.stale = true, true
		return false
	}
	f.rule, f.gen = r, p.gen
	return true
}

// refresh compiles the rules of p again when the wall clock has left the instants
// for which they were compiled, in either direction.
func (t *Table) refresh(p *peer) {
	if wall := t.clock.wall; wall < p.from || wall >= p.until {
		p.rules[0].compile(wall)
		p.rules[1].compile(wall)
		t.renew(p)
	}
}

// renew marks that the rules or addresses of p have changed.
func (t *Table) renew(p *peer) {
	t.gens++
	p.gen, t.stale = t.gens, true
	p.from = max(p.rules[0].from, p.rules[1].from)
	p.until = min(p.rules[0].until, p.rules[1].until)
	t.edgeFrom, t.edgeUntil = max(t.edgeFrom, p.from), min(t.edgeUntil, p.until)
}

// peerOf checks the addresses of a packet and returns the peer at the other end of the
// tunnel. It is nil, and the packet accepted, when a gateway is still to be chosen.
func (t *Table) peerOf(p *packet, d direction) (*peer, Verdict) {
	if p.wrapped {
		return t.peerAround(p, d)
	}
	return t.peerDirect(&p.tuple, d)
}

func (t *Table) peerDirect(u *tuple, d direction) (*peer, Verdict) {
	local, remote, strange, foreign := u.src, u.dst, UnknownPeer, Spoofed
	if d == inbound {
		local, remote, strange, foreign = u.dst, u.src, Spoofed, NotForUs
	}
	p := t.byAddr[remote]
	switch {
	case p == nil && d == inbound:
		return nil, strange
	case !slices.Contains(t.ours, local):
		return p, foreign
	case p == nil:
		return nil, strange
	}
	return p, Accept
}

// open makes a flow of a packet that may start one.
func (t *Table) open(p *packet, k key, d direction) (*flow, Verdict) {
	from, v := t.peerOf(p, d)
	beyond := p.wrapped
	if v == UnknownPeer && len(t.gates) > 0 {
		from, v = t.choose(p.protocol(), p.dst, p.port(), p.spread())
		beyond = true
	}
	if v != Accept {
		return nil, t.deny(from, p, d, v)
	}
	if p.kind == kindReply || (p.proto == protoTCP && !p.opensTCP()) {
		return nil, t.deny(from, p, d, Unsolicited)
	}
	f := t.blank()
	f.key, f.proto, f.opener, f.peer, f.beyond = k, p.protocol(), d, from, beyond
	t.refresh(from)
	if beyond {
		f.rule, _ = t.behind(f)
	} else {
		f.rule = from.rules[d].lookup(f.proto, f.port())
	}
	if f.rule == nil {
		t.spare = append(t.spare, f)
		return nil, t.deny(from, p, d, NoRule)
	}
	if len(t.list) >= t.max && !t.evictFor(from) {
		t.spare = append(t.spare, f)
		return nil, t.deny(from, p, d, TableFull)
	}
	f.gen, f.last, f.since = from.gen, t.clock.own, t.clock.wall
	t.insert(f)
	return f, Accept
}

func (p *packet) opensTCP() bool {
	return p.proto == protoTCP && p.kind == kindPorts && p.flags&(tcpSYN|tcpACK) == tcpSYN
}

// protocol is the protocol of a rule that the packet can match.
func (u *tuple) protocol() wire.Proto {
	switch {
	case u.kind == kindOpaque:
		return wire.Any
	case u.kind != kindPorts:
		return wire.ICMP
	case u.proto == protoTCP:
		return wire.TCP
	}
	return wire.UDP
}

// aboutFlow judges an ICMP error by the packet it quotes, which travelled the
// other way, in a live flow with the peer that the error comes from or goes to.
func (t *Table) aboutFlow(p *packet, d direction) Verdict {
	f := t.live(p.quote.key(d.reverse()))
	var from *peer
	var v Verdict
	if f != nil && f.beyond { // the error may come from any router on the way there
		if from, v = f.peer, t.across(p, d, f); v == Accept && t.quoted(p, d, f) {
			v = Spoofed
		}
	} else {
		from, v = t.peerOf(p, d)
	}
	switch {
	case v != Accept:
		return t.deny(from, p, d, v)
	case f == nil || f.peer != from:
		return t.deny(from, p, d, Unsolicited)
	case !t.allowed(f):
		return t.deny(from, p, d, Expired)
	}
	t.account(f, p, d)
	t.wrap(f, p, d)
	return Accept
}

// deny records a refusal and returns its reason.
func (t *Table) deny(from *peer, p *packet, d direction, v Verdict) Verdict {
	if from != nil {
		from.count.Dropped[d]++
	}
	t.denials.note(p, d, v, t.clock.wall)
	return v
}

// Refused records, beside the packets, a flow from src to dst that Check has refused
// before it had one.
func (t *Table) Refused(proto wire.Proto, src netip.Addr, dst netip.AddrPort, now time.Time) {
	to, valid := unicast(dst.Addr())
	if !valid || proto != wire.TCP && proto != wire.UDP {
		return
	}
	p := packet{tuple: tuple{src: src.As16(), dst: to, proto: protoTCP, kind: kindPorts, dport: dst.Port()}}
	if proto == wire.UDP {
		p.proto = protoUDP
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tick(now)
	v := NoRule
	if t.byAddr[to] == nil {
		v = UnknownPeer
	}
	t.deny(nil, &p, outbound, v)
}

// Check reports whether a new flow from here to dst would be allowed now, and by
// which rule. The port counts for TCP and UDP only.
func (t *Table) Check(proto wire.Proto, dst netip.AddrPort, now time.Time) (policy wire.PolicyID, index int, ok bool) {
	a, valid := unicast(dst.Addr())
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tick(now)
	p := t.byAddr[a]
	if !valid {
		return "", 0, false
	}
	var r *rule
	if p == nil {
		if p, _ = t.choose(proto, a, dst.Port(), 0); p != nil {
			r = p.rules[outbound].behind(proto, a, dst.Port())
		}
	} else {
		t.refresh(p)
		r = p.rules[outbound].lookup(proto, dst.Port())
	}
	if r == nil {
		return "", 0, false
	}
	return r.Policy, r.Rule, true
}
