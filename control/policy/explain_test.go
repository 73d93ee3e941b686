package policy

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"enclave/wire"
)

// FuzzFixes makes each proposed change on its own and asks again: it must allow.
func FuzzFixes(f *testing.F) {
	for seed := range uint64(400) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		d := dice{rand.New(rand.NewPCG(seed, 4))}
		e := randomEngine(t, d)
		at := d.instant(epoch)
		for range 20 {
			q := d.packet()
			q.Reply = false
			x := e.Explain(q.Src, q.Dst, q.Proto, q.DstPort, at)
			if v := e.Evaluate(q, at); v.Allow != x.Allow || v.Why != x.Why || (x.Allow && len(x.Fixes) > 0) {
				t.Fatalf("%+v: explained %+v, verdict %+v", q, x, v)
			}
			for _, x := range e.fixes(q, at) {
				c := e.Clone()
				apply(t, c, x, q, at)
				if v := c.Evaluate(q, at); !v.Allow {
					t.Fatalf("%+v at %v: %+v did not help: %s", q, at, x, v.Why)
				}
			}
		}
	})
}

func randomEngine(t *testing.T, d dice) *Engine {
	e := New()
	for i := range 5 {
		e.PutSystem(d.system(i, epoch), epoch)
	}
	for i := range 4 {
		mustPut(t, e, d.policy(i, epoch), epoch)
	}
	for _, name := range []wire.Tag{"a", "b"} {
		e.PutTag(Tag{name, d.trust()}, epoch)
	}
	return e
}

// apply does what a fix says.
func apply(t *testing.T, e *Engine, x fix, q Packet, at time.Time) {
	t.Helper()
	if x.kind == "policy" {
		acl := wire.ACL{Proto: q.Proto}
		if q.Proto == 0 {
			acl.Proto = wire.Any
		}
		mustPut(t, e, direct("new", e.byAddr[q.Src].Tags, e.byAddr[q.Dst].Tags, acl), at)
		return
	}
	if x.kind == "add each other" {
		for _, ids := range [][2]wire.SystemID{{x.system, x.peer}, {x.peer, x.system}} {
			in := e.systems[ids[0]].System
			in.Adds = append(slices.Clone(in.Adds), ids[1])
			e.PutSystem(in, at)
		}
		return
	}
	if s := e.systems[x.system]; s != nil {
		in := s.System
		switch x.kind {
		case "approve":
			in.Approved = true
		case "enable system":
			in.Enabled = true
		case "extend system":
			in.ExpiresAt = time.Time{}
		case "meet":
			in.Trust = map[string]time.Time{x.requirement: {}}
			for k, v := range s.Trust {
				if k != x.requirement {
					in.Trust[k] = v
				}
			}
		case "add":
			in.Adds = append(slices.Clone(in.Adds), x.peer)
		case "tag":
			in.Tags = append(slices.Clone(in.Tags), x.tag)
		default:
			t.Fatalf("unknown fix %+v", x)
		}
		e.PutSystem(in, at)
		return
	}
	p := clonePolicy(&e.policies[x.policy].doc)
	switch x.kind {
	case "enable":
		p.Enabled = true
	case "extend":
		p.ExpiresAt = nil
	case "hours":
		p.ActiveHours = nil
	case "filter":
		p.SubnetFilter = append(p.SubnetFilter, q.Dst.String())
	case "route":
		i := slices.IndexFunc(p.Gateways, func(g wire.GatewayRoute) bool { return g.System == x.peer })
		p.Gateways[i].Subnets = append(p.Gateways[i].Subnets, q.Dst.String())
	case "rule":
		acl := wire.ACL{Proto: q.Proto}
		if q.Proto == 0 {
			acl.Proto = wire.Any
		}
		p.ACLs = append(p.ACLs, acl)
	default:
		t.Fatalf("unknown fix %+v", x)
	}
	mustPut(t, e, p, at)
}

func TestExplain(t *testing.T) {
	e := New()
	a, b := sys("alice", 1, "dev"), sys("podbb", 2, "pod")
	e.PutSystem(a, epoch)
	e.PutSystem(b, epoch)
	p := direct("p", []wire.Tag{"dev"}, []wire.Tag{"pod"}, wire.ACL{Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 80}}})
	p.ActiveHours = wire.Windows{{Zone: "UTC", Days: []string{"sat"}, Start: "00:00", End: "12:00"}}
	p.SenderTrust = []string{"mfa"}
	mustPut(t, e, p, epoch)

	x := e.Explain(a.IPs[0], b.IPs[0], wire.TCP, 80, epoch)
	var lines []string
	for _, s := range x.Chain {
		mark := "no "
		if s.OK {
			mark = "ok "
		}
		lines = append(lines, mark+s.Check+": "+s.Detail)
	}
	want(t, "chain", strings.Join(lines, "\n"), `ok system: alice counts
ok system: podbb counts
ok enabled: the policy is enabled
ok expiry: the policy has no end
ok hours: inside active hours until 2026-03-28T12:00:00Z
ok rule: rule 0 (tcp 80) matches
ok sender: alice carries tag dev
no trust: sender alice does not meet "mfa"
ok receiver: podbb carries tag pod`)
	want(t, "fixes", x.Fixes, []string{`let alice meet "mfa"`, "add a policy between tags of alice and podbb with a rule for tcp port 80"})

	a.Trust = map[string]time.Time{"mfa": {}}
	e.PutSystem(a, epoch)
	x = e.Explain(a.IPs[0], b.IPs[0], wire.TCP, 80, epoch)
	if !x.Allow || x.Policy != "p" || x.Rule != 0 || x.From != "alice" || x.To != "podbb" || x.Fixes != nil {
		t.Errorf("%+v", x)
	}
	p.SenderTags = []wire.Tag{"ops", "vip", "staff"}
	mustPut(t, e, p, epoch)
	e.PutTag(Tag{"vip", []string{"badge"}}, epoch)
	want(t, "tags that would count", e.Explain(a.IPs[0], b.IPs[0], wire.TCP, 80, epoch).Fixes,
		[]string{"give alice the tag ops", "give alice the tag staff", "add a policy between tags of alice and podbb with a rule for tcp port 80"})
	p.SenderTags = []wire.Tag{"dev"}
	mustPut(t, e, p, epoch)
	want(t, "next Saturday at night", e.Explain(a.IPs[0], b.IPs[0], wire.TCP, 80, epoch.Add(8*24*time.Hour)).Fixes,
		[]string{"widen the active hours of policy p", "add a policy between tags of alice and podbb with a rule for tcp port 80"})
}
