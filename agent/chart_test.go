package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"enclave/wire"
	"enclave/wire/svid"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return noon.Add(d) }

func newChart(o *org) *chart {
	st := o.enrolled(noon)
	keys, _ := st.keys()
	return &chart{self: me, keys: keys, org: o.ca.Org(), roots: o.ca.Trust().Roots}
}

func take(t *testing.T, c *chart, now time.Time, m wire.Message) {
	t.Helper()
	if _, err := c.take(&m, now); err != nil {
		t.Fatal(err)
	}
}

func inForce(t *testing.T, c *chart, now time.Time, want string) {
	t.Helper()
	if got := ids(c.inForce(now)); got != want {
		t.Errorf("%s after noon %q are in force, want %q", now.Sub(noon), got, want)
	}
}

// TestHours: a peer whose grants are over is unknown, and known again when its hours
// open, without a word from control in between.
func TestHours(t *testing.T) {
	o := newOrg(t, noon)
	c := newChart(o)
	b := o.peer("bbbbb", 2, noon, span{at(0), at(time.Hour)}, span{at(5 * time.Hour), at(6 * time.Hour)})
	d := o.peer("ddddd", 4, noon, always)
	m := mapOf(3, at(24*time.Hour), b, d)
	take(t, c, noon, wire.Message{Map: &m})
	for _, step := range []struct {
		now  time.Duration
		want string
		next time.Duration
	}{
		{-time.Second, "ddddd", 0},
		{0, "bbbbb ddddd", time.Hour},
		{time.Hour - 1, "bbbbb ddddd", time.Hour},
		{time.Hour, "ddddd", 5 * time.Hour},
		{5 * time.Hour, "bbbbb ddddd", 6 * time.Hour},
		{6 * time.Hour, "ddddd", 24 * time.Hour},
		{24*time.Hour - 1, "ddddd", 24 * time.Hour},
	} {
		inForce(t, c, at(step.now), step.want)
		if got := c.next(at(step.now)); !got.Equal(at(step.next)) {
			t.Errorf("at %s the next instant is %s, want %s", step.now, got.Sub(noon), step.next)
		}
	}
}

// TestMapLife: without contact nobody is left when the map's life is over; a
// heartbeat brings them back, since control says that the map still holds.
func TestMapLife(t *testing.T) {
	o := newOrg(t, noon)
	c := newChart(o)
	m := mapOf(3, at(time.Hour), o.peer("bbbbb", 2, noon, always))
	take(t, c, noon, wire.Message{Map: &m})
	inForce(t, c, at(time.Hour-1), "bbbbb")
	inForce(t, c, at(time.Hour), "")
	if !c.next(at(time.Hour)).IsZero() {
		t.Error("a dead map has instants")
	}
	take(t, c, at(2*time.Hour), wire.Message{Heartbeat: &wire.Heartbeat{Revision: 3, ValidUntil: at(3 * time.Hour)}})
	inForce(t, c, at(2*time.Hour), "bbbbb")
	inForce(t, c, at(3*time.Hour), "")
	take(t, c, at(2*time.Hour), wire.Message{Heartbeat: &wire.Heartbeat{Revision: 3}})
	inForce(t, c, at(10000*time.Hour), "bbbbb") // zero is for ever
}

func TestDeltasBuildOnWhatWasTold(t *testing.T) {
	o := newOrg(t, noon)
	c := newChart(o)
	over := o.peer("bbbbb", 2, noon, span{until: at(-time.Hour)})
	bad := o.peer("ccccc", 3, noon, always)
	bad.KeySignature = nil
	m := mapOf(3, time.Time{}, over, bad)
	take(t, c, noon, wire.Message{Map: &m})
	inForce(t, c, noon, "")
	// Neither is in force, both are told: a delta for another peer leaves them be.
	d := o.peer("ddddd", 4, noon, always)
	take(t, c, noon, wire.Message{Delta: &wire.Delta{Since: 3, Revision: 4, Upsert: []wire.Peer{d}}})
	inForce(t, c, noon, "ddddd")
	if len(c.rejected) != 1 || c.rejected[0].ID != "ccccc" || len(c.told.Peers) != 3 {
		t.Fatalf("rejected %v of %d told", c.rejected, len(c.told.Peers))
	}
	over.Grants[0].NotAfter = time.Time{}
	take(t, c, noon, wire.Message{Delta: &wire.Delta{Since: 4, Revision: 5, Upsert: []wire.Peer{over}, Gone: []wire.SystemID{"ccccc"}}})
	inForce(t, c, noon, "bbbbb ddddd")
	if len(c.rejected) != 0 {
		t.Errorf("still rejected: %v", c.rejected)
	}
}

