package names_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"enclave/wire"
	"enclave/wire/names"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// peer is a system that the asker is connected to until an hour after noon.
func peer(id string, list ...string) wire.Peer {
	return wire.Peer{
		ID: wire.SystemID(id), Name: "h" + id, Names: list,
		IPv4: netip.MustParseAddr("100.64.0.1"), IPv6: netip.MustParseAddr("fd00::1"),
		Grants: []wire.Grant{{From: "asker", To: wire.SystemID(id), NotAfter: noon.Add(time.Hour)}},
	}
}

func TestParse(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 49)+".", 5) + "abc" // 253 bytes
	for in, want := range map[string]string{
		"Web.Enclave.": "web.enclave", "a": "a", "1.2": "1.2", "x--y.z": "x--y.z", long: long,
		"": "-", ".": "-", "a..b": "-", ".a": "-", "a..": "-", "-a": "-", "a-.b": "-", "a_b": "-", "ä.b": "-", "a b": "-", "*": "-", "*.a": "-",
		"a.*.b": "-", strings.Repeat("a", 64): "-", strings.Repeat("a", 63): strings.Repeat("a", 63), long + "d": "-", "a\x00b": "-",
	} {
		got, err := names.Parse(in)
		if err != nil {
			got = "-"
		}
		if got != want {
			t.Errorf("Parse(%.60q) = %.60q, %v; want %.60q", in, got, err, want)
		}
	}
	for in, want := range map[string]string{"*.Corp.": "*.corp", "corp": "corp", "*": "-", "*.": "-", "*.*.corp": "-", "a.*.corp": "-", "*corp": "-"} {
		got, err := names.ParsePattern(in)
		if err != nil {
			got = "-"
		}
		if got != want {
			t.Errorf("ParsePattern(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

// ask is the answer in a line.
func ask(v *names.View, name string, now time.Time) string {
	a := v.Lookup([]byte(name), now)
	var ids []string
	for _, p := range a.In(now) {
		ids = append(ids, string(p.ID))
	}
	return strings.TrimSpace(a.Kind.String() + " " + strings.Join(ids, ","))
}

func TestLookup(t *testing.T) {
	gw := peer("ggggg", "gw.enclave")
	at := netip.MustParseAddrPort("192.168.1.53:53")
	gw.Forwards = []wire.Forward{{Zone: "lan", Resolvers: []netip.AddrPort{at}}, {Zone: "corp", Resolvers: []netip.AddrPort{at}}}
	old := peer("ooooo")
	old.Names, old.Name = nil, "old"
	v := names.New("enclave", wire.DNS{Zones: []string{"enclave", "corp", "deep.corp", "bare.test"}}, []wire.Peer{
		peer("aaaaa", "web.enclave", "corp", "*.corp", "web.apps.corp"), peer("bbbbb", "web.enclave", "*.apps.corp"), gw, old,
		peer("ccccc", "x.deep.corp"),
	})
	for name, want := range map[string]string{
		"web.enclave": "found aaaaa,bbbbb", "aaaaa.id.enclave": "found aaaaa", "id.enclave": "empty", "enclave": "empty",
		"no.enclave": "missing", "zzzzz.id.enclave": "missing", "old.enclave": "found ooooo", "hggggg.enclave": "missing",
		"corp": "found aaaaa", "x.corp": "found aaaaa", "x.y.corp": "found aaaaa", "web.apps.corp": "found aaaaa", "x.apps.corp": "found bbbbb",
		"apps.corp": "empty", "x.deep.corp": "found ccccc", "y.deep.corp": "missing", "deep.corp": "empty", // the longest zone owns: *.corp is not asked
		"bare.test": "empty", "x.bare.test": "missing",
		"nas.lan": "forwarded", "lan": "forwarded", "test": "outside", "example.com": "outside", "": "outside", "encl": "outside", "xenclave": "outside",
	} {
		if got := ask(v, name, noon); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
	// The grants' own instant ends every answer, whatever the map still says.
	for _, name := range []string{"web.enclave", "x.corp", "aaaaa.id.enclave"} {
		if got := ask(v, name, noon.Add(time.Hour)); got != "missing" {
			t.Errorf("%q after the end: %s", name, got)
		}
	}
	if got := ask(v, "corp", noon.Add(time.Hour)); got != "empty" {
		t.Errorf("a zone's own name after the end: %s", got)
	}
}

func TestWildcards(t *testing.T) {
	gone := peer("bbbbb", "*.a.corp", "x.a.corp")
	gone.Grants[0].NotAfter = noon
	v := names.New("enclave", wire.DNS{Zones: []string{"corp"}}, []wire.Peer{peer("aaaaa", "*.corp"), gone})
	for name, want := range map[string]string{"x.a.corp": "found aaaaa", "y.a.corp": "found aaaaa", "corp": "empty"} {
		if got := ask(v, name, noon); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

func TestEveryAnswerIsAsLikely(t *testing.T) {
	off := peer("bbbbb", "web.enclave")
	off.Grants = nil
	v := names.New("enclave", wire.DNS{}, []wire.Peer{peer("aaaaa", "web.enclave"), off, peer("ccccc", "web.enclave")})
	a := v.Lookup([]byte("web.enclave"), noon)
	for draw, want := range []wire.SystemID{"aaaaa", "ccccc"} {
		if p := a.Pick(noon, func(n int) int {
			if n != 2 {
				t.Errorf("drawn from %d", n)
			}
			return draw
		}); p.ID != want {
			t.Errorf("%d draws %s", draw, p.ID)
		}
	}
	if in := a.In(noon); len(in) != 2 || in[0].ID != "aaaaa" || in[1].ID != "ccccc" {
		t.Errorf("%d count", len(in))
	}
	if p := a.Pick(noon.Add(2*time.Hour), func(int) int { return 0 }); p != nil || len(a.In(noon.Add(2*time.Hour))) != 0 {
		t.Error("somebody is left after the end")
	}
}

func TestBook(t *testing.T) {
	b := names.Book{Base: "enclave", Zones: []wire.Zone{
		{Name: "corp", AutoTags: []wire.Tag{"srv"}}, {Name: "lan", Forward: &wire.ZoneForward{Gateways: []wire.SystemID{"ggggg"}, Resolvers: []string{"10.0.0.53"}}}},
		Records: []wire.Record{{Name: "db.corp", Tags: []wire.Tag{"dbs"}}, {Name: "*.x.corp", Systems: []wire.SystemID{"aaaaa"}}, {Name: "web.enclave", Tags: []wire.Tag{"front"}}}}
	for name, want := range map[string]string{
		"x.corp": "would shadow record *.x.corp", "db.corp": "would shadow record db.corp", "y.corp": "", "id.enclave": "would shadow the names",
		"a.id.enclave": "would shadow the names", "test": "", "web.enclave": "would shadow record web.enclave",
	} {
		check(t, "zone "+name, b.CheckNewZone(&wire.Zone{Name: name}), want)
	}
	check(t, "base", b.CheckNewZone(&wire.Zone{Name: "enclave", Forward: &wire.ZoneForward{}}), "cannot be forwarded")
	for name, want := range map[string]string{"a.corp": "", "a.lan": "forwarded", "a.test": "in no zone", "aaaaa.id.enclave": "every system has", "*.id.enclave": "every system has", "*.enclave": ""} {
		check(t, "record "+name, b.CheckNewRecord(&wire.Record{Name: name}), want)
	}
	table := names.Compile(&b)
	for _, c := range []struct{ id, host, tags, want string }{
		{"aaaaa", "alpha", "", "*.x.corp alpha.enclave"},
		{"bbbbb", "db", "srv", "db.enclave"}, // the record keeps db.corp from it
		{"ccccc", "c", "srv dbs", "c.corp c.enclave db.corp"},
		{"ddddd", "web", "", ""}, // reserved
		{"eeeee", "e", "front", "e.enclave web.enclave"},
	} {
		var tags []wire.Tag
		for _, tag := range strings.Fields(c.tags) {
			tags = append(tags, wire.Tag(tag))
		}
		if got, _ := table.Of(wire.SystemID(c.id), c.host, tags); strings.Join(got, " ") != c.want {
			t.Errorf("%s is called %q, want %q", c.id, got, c.want)
		}
	}
	if got := table.Forwards("ggggg"); len(got) != 1 || got[0].Resolvers[0].String() != "10.0.0.53:53" {
		t.Errorf("forwards %v", got)
	}
}

// TestTold: a resolver is named to those alone whom policy lets ask it.
func TestTold(t *testing.T) {
	all := []wire.Forward{{Zone: "lan", Resolvers: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.53:53"), netip.MustParseAddrPort("10.9.0.53:53")}}}
	grant := func(from, subnet string, proto wire.Proto, ports wire.Ports) wire.Grant {
		return wire.Grant{From: wire.SystemID(from), To: "ggggg", Proto: proto, Ports: ports, Subnets: []netip.Prefix{netip.MustParsePrefix(subnet)}}
	}
	for _, c := range []struct {
		grant wire.Grant
		want  string
	}{
		{grant("asker", "10.0.0.0/24", wire.UDP, nil), "10.0.0.53:53"},
		{grant("asker", "0.0.0.0/0", wire.Any, nil), "10.0.0.53:53 10.9.0.53:53"},
		{grant("other", "10.0.0.0/24", wire.UDP, nil), ""},
		{grant("asker", "10.0.0.0/24", wire.ICMP, nil), ""},
		{grant("asker", "10.0.0.0/24", wire.UDP, wire.Ports{{Lo: 80, Hi: 80}}), ""},
		{grant("asker", "10.0.0.0/24", wire.UDP, wire.Ports{{Lo: 53, Hi: 53}}), "10.0.0.53:53"},
		{wire.Grant{From: "asker", To: "ggggg"}, ""},
	} {
		var got []string
		for _, f := range names.Told(all, []wire.Grant{c.grant}, "asker") {
			for _, r := range f.Resolvers {
				got = append(got, r.String())
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v: told %q, want %q", c.grant, got, c.want)
		}
	}
}

func check(t *testing.T, what string, bad []wire.Problem, want string) {
	t.Helper()
	got := ""
	if len(bad) > 0 {
		got = bad[0].Message
	}
	if (want == "") != (got == "") || !strings.Contains(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestDocuments(t *testing.T) {
	for _, c := range []struct {
		zone wire.Zone
		path string
	}{
		{wire.Zone{Name: "Corp."}, ""}, {wire.Zone{Name: "a b"}, "name"}, {wire.Zone{Name: "."}, "name"}, {wire.Zone{Name: "*.x"}, "name"},
		{wire.Zone{Name: "x", AutoTags: []wire.Tag{"a", "A"}}, "auto_tags[1]"}, {wire.Zone{Name: "x", AutoTags: []wire.Tag{"a", "a"}}, "auto_tags[1]"},
		{wire.Zone{Name: ".", Forward: &wire.ZoneForward{Gateways: []wire.SystemID{"aaaaa"}, Resolvers: []string{"10.0.0.1", "[fd01::1]:5353"}}}, ""},
		{wire.Zone{Name: "x", Forward: &wire.ZoneForward{Resolvers: []string{"10.0.0.1"}}}, "forward.gateways"},
		{wire.Zone{Name: "x", Forward: &wire.ZoneForward{Gateways: []wire.SystemID{"aaaaa"}}}, "forward.resolvers"},
		{wire.Zone{Name: "x", Forward: &wire.ZoneForward{Gateways: []wire.SystemID{"aaaaa"}, Resolvers: []string{"127.0.0.1"}}}, "forward.resolvers[0]"},
		{wire.Zone{Name: "x", Forward: &wire.ZoneForward{Gateways: []wire.SystemID{"aaaaa"}, Resolvers: []string{"10.0.0.1", "10.0.0.1:53"}}}, "forward.resolvers[1]"},
		{wire.Zone{Name: "x", Forward: &wire.ZoneForward{Gateways: []wire.SystemID{"a"}, Resolvers: []string{"10.0.0.1"}}}, "forward.gateways[0]"},
	} {
		z := c.zone
		if bad := names.CheckZone(&z); (c.path == "") != (len(bad) == 0) || len(bad) > 0 && bad[0].Path != c.path {
			t.Errorf("%+v: %v, want a problem at %q", c.zone, bad, c.path)
		}
	}
	for _, c := range []struct {
		record wire.Record
		path   string
	}{
		{wire.Record{Name: "*.Corp", Tags: []wire.Tag{"a"}}, ""}, {wire.Record{Name: "x"}, "tags"}, {wire.Record{Name: "x_", Tags: []wire.Tag{"a"}}, "name"},
		{wire.Record{Name: "x", Systems: []wire.SystemID{"aaaaa", "aaaaa"}}, "systems[1]"}, {wire.Record{Name: "x", Tags: []wire.Tag{""}}, "tags[0]"},
		{wire.Record{Name: "x", Tags: make([]wire.Tag, wire.MaxTargets+1)}, "tags"}, {wire.Record{Name: "x", Tags: []wire.Tag{"a"}, Notes: strings.Repeat("n", wire.MaxNotesLen+1)}, "notes"},
	} {
		r := c.record
		if bad := names.CheckRecord(&r); (c.path == "") != (len(bad) == 0) || len(bad) > 0 && bad[0].Path != c.path {
			t.Errorf("%.60v: %v, want a problem at %q", c.record, bad, c.path)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"web.enclave.", "*.corp", "a..b", "ÄÖ.de", "K.id.enclave"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(string) (string, error){names.Parse, names.ParsePattern} {
			name, err := parse(s)
			if err != nil {
				continue
			}
			if again, err := parse(name); err != nil || again != name || len(name) > 253 {
				t.Fatalf("%q reads as %q, and that as %q, %v", s, name, again, err)
			}
		}
		names.New("enclave", wire.DNS{Zones: []string{s}}, []wire.Peer{peer("aaaaa", s, "*."+s)}).Lookup([]byte(s), noon)
	})
}

// BenchmarkLookup: 1,000 systems, each with its names and a wildcard over it.
func BenchmarkLookup(b *testing.B) {
	var peers []wire.Peer
	for i := range 1000 {
		peers = append(peers, peer(fmt.Sprintf("a%04d", i), fmt.Sprintf("h%d.enclave", i), fmt.Sprintf("*.h%d.corp", i)))
	}
	v := names.New("enclave", wire.DNS{Zones: []string{"corp"}}, peers)
	for what, name := range map[string]string{"exact": "h500.enclave", "wildcard": "a.b.c.h700.corp", "missing": "nobody.enclave", "outside": "www.example.com"} {
		b.Run(what, func(b *testing.B) {
			b.ReportAllocs()
			q := []byte(name)
			for b.Loop() {
				v.Lookup(q, noon)
			}
		})
	}
}

// sorted is for comparing lists of systems.
func sorted(ids []wire.SystemID) []wire.SystemID { slices.Sort(ids); return ids }
