package control

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"enclave/control/admin"
	"enclave/control/discovery"
	"enclave/control/policy"
	"enclave/store"
	"enclave/wire"
)

// hub is the state of the server in memory: what the store says, compiled, and who is
// connected. It is guarded by one mutex rather than owned by a loop, because streams
// ask it often and briefly, and each question is answered from memory alone
// (docs/decisions/0082).
type hub struct {
	store   *store.Store
	clock   *store.Clock // what begins and ends by the time does so by this one
	log     *slog.Logger
	org     wire.OrgID
	zone    string
	mapLife time.Duration
	tickets *tickets
	notary  notary

	countries *policy.Countries // of addresses; nil knows none

	// turn is held by whoever changes the store and, with it, the hub: a token in a
	// channel instead of a mutex, since it is held across disk writes and waiting for
	// it must end with the caller's context. Taken before mu, never after.
	turn chan struct{}
	kick chan struct{} // capacity 1: tells the timer loop to look again

	mu       sync.Mutex // guards what follows; never held across I/O or a send that can block
	engine   *policy.Engine
	touched  *policy.Touched // what the engine has changed since follow
	nodes    map[wire.SystemID]*node
	named    map[string][]wire.SystemID // the systems of each name
	late     map[*node]bool             // connected, and behind what was changed
	expiries agenda[expiring]           // actions that have not run
	lapses   agenda[wire.SystemID]      // when an ephemeral system has been away for its retention
	relays   []wire.Relay               // replaced whole
	policies map[wire.PolicyID]*stored  // every stored one, also those the engine refused
	trust    map[wire.Tag][]string      // requirements of tags, as the engine has them
	rules    store.Rules                // what else the policy set says
	dns      dns                        // zones and records, and what they come to
	refused  []refusal                  // to be reported
	crowded  map[pairKey]int            // pairs with more grants than a map carries, and how many
	asks     map[string]*ask            // open questions to agents
	advanced time.Time                  // the last instant that the engine was told by the timer

	clockBehind time.Time // since when, as the log was told; zero while it is not
	crowdedSaid int       // how many pairs were crowded when the log was told last
	revision    wire.Revision
	revisedAt   time.Time
	behind      admin.Touched // what a failed reload still owes
	stopping    bool
	stopped     chan struct{} // closed when stopping is set
	news        chan struct{} // closed and replaced when a waiter may have its answer
}

// node is a system as the hub knows it.
type node struct {
	sys    store.System
	entry  *discovery.System // what peers are told; never changed, only replaced
	stream *stream           // nil while not connected
	needs  wire.Revision     // last revision that concerned it
	acked  wire.Revision     // revision it has acknowledged
	held   wire.Revision     // up to which its map was right when it was last connected
	barred bool              // it was revoked while it was connected, and told so
	seen   time.Time         // last heard

	names    []string       // that it answers to
	unnamed  int            // how many more a map has no room for
	forwards []wire.Forward // zones it leads to as a gateway

	judged map[string]time.Time // requirements it meets and until when, as the engine has them

	records int // that a run has had made
}

func newHub(st *store.Store, log *slog.Logger, org *store.Org, tickets *tickets) *hub {
	h := &hub{
		store: st, clock: clockOf(st), log: log, org: org.ID, zone: org.Settings.Zone, mapLife: org.Settings.MapLife, tickets: tickets,
		turn: make(chan struct{}, 1), kick: make(chan struct{}, 1),
		engine: policy.New(), nodes: make(map[wire.SystemID]*node),
		named: make(map[string][]wire.SystemID), late: make(map[*node]bool), policies: make(map[wire.PolicyID]*stored), asks: make(map[string]*ask), crowded: make(map[pairKey]int),
		revision: org.Revision, news: make(chan struct{}), stopped: make(chan struct{}),
	}
	h.dns = newDNS(store.DNS{Base: h.zone})
	h.engine.SetOverlay(org.IPv4, org.IPv6)
	h.harvest()
	return h
}

// clockOf is the clock of a store, and for a hub without one, of a test, a clock of its own.
func clockOf(st *store.Store) *store.Clock {
	if st == nil {
		return new(store.Clock)
	}
	return st.Clock()
}