// TestAnotherKeyIsJudgedAgain: who is believed is believed with its keys; one that control
// puts in their place, behind the same certificate and signature, counts for nobody.
func TestAnotherKeyIsJudgedAgain(t *testing.T) {
	o := newOrg(t, noon)
	b := o.peer("bbbbb", 2, noon, always)
	wg, disco := b, b
	wg.WireGuard[3]++
	disco.Disco[3]++
	for name, p := range map[string]wire.Peer{"WireGuard": wg, "disco": disco} {
		c := newChart(o)
		m := mapOf(3, time.Time{}, b)
		take(t, c, noon, wire.Message{Map: &m})
		inForce(t, c, noon, "bbbbb")
		take(t, c, noon, wire.Message{Delta: &wire.Delta{Since: 3, Revision: 4, Upsert: []wire.Peer{p}}})
		if inForce(t, c, noon, ""); len(c.rejected) != 1 {
			t.Errorf("another %s key: rejected %v", name, c.rejected)
		}
	}
}

// TestNeverBack: what does not follow is refused whole, and changes nothing.
func TestNeverBack(t *testing.T) {
	o := newOrg(t, noon)
	b := o.peer("bbbbb", 2, noon, always)
	foreign := mapOf(9, time.Time{}, b)
	foreign.Self.ID = "zzzzz"
	old := mapOf(4, time.Time{})
	loop := mapOf(9, time.Time{})
	loop.Self.IPv4 = netip.MustParseAddr("127.0.0.1")
	far, end := mapOf(5+wire.MaxRevisionJump+1, time.Time{}), mapOf(math.MaxUint64, time.Time{})
	half := mapOf(9, time.Time{})
	half.Self.IPv6 = netip.Addr{}
	for name, tc := range map[string]struct {
		m    wire.Message
		want error
	}{
		"older map":                {wire.Message{Map: &old}, wire.ErrOldRevision},
		"older delta":              {wire.Message{Delta: &wire.Delta{Since: 5, Revision: 4}}, wire.ErrOldRevision},
		"too far ahead":            {wire.Message{Map: &far}, wire.ErrRevisionJump},
		"the last there is":        {wire.Message{Map: &end}, wire.ErrRevisionJump},
		"delta too far ahead":      {wire.Message{Delta: &wire.Delta{Since: 5, Revision: far.Revision}}, wire.ErrRevisionJump},
		"gap":                      {wire.Message{Delta: &wire.Delta{Since: 6, Revision: 7}}, wire.ErrGap},
		"heartbeat of another":     {wire.Message{Heartbeat: &wire.Heartbeat{Revision: 6}}, wire.ErrGap},
		"another system's":         {wire.Message{Map: &foreign}, errOtherMap},
		"too many":                 {wire.Message{Map: &wire.Map{Revision: 9, Self: old.Self, Relays: make([]wire.Relay, wire.MaxRelays+1)}}, errAny},
		"more peers than anybody":  {wire.Message{Map: &wire.Map{Revision: 9, Self: old.Self, Peers: make([]wire.Peer, wire.MaxPeers+1)}}, errAny},
		"loopback as own address":  {wire.Message{Map: &loop}, errAny},
		"one address of the two":   {wire.Message{Map: &half}, errAny},
		"delta that makes it such": {wire.Message{Delta: &wire.Delta{Since: 5, Revision: 9, Self: &half.Self}}, errAny},
	} {
		c := newChart(o)
		if _, err := c.take(&wire.Message{Delta: &wire.Delta{}}, noon); !errors.Is(err, wire.ErrGap) {
			t.Errorf("a delta before any map: %v", err)
		}
		m := mapOf(5, time.Time{}, b)
		take(t, c, noon, wire.Message{Map: &m})
		before, _ := json.Marshal(c.told)
		_, err := c.take(&tc.m, noon)
		if err == nil || tc.want != errAny && !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
		if after, _ := json.Marshal(c.told); string(after) != string(before) || c.seen != 5 {
			t.Errorf("%s: was refused and changed the map", name)
		}
		inForce(t, c, noon, "bbbbb")
	}
}

