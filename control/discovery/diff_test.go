package discovery

import (
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

// randomMap draws a small map; few values, so that equal and unequal parts are both common.
func randomMap(r *rand.Rand, revision wire.Revision) *wire.Map {
	few := func() byte { return byte(r.IntN(2)) }
	m := &wire.Map{
		Revision:   revision,
		ValidUntil: epoch.Add(time.Duration(few()) * time.Hour),
		Self:       wire.Self{ID: "self0", Name: "self", State: []wire.SystemState{wire.Connected, wire.Disabled}[few()]},
		Peers:      []wire.Peer{},
		Relays:     []wire.Relay{},
	}
	for _, id := range []wire.RelayID{"r1", "r2"} {
		if few() == 0 {
			m.Relays = append(m.Relays, wire.Relay{ID: id, Addr: "relay:443", STUN: []string{"relay:3478"}})
		}
	}
	for _, id := range []wire.SystemID{"aaaaa", "bbbbb", "ccccc", "ddddd", "eeeee"} {
		if few() == 0 {
			continue
		}
		p := wire.Peer{
			ID: id, Name: string(id), WireGuard: wire.WireGuardKey{few()}, SVID: [][]byte{{1}, {few()}},
			Ticket: []byte{few()},
		}
		for rule := range int(few()) + 1 {
			g := wire.Grant{From: id, To: "self0", Proto: wire.TCP, Policy: "p1", Rule: rule}
			if few() == 0 {
				g.Ports = wire.Ports{{Lo: 22, Hi: 22}}
			}
			p.Grants = append(p.Grants, g)
		}
		m.Peers = append(m.Peers, p)
	}
	return m
}

// checkLaw is the law of the package.
func checkLaw(t *testing.T, old, new *wire.Map) {
	t.Helper()
	d := Diff(old, new)
	if equal := reflect.DeepEqual(old, new); (d == nil) != equal {
		t.Fatalf("maps equal: %v, but delta %+v", equal, d)
	}
	if d == nil {
		return
	}
	// The delta must survive the wire, too.
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var sent wire.Delta
	if err := wire.Unmarshal(b, &sent); err != nil {
		t.Fatal(err)
	}
	got := *old
	got.Peers = slices.Clone(old.Peers)
	if err := got.Apply(&sent); err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(got)
	want, _ := json.Marshal(new)
	if string(a) != string(want) {
		t.Fatalf("apply(old, diff) is not new:\n got %s\nwant %s", a, want)
	}
}

func FuzzDiff(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, seed/2, uint8(seed%3))
	}
	f.Fuzz(func(t *testing.T, a, b uint64, step uint8) {
		old := randomMap(rand.New(rand.NewPCG(a, 1)), 7)
		new := randomMap(rand.New(rand.NewPCG(b, 1)), 7+wire.Revision(step))
		checkLaw(t, old, new)
	})
}

func TestDiffLaw(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		checkLaw(t, randomMap(r, 7), randomMap(r, 7+wire.Revision(r.IntN(2))))
	}
}

// TestEveryFieldCounts sets each field of each shape in turn: a field added to wire
// and forgotten in a comparison would change in silence.
func TestEveryFieldCounts(t *testing.T) {
	everyField(t, func(a, b *wire.Self) bool { return equalSelf(a, b) })
	everyField(t, func(a, b *wire.Relay) bool { return equalRelay(*a, *b) })
	everyField(t, func(a, b *wire.Peer) bool { return equalPeer(a, b) })
	everyField(t, func(a, b *wire.Reach) bool { return EqualReach(a, b) })
	everyField(t, func(a, b *wire.Grant) bool { return equalGrant(*a, *b) })
}

func everyField[T any](t *testing.T, equal func(a, b *T) bool) {
	t.Helper()
	typ := reflect.TypeFor[T]()
	for i := range typ.NumField() {
		var a, b T
		if !equal(&a, &b) {
			t.Fatalf("%v: two empty values differ", typ)
		}
		fill(t, reflect.ValueOf(&b).Elem().Field(i))
		if equal(&a, &b) {
			t.Errorf("%v: field %s is not compared", typ, typ.Field(i).Name)
		}
	}
}

// fill gives v a value other than zero.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = epoch
		return
	case *netip.Addr:
		*x = netip.MustParseAddr("100.64.0.1")
		return
	case *wire.Reach:
		x.NAT = "easy"
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Int:
		v.SetInt(1)
	case reflect.Uint8:
		v.SetUint(1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Array:
		fill(t, v.Index(0))
	default:
		t.Fatalf("the test does not know how to fill a %v", v.Type())
	}
}