// take waits for the turn; the caller gives it back.
func (h *hub) take(ctx context.Context) error {
	select {
	case h.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *hub) give() { <-h.turn }

// announce wakes everybody who waits for systems to follow; mu is held.
func (h *hub) announce() {
	close(h.news)
	h.news = make(chan struct{})
}

func (h *hub) validUntil(now time.Time) time.Time {
	if h.mapLife == 0 {
		return time.Time{}
	}
	return now.Add(h.mapLife)
}

// horizon is how far ahead grants reach: so far that every edge within the validity of
// the map is in it although heartbeats extend that validity until the next rebuild.
func (h *hub) horizon(now time.Time) time.Time { return now.Add(2 * h.life()) }

func (h *hub) life() time.Duration {
	if h.mapLife == 0 {
		return maxTicketLife
	}
	return h.mapLife
}

// derive is how many pairs are derived before others get their turn with the hub.
const derive = 512

// view returns what the map of a stream's system is made of now, or why the stream has
// to end: all of it if that is asked for or owed, and else the peers that may differ
// from what was sent. Grants reach to horizon, or to a new one with all of it.
func (h *hub) view(st *stream, now, horizon time.Time, all bool) (v discovery.View, cause string, _ *wire.Bye) {
	h.mu.Lock()
	h.advanceHeld(now) // before anybody sees what the clock has ended, it is said why
	n := h.nodes[st.id]
	switch {
	case n == nil || n.sys.Revoked:
		h.mu.Unlock()
		return v, "", &wire.Bye{Code: wire.ByeRevoked, Message: "this identity has been removed or revoked"}
	case n.stream != st:
		h.mu.Unlock()
		return v, "", &wire.Bye{Code: wire.ByeReplaced, Message: "this system connected again"}
	}
	cause, st.causes = joinCauses(st.causes), nil
	owed := st.owed
	st.owed = debt{}
	self := *n.entry
	self.State = n.sys.State(now)
	v = discovery.View{
		Revision: h.revision, ValidUntil: h.validUntil(now), Org: h.org, Zone: h.zone,
		Self: &self, Relays: h.relays, Zones: h.dns.table.Ours,
	}
	counted := st.counted
	st.counted = self.Counts()
	v.Part = !all && !owed.all && counted == st.counted // who begins to count, or ceases, knows all others or none
	introduce := func(peer wire.SystemID, grants []wire.Grant) {
		if h.tooMany(st.id, peer, len(grants)) {
			return
		}
		if p := h.nodes[peer]; p != nil && len(grants) > 0 {
			v.Introduced = append(v.Introduced, discovery.Introduction{Peer: p.entry, Grants: grants})
		}
	}
	if !v.Part {
		maps.DeleteFunc(h.crowded, func(p pairKey, _ int) bool { return p[0] == st.id || p[1] == st.id })
		for _, pair := range h.engine.Pairs(st.id, now, h.horizon(now)) {
			introduce(pair.Peer, pair.Grants)
		}
	}
	h.mu.Unlock()
	if !v.Part {
		return v, cause, nil
	}
	// Whatever changes from here on is owed again: the stream looks at it once more.
	v.Of = owed.of(st.id)
	for peers := range slices.Chunk(v.Of, derive) {
		h.mu.Lock()
		for _, peer := range peers {
			introduce(peer, h.engine.Between(st.id, peer, now, horizon))
		}
		h.mu.Unlock()
	}
	return v, cause, nil
}

// sent notes that the map of revision sent, as the stream has it, is right up to good.
func (h *hub) sent(st *stream, sent, good wire.Revision) {
	h.mu.Lock()
	defer h.mu.Unlock()
	st.sent, st.good = sent, max(st.good, good)
	h.settle(h.nodes[st.id])
	h.announce()
}

// known returns the system behind a verified identity, false for one that is gone,
// revoked, or has another key than the store says.
func (h *hub) known(id wire.SystemID, key wire.IdentityKey) (store.System, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.nodes[id]
	if n == nil || n.sys.Revoked || n.sys.Keys.Identity != key {
		return store.System{}, false
	}
	return n.sys, true
}

// connect makes st the stream of its system; an older one is told so and ends.
func (h *hub) connect(ctx context.Context, st *stream) error {
	if err := h.take(ctx); err != nil {
		return err
	}
	defer h.give()
	if err := h.store.SetConnected(ctx, st.id, st.at, st.from); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.nodes[st.id]
	if n == nil {
		return store.ErrNotFound
	}
	if n.stream != nil {
		n.stream.end(wire.Bye{Code: wire.ByeReplaced, Message: "this system connected again, from " + st.from})
	}
	if h.stopping {
		st.end(goingDown())
	}
	h.join(n, st)
	return nil
}

// join is connect in memory; mu is held.
func (h *hub) join(n *node, st *stream) {
	n.stream, n.needs, n.seen = st, h.revision, st.at
	n.sys.Live.Online, n.sys.Live.ConnectedAt, n.sys.Live.SeenFrom = true, st.at, st.from
	n.refresh(st.at)
	h.schedule(n)
	h.settle(n)
	h.advanceHeld(st.at) // what the clock has ended has a cause of its own
	h.follow(h.judge(n, st.at), "where "+string(st.id)+" connects from")
	h.announce()
}

// disconnect ends st, unless a newer stream has taken its place. It keeps what was
// heard: while a system is connected that stands in memory only.
func (h *hub) disconnect(ctx context.Context, st *stream, now time.Time) error {
	if err := h.take(ctx); err != nil {
		return err
	}
	defer h.give()
	h.mu.Lock()
	n := h.nodes[st.id]
	if n == nil || n.stream != st {
		h.mu.Unlock()
		return nil
	}
	h.leave(n, now)
	acked := n.held
	h.mu.Unlock()

	h.look() // an ephemeral system's time starts now
	if err := h.store.SetSeen(ctx, st.id, now, acked); err != nil {
		return err
	}
	return h.store.SetDisconnected(ctx, st.id, now)
}

// leave is disconnect in memory; mu is held.
func (h *hub) leave(n *node, now time.Time) {
	if n.held = n.acked; n.acked >= n.stream.sent {
		n.held = max(n.acked, n.stream.good)
	}
	n.stream, n.seen = nil, now
	n.sys.Live.Online, n.sys.Live.DisconnectedAt = false, now
	n.refresh(now)
	h.schedule(n)
	h.settle(n)
	h.advanceHeld(now)
	h.follow(h.judge(n, now), "")
	h.announce()
}

// look tells the timer loop that there may be an earlier edge than it knows.
func (h *hub) look() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

func goingDown() wire.Bye {
	return wire.Bye{Code: wire.ByeRestart, Message: "the server goes down; reconnect with back-off"}
}

// stop ends every stream, now and to come.
func (h *hub) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.stopping {
		h.stopping = true
		close(h.stopped)
	}
	for _, n := range h.nodes {
		if n.stream != nil {
			n.stream.end(goingDown())
		}
	}
	h.announce()
}

