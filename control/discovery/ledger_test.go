package discovery

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"enclave/wire"
)

var epoch = time.Date(2026, 3, 29, 0, 30, 0, 0, time.UTC)

// estate is what one system knows and what it is told of: few values, so that equal and
// unequal parts are both common.
type estate struct {
	*rand.Rand
	view    View
	peers   map[wire.SystemID]*Introduction
	tickets map[wire.SystemID]time.Time
}

var names = []wire.SystemID{"aaaaa", "bbbbb", "ccccc", "ddddd", "eeeee", "self0"}

func newEstate(r *rand.Rand) *estate {
	e := &estate{Rand: r, peers: make(map[wire.SystemID]*Introduction), tickets: make(map[wire.SystemID]time.Time)}
	e.view = View{Revision: 1, ValidUntil: epoch, Self: entry("self0", wire.Connected), Tickets: someTickets{e.tickets}}
	for range r.IntN(8) {
		e.change()
	}
	return e
}

// change makes something different, or the same again, and returns what it was about.
func (e *estate) change() (of []wire.SystemID) {
	few := func() byte { return byte(e.IntN(2)) }
	state := func() wire.SystemState {
		return []wire.SystemState{wire.Connected, wire.Disconnected, wire.Disabled}[e.IntN(3)]
	}
	if e.IntN(8) == 0 {
		e.view.Self = entry("self0", state())
		return nil
	}
	if e.IntN(8) == 0 {
		e.view.Relays = []wire.Relay{{ID: "r1", Addr: "relay:443"}, {ID: "r2", STUN: []string{"relay:3478"}}}[:e.IntN(3)]
		return nil
	}
	if e.IntN(8) == 0 {
		e.view.Zones = []string{"enclave", "corp"}[:e.IntN(3)]
		return nil
	}
	id := names[e.IntN(len(names))]
	if e.IntN(3) == 0 {
		delete(e.peers, id)
		return []wire.SystemID{id}
	}
	p := entry(id, state())
	p.WireGuard, p.SVID = wire.WireGuardKey{few()}, [][]byte{{1}, {few()}}
	in := &Introduction{Peer: p}
	for rule := range int(few()) + 1 {
		g := wire.Grant{From: id, To: "self0", Proto: wire.TCP, Policy: "p1", Rule: rule}
		if few() == 0 {
			g.Ports = wire.Ports{{Lo: 22, Hi: 22}}
		}
		in.Grants = append(in.Grants, g)
	}
	e.peers[id], e.tickets[id] = in, epoch.Add(time.Duration(few())*time.Hour)
	return []wire.SystemID{id}
}

// see returns the view of all, or of some.
func (e *estate) see(of []wire.SystemID, part bool) *View {
	v := e.view
	v.Part, v.Of = part, of
	for _, id := range names {
		if in := e.peers[id]; in != nil && (!part || slices.Contains(of, id)) {
			v.Introduced = append(v.Introduced, *in)
		}
	}
	return &v
}

// checkLaw makes changes and tells of them: what the agent has must be the map built
// from nothing, and it must have been told of nothing that it had.
func checkLaw(t *testing.T, r *rand.Rand, steps int) {
	e := newEstate(r)
	var l Ledger
	has, counted := over(t, l.Map(e.see(nil, false))), e.view.Self.Counts()
	for range steps {
		var of []wire.SystemID
		for range r.IntN(4) {
			of = append(of, e.change()...)
		}
		e.view.Revision += wire.Revision(r.IntN(2))
		// Whoever begins to count is told of everybody.
		part := r.IntN(4) > 0 && counted == e.view.Self.Counts()
		counted = e.view.Self.Counts()
		want := e.see(nil, false).Map()
		if d := l.Delta(e.see(of, part)); d != nil {
			for _, p := range d.Upsert {
				if slices.ContainsFunc(has.Peers, func(q wire.Peer) bool { return reflect.DeepEqual(over(t, &p), &q) }) {
					t.Fatalf("%s was told again, the same: %+v", p.ID, p)
				}
			}
			if err := has.Apply(over(t, d)); err != nil {
				t.Fatal(err)
			}
		}
		if l.Revision() != has.Revision {
			t.Fatalf("told revision %d, it has %d", l.Revision(), has.Revision)
		}
		want.Revision, want.ValidUntil = has.Revision, has.ValidUntil
		got, _ := json.Marshal(has)
		if from, _ := json.Marshal(want); string(got) != string(from) {
			t.Fatalf("the map that was told is not the map there is:\n got %s\nwant %s", got, from)
		}
	}
}

// over sends a message over the wire.
func over[T any](t *testing.T, m *T) *T {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	sent := new(T)
	if err := wire.Unmarshal(b, sent); err != nil {
		t.Fatal(err)
	}
	return sent
}

func FuzzLedger(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, seed/2, uint8(seed))
	}
	f.Fuzz(func(t *testing.T, a, b uint64, steps uint8) { checkLaw(t, rand.New(rand.NewPCG(a, b)), int(steps%64)) })
}

