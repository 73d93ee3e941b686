package policy

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"enclave/wire"
)

func sys(id string, n byte, tags ...wire.Tag) System {
	return System{ID: wire.SystemID(id), IPs: []netip.Addr{netip.AddrFrom4([4]byte{100, 64, 0, n})}, Tags: tags, Approved: true, Enabled: true}
}

func direct(id string, from, to []wire.Tag, acls ...wire.ACL) wire.Policy {
	if acls == nil {
		acls = []wire.ACL{{Proto: wire.Any}}
	}
	return wire.Policy{ID: wire.PolicyID(id), Kind: wire.Direct, Enabled: true, SenderTags: from, ReceiverTags: to, ACLs: acls}
}

func tcp(n byte, port uint16) Packet {
	return Packet{Src: netip.AddrFrom4([4]byte{100, 64, 0, n}), Dst: netip.AddrFrom4([4]byte{100, 64, 0, 2}), Proto: wire.TCP, DstPort: port}
}

type ids = []wire.SystemID

func want(t *testing.T, what string, got, expected any) {
	t.Helper()
	if !reflect.DeepEqual(got, expected) {
		t.Errorf("%s: got %v, want %v", what, got, expected)
	}
}

// A change names those it concerns and nobody else.
func TestAffectedIsProportional(t *testing.T) {
	e := New()
	for i := range 10 { // a world that the changes below do not touch
		e.PutSystem(sys(fmt.Sprintf("far%02d", i), byte(100+i), "far"), epoch)
	}
	mustPut(t, e, direct("far", []wire.Tag{"far"}, []wire.Tag{"far"}), epoch)
	e.PutSystem(sys("alice", 1, "dev"), epoch)
	want(t, "nobody opposite", e.PutSystem(sys("podbb", 2, "pod"), epoch), ids(nil))
	want(t, "new policy", mustPut(t, e, direct("p", []wire.Tag{"dev"}, []wire.Tag{"pod"}), epoch), ids{"alice", "podbb"})
	p := direct("p", []wire.Tag{"dev"}, []wire.Tag{"pod"})
	p.Name, p.Notes = "dev for pod", "a name grants nothing"
	want(t, "new name", mustPut(t, e, p, epoch), ids(nil))
	want(t, "same system", e.PutSystem(sys("alice", 1, "dev"), epoch), ids(nil))
	want(t, "useless tag", e.PutSystem(sys("alice", 1, "dev", "idle"), epoch), ids(nil))
	want(t, "joins", e.PutSystem(sys("carol", 3, "dev"), epoch), ids{"carol", "podbb"})
	want(t, "trust of a tag", e.PutTag(Tag{"dev", []string{"mfa"}}, epoch), ids{"alice", "carol", "podbb"})
	want(t, "trust that nobody meets is no change", e.PutTag(Tag{"dev", []string{"mfa", "ip"}}, epoch), ids(nil))
	e.PutTag(Tag{"dev", nil}, epoch)
	want(t, "another sender tag", mustPut(t, e, direct("p", []wire.Tag{"dev", "guest"}, []wire.Tag{"pod"}), epoch), ids(nil))
	e.PutSystem(sys("guest", 4, "guest"), epoch)
	want(t, "a sender tag less", mustPut(t, e, direct("p", []wire.Tag{"dev"}, []wire.Tag{"pod"}), epoch), ids{"guest", "podbb"})
	want(t, "the receiver goes, all senders lose it", e.PutSystem(sys("podbb", 2), epoch), ids{"alice", "carol", "podbb"})
	e.PutSystem(sys("podbb", 2, "pod"), epoch)
	want(t, "leaves", e.DropSystem("carol", epoch), ids{"carol", "podbb"})
	want(t, "drop", e.DropPolicy("p", epoch), ids{"alice", "podbb"})
	want(t, "nothing to drop", e.DropPolicy("p", epoch), ids(nil))
}