// heard takes a report in. It returns whether the reach is news.
func (h *hub) heard(id wire.SystemID, r *wire.Report, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.nodes[id]
	if n == nil {
		return false
	}
	n.acked, n.seen = max(n.acked, min(r.Applied, h.revision)), now
	h.settle(n)
	h.announce()
	if r.Reach == nil || discovery.EqualReach(r.Reach, &n.sys.Live.Reach) {
		return false
	}
	n.sys.Live.Reach = *r.Reach
	n.refresh(now)
	h.show(id, h.engine.Peers(id, now), "")
	return true
}

// harvest returns what the engine has changed since it was called last; mu is held.
func (h *hub) harvest() *policy.Touched {
	t := h.touched
	h.touched = new(policy.Touched)
	h.engine.Record(h.touched)
	return t
}

// follow lets the streams of systems whose pairs may differ look at those, and tells
// why. It is called after everything that changes the engine; mu is held.
func (h *hub) follow(ids []wire.SystemID, cause string) (connected int) {
	t := h.touched
	if !t.Empty() {
		h.harvest()
	}
	for _, id := range ids {
		if n := h.nodes[id]; n != nil && n.stream != nil {
			if !t.Empty() {
				n.stream.owed.change(t)
			}
			n.stream.because(cause)
			n.stream.poke()
			connected++
		}
	}
	return connected
}

// show lets the streams of peers look at the entry of a system; mu is held.
func (h *hub) show(id wire.SystemID, peers []wire.SystemID, cause string) {
	for _, peer := range peers {
		if n := h.nodes[peer]; n != nil && n.stream != nil {
			n.stream.owed.peer(id)
			n.stream.because(cause)
			n.stream.poke()
		}
	}
}

// refresh rebuilds the entry after sys has changed.
func (n *node) refresh(now time.Time) {
	s := &n.sys
	n.entry = &discovery.System{
		ID: s.ID, Name: s.Name, IPv4: s.IPv4, IPv6: s.IPv6, State: s.State(now), Tags: slices.Clone(s.Tags),
		WireGuard: s.Keys.WireGuard, Disco: s.Keys.Disco, KeySignature: s.Keys.Signature,
		SVID: s.SVID, Reach: s.Live.Reach, Routes: append([]wire.Route{}, s.Routes...),
		Names: n.names, Forwards: n.forwards,
	}
}