var errAny = errors.New("any error")

// TestARestoreIsNoJump: what a year of changes or a row of restores makes is believed, by
// an agent that was away meanwhile, too.
func TestARestoreIsNoJump(t *testing.T) {
	c := newChart(newOrg(t, noon))
	for _, rev := range []wire.Revision{1 << 20, 2<<20 + 1, 2<<20 + 1 + wire.MaxRevisionJump} {
		m := mapOf(rev, time.Time{})
		take(t, c, noon, wire.Message{Map: &m})
	}
}

// TestRejected: a peer of which anything is wrong is left out and named; the others
// stay.
func TestRejected(t *testing.T) {
	o, other := newOrg(t, noon), newOrg(t, noon)
	for name, tc := range map[string]struct {
		spoil func(c *chart, p *wire.Peer, good wire.Peer)
		says  string
	}{
		"unsigned keys":      {func(_ *chart, p *wire.Peer, _ wire.Peer) { p.KeySignature = nil }, "not signed"},
		"foreign key":        {func(_ *chart, p *wire.Peer, _ wire.Peer) { p.WireGuard[0] ^= 1 }, "not signed"},
		"foreign identity":   {func(_ *chart, p *wire.Peer, good wire.Peer) { p.SVID = good.SVID }, "somebody else"},
		"other organisation": {func(_ *chart, p *wire.Peer, _ wire.Peer) { *p = other.peer("ccccc", 3, noon, always) }, "another organisation"},
		"expired":            {func(_ *chart, p *wire.Peer, _ wire.Peer) { *p = o.peer("ccccc", 3, at(-48*time.Hour), always) }, "expired"},
		"no certificate":     {func(_ *chart, p *wire.Peer, _ wire.Peer) { p.SVID = nil }, "0 certificates"},
		"itself":             {func(_ *chart, p *wire.Peer, _ wire.Peer) { p.ID = me }, "itself"},
		"our address":        {func(_ *chart, p *wire.Peer, _ wire.Peer) { p.IPv4 = netip.MustParseAddr("100.64.0.1") }, "that of aaaaa"},
		"our key":            {func(c *chart, p *wire.Peer, _ wire.Peer) { p.WireGuard = c.keys.WireGuard }, "that of aaaaa"},
		"our disco key":      {func(c *chart, p *wire.Peer, _ wire.Peer) { p.Disco = c.keys.Disco }, "that of aaaaa"},
		"another's address":  {func(_ *chart, p *wire.Peer, good wire.Peer) { p.IPv6 = good.IPv6 }, "that of bbbbb"},
		"listed twice":       {func(_ *chart, p *wire.Peer, good wire.Peer) { *p = good; p.IPv4 = p.IPv4.Next() }, "named twice"},
		"no address":         {func(_ *chart, p *wire.Peer, _ wire.Peer) { p.IPv4 = netip.Addr{} }, "no overlay addresses"},
		"mapped address":     {func(_ *chart, p *wire.Peer, _ wire.Peer) { p.IPv6 = netip.MustParseAddr("::ffff:100.64.0.9") }, "no overlay addresses"},
		"zoned address":      {func(_ *chart, p *wire.Peer, _ wire.Peer) { p.IPv6 = netip.MustParseAddr("fd00::9%eth0") }, "no overlay addresses"},
		"multicast":          {func(_ *chart, p *wire.Peer, _ wire.Peer) { p.IPv4 = netip.MustParseAddr("224.0.0.1") }, "no overlay addresses"},
		"odd ID":             {func(_ *chart, p *wire.Peer, _ wire.Peer) { p.ID = "../.." }, "system ID"},
		"odd name":           {func(_ *chart, p *wire.Peer, _ wire.Peer) { p.Name = "web.id" }, "name"},
		"grants":             {func(_ *chart, p *wire.Peer, _ wire.Peer) { p.Grants = make([]wire.Grant, wire.MaxGrantsPerPeer+1) }, "limits"},
		"candidates": {func(_ *chart, p *wire.Peer, _ wire.Peer) {
			p.Reach.Candidates = make([]wire.Candidate, wire.MaxCandidates+1)
		}, "limits"},
		"ticket": {func(_ *chart, p *wire.Peer, _ wire.Peer) { p.Ticket = make([]byte, wire.MaxTicketLen+1) }, "limits"},
	} {
		c := newChart(o)
		good, bad, last := o.peer("bbbbb", 2, noon, always), o.peer("ccccc", 3, noon, always), o.peer("ddddd", 4, noon, always)
		tc.spoil(c, &bad, good)
		m := mapOf(1, time.Time{}, good, bad, last)
		take(t, c, noon, wire.Message{Map: &m})
		inForce(t, c, noon, "bbbbb ddddd")
		if len(c.rejected) != 1 || c.rejected[0].ID != bad.ID || !strings.Contains(c.rejected[0].Reason, tc.says) {
			t.Errorf("%s: rejected %+v, want one saying %q", name, c.rejected, tc.says)
		}
	}
}