func TestRefusedPolicyChangesNothing(t *testing.T) {
	e := New()
	e.PutSystem(sys("alice", 1, "dev"), epoch)
	e.PutSystem(sys("podbb", 2, "pod"), epoch)
	mustPut(t, e, direct("p", []wire.Tag{"dev"}, []wire.Tag{"pod"}), epoch)
	bad := direct("p", []wire.Tag{"dev", "dev"}, []wire.Tag{"NO"}, wire.ACL{Proto: wire.Any, Ports: wire.Ports{{Lo: 1, Hi: 2}}})
	named, problems := e.PutPolicy(bad, epoch)
	if len(problems) != 3 || named != nil {
		t.Errorf("named %v, problems %v", named, problems)
	}
	if v := e.Evaluate(tcp(1, 80), epoch); !v.Allow {
		t.Errorf("the policy before is gone: %+v", v)
	}
	if _, problems := e.PutPolicy(direct("", nil, nil), epoch); len(problems) != 1 || problems[0].Path != "id" {
		t.Errorf("a policy without ID: %v", problems)
	}
}

// A gateway's own new address is cut out of what it carries.
func TestGatewayMoves(t *testing.T) {
	e := New()
	e.PutSystem(sys("alice", 1, "dev"), epoch)
	g := sys("gate1", 9)
	e.PutSystem(g, epoch)
	mustPut(t, e, wire.Policy{ID: "p", Kind: wire.Gateway, Enabled: true, SenderTags: []wire.Tag{"dev"}, ACLs: []wire.ACL{{Proto: wire.Any}},
		Gateways: []wire.GatewayRoute{{System: "gate1", Subnets: []string{"10.0.0.0/30"}}}}, epoch)
	want(t, "before", fmt.Sprint(e.Pairs("alice", epoch, epoch)[0].Grants[0].Subnets), "[10.0.0.0/30]")
	g.IPs = []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	want(t, "named", e.PutSystem(g, epoch), ids{"alice", "gate1"})
	want(t, "after", fmt.Sprint(e.Pairs("alice", epoch, epoch)[0].Grants[0].Subnets), "[10.0.0.0/32 10.0.0.2/31]")
}

// A grant ends with whatever ends first, and Advance comes exactly then.
func TestGrantsEndOnTime(t *testing.T) {
	h := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Hour) } // 06:00 UTC, Saturday
	e := New()
	s := sys("alice", 1, "dev")
	s.Trust = map[string]time.Time{"mfa": h(30)}
	e.PutSystem(s, epoch)
	r := sys("podbb", 2, "pod")
	r.ExpiresAt = h(28)
	e.PutSystem(r, epoch)
	p := direct("p", []wire.Tag{"dev"}, []wire.Tag{"pod"})
	p.SenderTrust = []string{"mfa"}
	p.ActiveHours = wire.Windows{{Zone: "UTC", Days: []string{"sat", "sun"}, Start: "06:00", End: "08:00"}, {Zone: "UTC", Days: []string{"sun"}, Start: "09:00", End: "18:00"}}
	mustPut(t, e, p, epoch)

	var got [][2]time.Time
	for _, g := range e.Pairs("alice", epoch, h(48))[0].Grants {
		got = append(got, [2]time.Time{g.NotBefore, g.NotAfter})
	}
	want(t, "openings", got, [][2]time.Time{{{}, h(2)}, {h(24), h(26)}, {h(27), h(28)}})
	want(t, "up to a horizon", len(e.Pairs("alice", epoch, h(24))[0].Grants), 1)

	for _, at := range []time.Time{h(2), h(24), h(26), h(27), h(28)} {
		_, next := e.Advance(at.Add(-1))
		want(t, "next edge", next, at)
		named, _ := e.Advance(at)
		want(t, fmt.Sprint("named at ", at), named, ids{"alice", "podbb"})
	}
	if e.Introduced("alice", "podbb", h(28)) || !e.Introduced("podbb", "alice", h(28).Add(-1)) {
		t.Error("an expiry takes effect at its instant, not before and not after")
	}
}

