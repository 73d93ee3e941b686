package policy

import (
	"errors"
	"strings"
	"testing"
	"time"

	"net/netip"

	"enclave/wire"
)

func TestParseAssertions(t *testing.T) {
	got, bad := ParseAssertions(`
# who gets in
laptop -> web tcp/8080 allow
night shift: tag:ops → db tcp/5432 allow; at 2026-01-03T10:00:00Z deny
a -> b icmp deny # trailing
`)
	if len(bad) > 0 || len(got) != 4 {
		t.Fatalf("%+v, %v", got, bad)
	}
	if a := got[2]; a.From != "tag:ops" || a.To != "db" || a.Port != 5432 || a.Allow || a.At != "2026-01-03T10:00:00Z" || a.Name != "night shift (2)" {
		t.Errorf("the second clause reads as %+v", a)
	}
	for _, line := range []string{"a -> b", "a -> b tcp/80", "a - b tcp/80 allow", "a -> b tcp/80-90 allow", "a -> b ftp allow",
		"a -> b tcp/80 maybe", "a -> b tcp/80 at noon allow", "a -> b tcp/80 allow; deny deny", strings.Repeat("x", 600)} {
		if _, bad := ParseAssertions("\n" + line); len(bad) != 1 || bad[0].Path != "line 2" {
			t.Errorf("%.40q: %v, want one problem in line 2", line, bad)
		}
	}
}

func FuzzAssertions(f *testing.F) {
	f.Add("laptop -> web tcp/8080 allow")
	f.Add("x: tag:ops → db udp/1 at 2026-01-03T10:00:00Z allow; deny")
	f.Fuzz(func(t *testing.T, s string) {
		got, bad := ParseAssertions(s)
		if len(bad) > 0 {
			return
		}
		for _, a := range got {
			if len(ValidateAssertion(&a, "")) > 0 {
				continue // a tcp test without a port parses, and is named by validation
			}
			again, bad := ParseAssertions(FormatAssertion(&a))
			if a.Name = ""; len(bad) > 0 || len(again) != 1 || again[0] != a {
				t.Errorf("%+v writes as %q, which reads as %+v, %v", a, FormatAssertion(&a), again, bad)
			}
		}
	})
}

func TestCheck(t *testing.T) {
	now := time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)
	e := New()
	for i, tags := range [][]wire.Tag{{"dev"}, {"dev"}, {"pods"}} {
		id := wire.SystemID("sys0" + string(rune('a'+i)))
		e.PutSystem(System{ID: id, IPs: []netip.Addr{netip.AddrFrom4([4]byte{100, 64, 0, byte(i + 1)})}, Tags: tags, Approved: true, Enabled: true}, now)
	}
	until := now.Add(time.Hour)
	if _, bad := e.PutPolicy(wire.Policy{ID: "p", Kind: wire.Direct, Enabled: true, SenderTags: []wire.Tag{"dev"}, ReceiverTags: []wire.Tag{"pods"},
		ACLs: []wire.ACL{{Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 80}}}}, ExpiresAt: &until}, now); len(bad) > 0 {
		t.Fatal(bad)
	}
	resolve := func(name string) ([]wire.SystemID, error) {
		switch name {
		case "tag:dev":
			return []wire.SystemID{"sys0a", "sys0b"}, nil
		case "tag:empty":
			return nil, nil
		case "nobody":
			return nil, errors.New("no system nobody")
		}
		return []wire.SystemID{wire.SystemID(name)}, nil
	}
	for line, want := range map[string]bool{
		"sys0a -> sys0c tcp/80 allow":                         true,
		"sys0a -> sys0c tcp/22 deny":                          true,
		"sys0a -> sys0c tcp/22 allow":                         false,
		"tag:dev -> sys0c tcp/80 allow":                       true,
		"tag:dev -> tag:dev tcp/80 deny":                      true,
		"sys0c -> tag:dev tcp/80 allow":                       false,
		"sys0a -> sys0c tcp/80 at 2026-01-05T12:59:59Z allow": true,
		"sys0a -> sys0c tcp/80 at 2026-01-05T13:00:00Z deny":  true,
		"sys0a -> sys0a tcp/80 deny":                          false,
		"tag:empty -> sys0c tcp/80 deny":                      false,
		"nobody -> sys0c tcp/80 deny":                         false,
		"ghost -> sys0c tcp/80 allow":                         false,
	} {
		tests, bad := ParseAssertions(line)
		if len(bad) > 0 {
			t.Fatal(bad)
		}
		if r := e.Check(&tests[0], resolve, now); r.Passed != want || r.Why == "" {
			t.Errorf("%s: %v (%s), want %v", line, r.Passed, r.Why, want)
		}
	}
}