// TestBelievedStays is docs/decisions/0091: an identity is judged when control brings
// it. What is believed stays while control names it unchanged; anything new about it
// is judged anew.
func TestBelievedStays(t *testing.T) {
	o := newOrg(t, noon)
	c := newChart(o)
	p := o.peer("bbbbb", 2, noon, always)
	m := mapOf(1, time.Time{}, p)
	take(t, c, noon, wire.Message{Map: &m})
	late := at(30 * time.Hour) // its SVID ended after 24
	p.Reach.NAT = "easy"
	take(t, c, late, wire.Message{Delta: &wire.Delta{Since: 1, Revision: 1, Upsert: []wire.Peer{p}}})
	inForce(t, c, late, "bbbbb")
	unsigned := p
	unsigned.KeySignature = nil
	take(t, c, late, wire.Message{Delta: &wire.Delta{Since: 1, Revision: 1, Upsert: []wire.Peer{unsigned}}})
	inForce(t, c, late, "")
	take(t, c, noon, wire.Message{Delta: &wire.Delta{Since: 1, Revision: 1, Upsert: []wire.Peer{p}}})
	inForce(t, c, noon, "bbbbb")
	p.SVID = append(p.SVID, p.SVID[0])
	take(t, c, late, wire.Message{Delta: &wire.Delta{Since: 1, Revision: 1, Upsert: []wire.Peer{p}}})
	inForce(t, c, late, "")
	fresh := newChart(o)
	m = mapOf(1, time.Time{}, o.peer("bbbbb", 2, noon, always))
	take(t, fresh, late, wire.Message{Map: &m})
	inForce(t, fresh, late, "")
}

// TestUnsortedMap: the order of a map decides nothing.
func TestUnsortedMap(t *testing.T) {
	o := newOrg(t, noon)
	c := newChart(o)
	m := mapOf(1, time.Time{}, o.peer("ddddd", 4, noon, always), o.peer("bbbbb", 2, noon, always))
	take(t, c, noon, wire.Message{Map: &m})
	inForce(t, c, noon, "bbbbb ddddd")
}

// TestDeltasDoNotAddUp: what a hostile control says grows no further than one message,
// verified or not, and no text of it stands in a log or a status at any length.
func TestDeltasDoNotAddUp(t *testing.T) {
	o := newOrg(t, noon)
	c := newChart(o)
	m := mapOf(3, time.Time{}, o.peer("bbbbb", 2, noon, always))
	take(t, c, noon, wire.Message{Map: &m})
	junk := make([]byte, 1<<20)
	var err error
	for i := 0; err == nil && i < 80; i++ {
		p := o.peer(wire.SystemID(fmt.Sprintf("c%04d", i)), 3, noon, always)
		p.KeySignature = junk
		_, err = c.take(&wire.Message{Delta: &wire.Delta{Since: c.told.Revision, Revision: c.told.Revision + 1, Upsert: []wire.Peer{p}}}, noon)
	}
	if err == nil || len(c.told.Peers) > wire.MaxMapMessage>>20 {
		t.Errorf("%d peers of a megabyte each, %v", len(c.told.Peers), err)
	}
	inForce(t, c, noon, "bbbbb")
	long := strings.Repeat("x", 4096)
	for _, d := range []wire.Delta{{Cause: long}, {Self: &wire.Self{ID: me, Name: long}}, {Self: &wire.Self{ID: me, Zone: long}}} {
		d.Since, d.Revision = c.told.Revision, c.told.Revision+1
		if _, err := c.take(&wire.Message{Delta: &d}, noon); err == nil || len(err.Error()) > 200 {
			t.Errorf("%.40q and %.40v: %.200v", d.Cause, d.Self, err)
		}
	}
	take(t, c, noon, wire.Message{Delta: &wire.Delta{Since: c.told.Revision, Revision: c.told.Revision, Upsert: []wire.Peer{{ID: wire.SystemID(long)}}}})
	for _, r := range c.rejected {
		if len(r.ID) > wire.MaxNameLen || len(r.Reason) > 400 {
			t.Errorf("rejected %d bytes for %d bytes of reasons", len(r.ID), len(r.Reason))
		}
	}
}