// Trust of a tag counts where that tag contributes, and only there.
func TestTagTrust(t *testing.T) {
	e := New()
	a, b := sys("alice", 1, "dev", "ops"), sys("podbb", 2, "pod")
	e.PutSystem(a, epoch)
	e.PutSystem(b, epoch)
	mustPut(t, e, direct("p1", []wire.Tag{"dev"}, []wire.Tag{"pod"}), epoch)
	e.PutTag(Tag{"dev", []string{"mfa"}}, epoch)
	v := e.Evaluate(tcp(1, 80), epoch)
	want(t, "unmet", v.Why, `system alice does not meet "mfa", which tag dev requires`)
	mustPut(t, e, direct("p2", []wire.Tag{"dev", "ops"}, []wire.Tag{"pod"}), epoch)
	want(t, "through the other tag", e.Evaluate(tcp(1, 80), epoch).Policy, wire.PolicyID("p2"))
	e.DropPolicy("p2", epoch)
	a.Trust = map[string]time.Time{"mfa": epoch.Add(time.Hour)}
	e.PutSystem(a, epoch)
	want(t, "met", e.Evaluate(tcp(1, 80), epoch).Allow, true)
	want(t, "at its end", e.Evaluate(tcp(1, 80), epoch.Add(time.Hour)).Allow, false)
	mustPut(t, e, direct("p3", []wire.Tag{"dev", "ops"}, []wire.Tag{"pod"}), epoch)
	e.PutTag(Tag{"ops", []string{"ip"}}, epoch)
	a.Trust["ip"] = epoch.Add(2 * time.Hour)
	e.PutSystem(a, epoch)
	want(t, "until the last tag ends", e.Pairs("alice", epoch, epoch)[0].Grants[1].NotAfter, epoch.Add(2*time.Hour))
	e.DropPolicy("p3", epoch)
	delete(a.Trust, "ip")
	e.PutSystem(a, epoch)
	e.PutTag(Tag{"pod", []string{"ip"}}, epoch)
	want(t, "at the receiver", e.Evaluate(tcp(1, 80), epoch).Why, `system podbb does not meet "ip", which tag pod requires`)
}

func TestState(t *testing.T) {
	at := epoch.Add(time.Hour)
	e := New()
	off := direct("off", nil, nil)
	off.Enabled = false
	old := direct("old", nil, nil)
	old.ExpiresAt = &epoch
	none := direct("none", nil, nil, []wire.ACL{}...)
	none.ACLs = nil
	closed := direct("closed", nil, nil)
	closed.ActiveHours = wire.Windows{{Zone: "UTC", Days: []string{}, Start: "00:00", End: "24:00"}}
	for _, p := range []wire.Policy{off, old, none, closed, direct("on", nil, nil)} {
		mustPut(t, e, p, at)
	}
	for id, state := range map[wire.PolicyID]string{"off": Disabled, "old": Expired, "none": NoRules, "closed": OutsideHours, "on": Active, "nobody": ""} {
		want(t, string(id), e.State(id, at), state)
	}
}

// The engine keeps its own copy of what it is given.
func TestCallersMayWriteOn(t *testing.T) {
	e := New()
	s, p := sys("alice", 1, "dev"), direct("p", []wire.Tag{"dev"}, []wire.Tag{"pod"}, wire.ACL{Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 80}}})
	e.PutSystem(s, epoch)
	e.PutSystem(sys("podbb", 2, "pod"), epoch)
	mustPut(t, e, p, epoch)
	s.Tags[0], p.SenderTags[0], p.ACLs[0].Ports[0].Lo = "x", "x", 1
	if v := e.Evaluate(tcp(1, 80), epoch); !v.Allow || e.Evaluate(tcp(1, 22), epoch).Allow {
		t.Errorf("%+v", v)
	}
}

