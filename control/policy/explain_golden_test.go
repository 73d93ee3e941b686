package policy

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// A situation changes a small office: alice of dev reaches podbb of pod by tcp 80 and 443
// on weekdays from 8 to 18 in London, with mfa. gw001 carries 192.168.1.0/24 for dev,
// narrowed to its first half. bobby and carol have no tags.
type situation struct {
	name     string
	change   func(w *office)
	from, to string
	proto    wire.Proto
	port     uint16
	at       time.Time // default: a Monday, 10:00 in London
}

type office struct {
	alice, pod, gate, bobby, carol System
	web, lan                       wire.Policy
	tags                           []Tag
}

func theOffice() *office {
	o := &office{
		alice: sys("alice", 1, "dev"), pod: sys("podbb", 2, "pod"), gate: sys("gw001", 3, "gates"), bobby: sys("bobby", 4), carol: sys("carol", 5),
		web: direct("web", []wire.Tag{"dev"}, []wire.Tag{"pod"}, wire.ACL{Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 80}, {Lo: 443, Hi: 443}}}, wire.ACL{Proto: wire.ICMP}),
		lan: wire.Policy{ID: "lan", Kind: wire.Gateway, Enabled: true, SenderTags: []wire.Tag{"dev"}, ACLs: []wire.ACL{{Proto: wire.Any}},
			Gateways: []wire.GatewayRoute{{System: "gw001", Subnets: []string{"192.168.1.0/24"}}}, SubnetFilter: []string{"192.168.1.0/25"}},
	}
	o.alice.Trust = map[string]time.Time{"mfa": {}}
	o.web.SenderTrust = []string{"mfa"}
	o.web.ActiveHours = wire.Windows{{Zone: "Europe/London", Days: dayNames[:5], Start: "08:00", End: "18:00"}}
	return o
}

func situations() []situation {
	monday := time.Date(2026, 6, 1, 9, 0, 0, 0, time.UTC)
	past := monday.Add(-time.Hour)
	web := func(name string, change func(o *office)) situation {
		return situation{name, change, "alice", "podbb", wire.TCP, 443, monday}
	}
	nothing := func(*office) {}
	return []situation{
		web("allowed", nothing),
		{"no shared policy", nothing, "alice", "bobby", wire.TCP, 22, monday},
		{"only the other way", nothing, "podbb", "alice", wire.TCP, 443, monday},
		web("policy disabled", func(o *office) { o.web.Enabled = false }),
		web("policy expired", func(o *office) { o.web.ExpiresAt = &past }),
		web("policy without rules", func(o *office) { o.web.ACLs = nil }),
		{"outside hours", nothing, "alice", "podbb", wire.TCP, 443, monday.Add(-48 * time.Hour)},
		web("trust unmet on the sender", func(o *office) { o.alice.Trust = nil }),
		web("trust of the sender ended", func(o *office) { o.alice.Trust["mfa"] = past }),
		web("trust unmet on the receiver", func(o *office) { o.web.RecvTrust = []string{"office"} }),
		web("trust unmet on the tag", func(o *office) { o.tags = []Tag{{"pod", []string{"patched"}}} }),
		{"no rule for the port", nothing, "alice", "podbb", wire.TCP, 22, monday},
		web("sender expired", func(o *office) { o.alice.ExpiresAt = past }),
		web("receiver pending", func(o *office) { o.pod.Approved = false }),
		web("receiver disabled", func(o *office) { o.pod.Enabled = false }),
		web("sender revoked", func(o *office) { o.alice.Revoked = true }),
		web("two things at once", func(o *office) { o.pod.Enabled, o.web.Enabled = false, false }),
		{"behind a gateway", nothing, "alice", "192.168.1.7", wire.UDP, 53, monday},
		{"outside the filter of a gateway", nothing, "alice", "192.168.1.200", wire.UDP, 53, monday},
		{"outside the subnets of a gateway", func(o *office) { o.lan.SubnetFilter = nil }, "alice", "10.1.1.1", wire.TCP, 22, monday},
		{"gateway disabled", func(o *office) { o.gate.Enabled = false }, "alice", "192.168.1.7", wire.TCP, 22, monday},
		{"what no gateway may carry", func(o *office) { o.lan.SubnetFilter = nil }, "alice", "169.254.169.254", wire.TCP, 80, monday},
		{"from behind a gateway", nothing, "192.168.1.7", "alice", wire.TCP, 22, monday},
		{"both ends unknown", nothing, "100.64.9.1", "100.64.9.2", wire.TCP, 22, monday},
		{"unmanaged, neither added", nothing, "bobby", "carol", wire.TCP, 22, monday},
		{"unmanaged, one added", func(o *office) { o.carol.Adds = []wire.SystemID{"bobby"} }, "bobby", "carol", wire.TCP, 22, monday},
		{"unmanaged, both added", func(o *office) {
			o.carol.Adds, o.bobby.Adds = []wire.SystemID{"bobby"}, []wire.SystemID{"carol"}
		}, "bobby", "carol", wire.TCP, 22, monday},
		{"added, but managed", func(o *office) {
			o.alice.Adds, o.bobby.Adds = []wire.SystemID{"bobby"}, []wire.SystemID{"alice"}
		}, "bobby", "alice", wire.TCP, 22, monday},
	}
}