func TestLedgerLaw(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		checkLaw(t, r, 20)
	}
}

// TestEveryFieldCounts gives each shape every value of a few, field by field and down to
// the fields of what its lists hold: a field that is forgotten in a comparison or in the
// digest would change in silence, and a system would keep a right that it has lost.
func TestEveryFieldCounts(t *testing.T) {
	var h hasher
	same := func(a, b *wire.Peer) bool { return h.peer(a, nil) == h.peer(b, nil) }
	everyField(t, func(a, b *wire.Self) bool { return equalSelf(a, b) })
	everyField(t, func(a, b *wire.Relay) bool { return equalRelay(*a, *b) })
	everyField(t, func(a, b *wire.Reach) bool { return EqualReach(a, b) })
	everyField(t, func(a, b *wire.Peer) bool { // a ticket counts by its end; a policy's new name is no reason to send its pairs
		named := func(a, b wire.Grant) bool { return a.Name == b.Name }
		return same(a, b) && bytes.Equal(a.Ticket, b.Ticket) && slices.EqualFunc(a.Grants, b.Grants, named)
	})
	everyField(t, func(a, b *System) bool { // what only its own map shows aside
		return SameToPeers(a, b) && a.State == b.State && slices.Equal(a.Tags, b.Tags) && slices.Equal(a.Routes, b.Routes)
	})
	a, b := someTickets{}, someTickets{map[wire.SystemID]time.Time{"": epoch}}
	if h.peer(&wire.Peer{}, a) == h.peer(&wire.Peer{}, b) {
		t.Error("another ticket makes no difference")
	}
	all, none := wire.Peer{Grants: []wire.Grant{{}}}, wire.Peer{Grants: []wire.Grant{{Ports: wire.Ports{}}}}
	if same(&all, &none) {
		t.Error("all ports and none read the same")
	}
	if same(&wire.Peer{Names: []string{"\x00"}}, &wire.Peer{Forwards: []wire.Forward{{}}}) {
		t.Error("a name that looks like the list behind it is taken for one")
	}
}

func everyField[T any](t *testing.T, equal func(a, b *T) bool) {
	t.Helper()
	all := append([]reflect.Value{reflect.Zero(reflect.TypeFor[T]())}, variants(t, reflect.TypeFor[T]())...)
	for i := range all {
		for j := range all {
			a, b := all[i].Interface().(T), all[j].Interface().(T)
			if equal(&a, &b) != (i == j) {
				t.Errorf("%T: compared as equal: %v\n%+v\n%+v", a, i != j, a, b)
			}
		}
	}
}

// variants returns values of a type other than zero and from each other, each of which
// differs from zero in one leaf.
func variants(t *testing.T, typ reflect.Type) (all []reflect.Value) {
	t.Helper()
	of := func(vs ...any) []reflect.Value {
		for _, v := range vs {
			all = append(all, reflect.ValueOf(v).Convert(typ))
		}
		return all
	}
	addr, other := netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("fd00::1%eth0")
	switch typ {
	case reflect.TypeFor[time.Time]():
		return of(epoch, epoch.Add(1))
	case reflect.TypeFor[netip.AddrPort]():
		return of(netip.AddrPortFrom(addr, 1), netip.AddrPortFrom(addr, 2), netip.AddrPortFrom(other, 1))
	case reflect.TypeFor[netip.Addr]():
		return of(addr, addr.Next(), other, other.WithZone(""))
	case reflect.TypeFor[netip.Prefix]():
		return of(netip.PrefixFrom(addr, 32), netip.PrefixFrom(addr, 31), netip.PrefixFrom(addr.Next(), 32))
	}
	with := func(set func(reflect.Value)) {
		v := reflect.New(typ).Elem()
		set(v)
		all = append(all, v)
	}
	switch typ.Kind() {
	case reflect.String:
		return of("x", "xx")
	case reflect.Int, reflect.Uint8, reflect.Uint16:
		return of(1, 2)
	case reflect.Array:
		with(func(v reflect.Value) { v.Index(0).Set(variants(t, typ.Elem())[0]) })
		with(func(v reflect.Value) { v.Index(v.Len() - 1).Set(variants(t, typ.Elem())[0]) })
	case reflect.Slice:
		zero := reflect.Zero(typ.Elem())
		with(func(v reflect.Value) { v.Set(reflect.Append(v, zero)) })
		with(func(v reflect.Value) { v.Set(reflect.Append(v, zero, zero)) })
		for _, e := range variants(t, typ.Elem()) {
			with(func(v reflect.Value) { v.Set(reflect.Append(v, e)) })
		}
	case reflect.Struct:
		for i := range typ.NumField() {
			for _, f := range variants(t, typ.Field(i).Type) {
				with(func(v reflect.Value) { v.Field(i).Set(f) })
			}
		}
	default:
		t.Fatalf("the test does not know values of a %v", typ)
	}
	return all
}