// FuzzMessage reads what a control plane that is anybody's could send: never a panic,
// never a step back, never a peer that does not verify, and whatever is in force can
// be built.
func FuzzMessage(f *testing.F) {
	o := newOrg(f, noon)
	p := o.peer("bbbbb", 2, noon, always, span{at(time.Hour), at(2 * time.Hour)})
	m := mapOf(3, at(24*time.Hour), p)
	for _, msg := range []wire.Message{
		{Map: &m}, {Delta: &wire.Delta{Since: 2, Revision: 3, Upsert: []wire.Peer{p}, Gone: []wire.SystemID{"ccccc"}}},
		{Heartbeat: &wire.Heartbeat{Now: noon, Revision: 2, ValidUntil: at(time.Hour)}}, {Bye: &wire.Bye{Code: wire.ByeRestart}}, {},
	} {
		b, _ := json.Marshal(msg)
		f.Add(b)
	}
	first := mapOf(2, at(24*time.Hour), o.peer("ccccc", 3, noon, always))
	start := newChart(o)
	if _, err := start.take(&wire.Message{Map: &first}, noon); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		msg, err := wire.ParseMessage(line)
		if err != nil {
			return
		}
		c := new(chart)
		*c = *start
		_, err = c.take(msg, noon)
		if b, _ := json.Marshal(c.told); weight(c.told) > len(b) {
			t.Fatalf("%d bytes weigh %d", len(b), weight(c.told))
		}
		if c.told.Revision < 2 || err != nil && ids(c.inForce(noon)) != "ccccc" {
			t.Fatalf("revision %d, %q in force after %v", c.told.Revision, ids(c.inForce(noon)), err)
		}
		seen := make(map[any]bool)
		for _, p := range c.inForce(noon) {
			if _, err := svid.VerifyPeer(&p, c.roots, c.org, noon); err != nil {
				t.Fatal(err)
			}
			for _, x := range []any{p.ID, p.IPv4, p.IPv6, p.WireGuard} {
				if seen[x] || !p.IPv4.Is4() || !p.IPv6.Is6() {
					t.Fatalf("%v is there twice, or no address", x)
				}
				seen[x] = true
			}
		}
		new(directory).follow(c.told.Self.Zone, wire.DNS{}, c.inForce(noon)).find(c.told.Self.Name, noon)
		c.next(noon)
		raw, err := json.Marshal(c.told)
		if err != nil || json.Unmarshal(raw, new(wire.Map)) != nil {
			t.Fatalf("what was told cannot be kept: %v", err)
		}
	})
}

// BenchmarkDelta is one peer's new reach in a map of a thousand.
func BenchmarkDelta(b *testing.B) {
	o := newOrg(b, noon)
	c := newChart(o)
	m := mapOf(1, time.Time{})
	for i := range 1000 {
		p := o.peer(wire.SystemID(fmt.Sprintf("b%04d", i)), 0, noon, always)
		p.IPv4, p.IPv6 = netip.AddrFrom4([4]byte{100, 65, byte(i >> 8), byte(i)}), netip.AddrFrom16([16]byte{0xfd, 1, 14: byte(i >> 8), 15: byte(i)})
		m.Peers = append(m.Peers, p)
	}
	if _, err := c.take(&wire.Message{Map: &m}, noon); err != nil || len(c.rejected) > 0 {
		b.Fatal(err, c.rejected)
	}
	names := new(directory)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.take(&wire.Message{Delta: &wire.Delta{Since: 1, Revision: 1, Upsert: m.Peers[500:501]}}, noon); err != nil {
			b.Fatal(err)
		}
		names = names.follow("enclave", wire.DNS{}, c.inForce(noon))
	}
}