func TestRangesBecomePrefixes(t *testing.T) {
	for in, out := range map[string]string{
		"10.0.0.1 - 10.0.0.9":                        "[10.0.0.1/32 10.0.0.2/31 10.0.0.4/30 10.0.0.8/31]",
		"0.0.0.0-255.255.255.255":                    "[0.0.0.0/0]",
		"255.255.255.254 - 255.255.255.255":          "[255.255.255.254/31]",
		"::1 - ::1":                                  "[::1/128]",
		"::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": "[::/0]",
	} {
		got, _, err := parseFilter(in)
		want(t, in, fmt.Sprint(got, err), out+" <nil>")
	}
	whole := subtract([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, []netip.Prefix{netip.MustParsePrefix("128.0.0.0/2")})
	want(t, "subtract", fmt.Sprint(tidy(whole)), "[0.0.0.0/1 192.0.0.0/2]")
}

// On the last day of a leap year beyond its tables package time gives bounds that have
// passed; a search that trusts them never ends.
func TestHoursOnTheLastDayOfALeapYear(t *testing.T) {
	for _, zones := range [][]string{{"America/New_York"}, {"America/New_York", "Europe/London", "Asia/Tokyo"}} {
		var ws wire.Windows
		for _, z := range zones {
			ws = append(ws, wire.Window{Zone: z, Days: dayNames[:], Start: "09:00", End: "17:00"})
		}
		h, err := compileHours(ws, time.LoadLocation)
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld()
		for _, year := range []int{2028, 2040, 2096} {
			for at := time.Date(year, 12, 30, 0, 0, 0, 0, time.UTC); at.Year() < year+1; at = at.Add(grid) {
				was, next := w.inHours(wire.Policy{ActiveHours: ws}, at), at.Add(grid)
				for w.inHours(wire.Policy{ActiveHours: ws}, next) == was {
					next = next.Add(grid)
				}
				if edge := h.change(at); !edge.Equal(next) {
					t.Fatalf("%v after %v: %v, want %v", zones, at, edge, next)
				}
			}
		}
	}
}

func TestZoneNames(t *testing.T) {
	n := 0
	for name := range slices.Values(zoneList()) {
		if _, err := time.LoadLocation(name); err != nil || !isZone(name) {
			t.Errorf("%s: %v", name, err)
		}
		n++
	}
	if n < 500 {
		t.Errorf("%d zones", n)
	}
	for _, name := range []string{"", "Local", "UTC\n", "\n", "Africa", "Europe/Londo", "localtime", "posixrules", "Factory", "UTC\nWET"} {
		if isZone(name) {
			t.Errorf("%q is a zone", name)
		}
	}
}

func zoneList() []string { return strings.Fields(zoneNames) }

// TestGrantsSayWhatEndsThem: of every clock that may come first.
func TestGrantsSayWhatEndsThem(t *testing.T) {
	at := func(h int) time.Time { return epoch.Add(time.Duration(h) * time.Hour) }
	hours := wire.Windows{{Zone: "UTC", Days: dayNames[:], Start: epoch.Add(-time.Hour).Format("15:04"), End: at(5).Format("15:04")}}
	for _, c := range []struct {
		expires, sender, receiver, trust time.Time
		hours                            wire.Windows
		want                             wire.Clock
	}{
		{want: ""},
		{expires: at(1), sender: at(2), receiver: at(3), trust: at(4), hours: hours, want: wire.EndsPolicy},
		{expires: at(2), sender: at(1), receiver: at(3), trust: at(4), hours: hours, want: wire.EndsSender},
		{expires: at(2), sender: at(3), receiver: at(1), trust: at(4), hours: hours, want: wire.EndsReceiver},
		{expires: at(2), sender: at(3), receiver: at(4), trust: at(1), hours: hours, want: wire.EndsTrust},
		{expires: at(9), sender: at(8), receiver: at(7), trust: at(6), hours: hours, want: wire.EndsHours},
		{sender: at(5), trust: at(5), hours: hours, want: wire.EndsSender},
	} {
		e := New()
		put := func(id wire.SystemID, tag wire.Tag, expires time.Time) {
			e.PutSystem(System{ID: id, Tags: []wire.Tag{tag}, Approved: true, Enabled: true, ExpiresAt: expires, Trust: map[string]time.Time{"mfa": c.trust}}, epoch)
		}
		put("alice", "laptops", c.sender)
		put("bobby", "servers", c.receiver)
		p := wire.Policy{ID: "p1", Name: "Web", Kind: wire.Direct, Enabled: true, SenderTags: []wire.Tag{"laptops"}, ReceiverTags: []wire.Tag{"servers"},
			ACLs: []wire.ACL{{Proto: wire.TCP}}, SenderTrust: []string{"mfa"}, ActiveHours: c.hours}
		if !c.expires.IsZero() {
			p.ExpiresAt = &c.expires
		}
		if _, problems := e.PutPolicy(p, epoch); len(problems) > 0 {
			t.Fatal(problems)
		}
		g := e.Pairs("alice", epoch, epoch)[0].Grants[0]
		if g.Ends != c.want || g.Name != "Web" {
			t.Errorf("%+v: ends by %q, want %q", g, g.Ends, c.want)
		}
	}
}