// TestExplainReads keeps how explanations read, and makes each change that they propose
// on a clone of the engine: it must allow.
func TestExplainReads(t *testing.T) {
	const file = "testdata/explain.golden"
	var out bytes.Buffer
	for _, s := range situations() {
		o, e := theOffice(), New()
		s.change(o)
		addr := func(name string) netip.Addr {
			for _, s := range e.systems {
				if string(s.ID) == name {
					return s.IPs[0]
				}
			}
			return netip.MustParseAddr(name)
		}
		for _, in := range []System{o.alice, o.pod, o.gate, o.bobby, o.carol} {
			e.PutSystem(in, s.at)
		}
		for _, p := range []wire.Policy{o.web, o.lan} {
			mustPut(t, e, p, s.at)
		}
		for _, g := range o.tags {
			e.PutTag(g, s.at)
		}
		q := Packet{Src: addr(s.from), Dst: addr(s.to), Proto: s.proto, DstPort: s.port}
		x := e.Explain(q.Src, q.Dst, s.proto, s.port, s.at)
		fmt.Fprintf(&out, "-- %s --\n%s -> %s %s/%d at %s: %s\n", s.name, s.from, s.to, s.proto, s.port, s.at.Format(time.RFC3339), map[bool]string{true: "allow", false: "deny"}[x.Allow])
		fmt.Fprintf(&out, "  %s\n", x.Why)
		for _, c := range x.Chain {
			fmt.Fprintf(&out, "  %-2s %-6s %-8s %s\n", map[bool]string{true: "ok", false: "no"}[c.OK], c.Policy, c.Check, c.Detail)
		}
		for _, f := range x.Fixes {
			fmt.Fprintf(&out, "  fix: %s\n", f)
		}
		if x.Allow {
			continue
		}
		if ok := slices.ContainsFunc(x.Chain, func(c api.Step) bool { return !c.OK }); !ok {
			t.Errorf("%s: denied, and every step is ok", s.name)
		}
		for _, f := range e.fixes(q, s.at) {
			c := e.Clone()
			apply(t, c, f, q, s.at)
			if v := c.Evaluate(q, s.at); !v.Allow {
				t.Errorf("%s: %q did not help: %s", s.name, f.text, v.Why)
			}
		}
	}
	if *update {
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, is := readSections(out.String())
	_, was := readSections(string(golden))
	for i := range is {
		if i >= len(was) || is[i] != was[i] {
			t.Errorf("%s reads\n%s", is[i].name, strings.TrimSpace(is[i].text))
		}
	}
	if len(was) != len(is) {
		t.Errorf("%d situations, %d kept", len(is), len(was))
	}
}
