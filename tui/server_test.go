package tui

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"enclave/tui/screen"
	"enclave/wire"
	"enclave/wire/api"
)

// server answers from a fixed organisation and remembers what it was told to change.
type server struct {
	org   screen.Org
	audit []api.AuditRecord
	err   error // of every call
	did   []string
	flows []api.LiveFlow // besides two of its own
}

func (s *server) Revision(context.Context) (api.RevisionStatus, error) { return s.org.Revision, s.err }
func (s *server) Systems(context.Context, url.Values) ([]api.System, error) {
	return s.org.Systems, s.err
}
func (s *server) Policies(context.Context) ([]api.Policy, error) { return s.org.Policies, s.err }
func (s *server) Relays(context.Context) ([]api.Relay, error)    { return s.org.Relays, s.err }
func (s *server) Flows(context.Context) ([]api.LiveFlow, error) {
	f := func(from, to string, bytes uint64) api.LiveFlow { // who is known only by name
		return api.LiveFlow{Flow: wire.Flow{Proto: wire.TCP, Src: netip.AddrPortFrom(netip.MustParseAddr("100.64.0.1"), uint16(40000+bytes%1024)), Dst: netip.MustParseAddrPort("100.64.0.2:80")},
			Names: [2]string{from, to}, PolicyName: "Kubernetes", Bytes: bytes, Since: now}
	}
	list := []api.LiveFlow{f("laptop-ana", "pod-1", 1<<30), f("contractor", "pod-2", 900)}
	list[0].From, list[0].To = "sys01", "sys02"
	return append(list, s.flows...), s.err
}
func (s *server) Denied(context.Context) ([]api.Denied, error) {
	d := func(from, to, reason string, count uint64) api.Denied {
		return api.Denied{ReportedDenial: wire.ReportedDenial{Proto: wire.TCP, Src: netip.MustParseAddr("100.64.0.1"), Dst: netip.MustParseAddrPort("100.64.0.4:5432"),
			Inbound: true, Reason: reason, Count: count, First: now.Add(-time.Hour), Last: now.Add(-time.Minute)}, At: "sys04", AtName: "db", Names: [2]string{from, to}}
	}
	return []api.Denied{d("laptop-ana", "db", "no rule allows it", 12), d("", "db", "no policy introduces the source", 1)}, s.err
}
func (s *server) Paths(context.Context, string) ([]api.PeerPath, error) {
	return []api.PeerPath{{Name: "pod-1", ReportedPeer: wire.ReportedPeer{ID: "sys02", Route: "direct", Via: "203.0.113.9:41641", RTT: 12 * time.Millisecond, Received: 1 << 21, Sent: 1 << 12, LastHandshake: now.Add(-time.Minute)}},
		{Name: "db", ReportedPeer: wire.ReportedPeer{ID: "sys04", Route: "relay", Via: "relay1", RTT: 48 * time.Millisecond, WhyNotDirect: "hard-nat", Why: "both NATs choose ports by destination"}}}, s.err
}
func (s *server) Access(_ context.Context, system string, at time.Time) (api.SystemAccess, error) {
	id := wire.SystemID(system)
	return api.SystemAccess{At: at, Items: []api.Access{
		{From: id, To: "sys02", Names: [2]string{"", "pod-1"}, Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 80}}, PolicyName: "Kubernetes"},
		{From: "sys04", To: id, Names: [2]string{"db", ""}, Proto: wire.ICMP, PolicyName: "Backups"}}}, s.err
}
func (s *server) CutFlow(_ context.Context, dry bool, f *api.LiveFlow) (api.Impact, error) {
	return s.change(dry, fmt.Sprint("cut ", f.Names, f.Dst))
}
func (s *server) Forecast(context.Context, int) ([]api.Coming, error) {
	return s.org.Coming, s.err
}
func (s *server) Explain(context.Context, string, string, wire.Proto, uint16, time.Time) (api.Explanation, error) {
	return api.Explanation{At: now, Why: "no active policy lets laptop-ana open tcp/22 to pod-1", Fixes: []string{"add tcp/22 to the rules of Kubernetes"}, Chain: []api.Step{
		{Check: "system", OK: true, Detail: "laptop-ana is approved and enabled"}, {Policy: "p1", Name: "Kubernetes", Check: "sender", OK: true, Detail: "laptop-ana carries developers"},
		{Policy: "p1", Name: "Kubernetes", Check: "rule", Detail: "tcp/80 does not cover tcp/22"}}}, s.err
}
func (s *server) Graph(_ context.Context, at time.Time, from, to wire.Tag) (api.Graph, error) {
	g := api.Graph{At: at}
	for i := range s.org.Systems {
		sys := &s.org.Systems[i]
		if sys.State != wire.Revoked && (from == "" || slices.Contains(sys.Tags, from) || slices.Contains(sys.Tags, to)) {
			g.Nodes = append(g.Nodes, api.Node{ID: sys.ID, Name: sys.Name, Tags: sys.Tags})
		}
	}
	if at.IsZero() {
		g.Edges = append(g.Edges, api.Access{From: "sys01", To: "sys02", Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 80}}, Policy: "p-Kubernetes", PolicyName: "Kubernetes"})
	}
	g.Edges = append(g.Edges, api.Access{From: "sys01", To: "sys04", Proto: wire.Any, Policy: "p-full", PolicyName: "Everything", Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		api.Access{From: "sys02", To: "sys04", Proto: wire.Any, Policy: "p-b", PolicyName: "Backups", Rule: 1})
	return g, s.err
}
func (s *server) TagGraph(_ context.Context, at time.Time) (api.TagGraph, error) {
	return api.TagGraph{At: at, Tags: []api.TagCount{{Tag: "databases", Systems: 30}, {Tag: "developers", Systems: 900}, {Tag: "pods", Systems: 1000}}, Untagged: 3, Edges: []api.TagAccess{
		{From: "developers", To: "pods", Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 80}}, Policy: "p-Kubernetes", PolicyName: "Kubernetes", Senders: 880, Receivers: 1000},
		{From: "developers", Gateway: "sys04", GatewayName: "db", Proto: wire.Any, Policy: "p-full", PolicyName: "Everything", Senders: 900, Receivers: 1, Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}}, s.err
}
func (s *server) Audit(_ context.Context, q url.Values, _ int) ([]api.AuditRecord, error) {
	if q.Get("action") == "run.*" {
		return runRecords(), s.err
	}
	if q.Get("action") != "" {
		return nil, s.err
	}
	return s.audit, s.err
}
func (s *server) FollowAudit(ctx context.Context, _ url.Values, _ int64, _ func(*api.AuditRecord) error) error {
	<-ctx.Done()
	return ctx.Err()
}

func (s *server) VerifyAudit(_ context.Context, progress func(done, total int64)) (screen.Verified, error) {
	progress(20, 30)
	v := screen.Verified{First: 1, Last: 30, Proven: 30, Origin: "enclave/org", Root: "c0ffee", Key: "enclave/org+1234+abcd", Sealed: 2}
	if s.audit[3].Actor == "mallory" {
		v.Wrong, v.Proven = "record 3 was changed: its hash is not the one that record 4 names", 2
	}
	return v, s.err
}

func (s *server) change(dry bool, what string) (api.Impact, error) {
	if s.err != nil {
		return api.Impact{}, s.err
	}
	if !dry {
		s.did = append(s.did, what)
		return api.Impact{}, nil
	}
	a := api.Access{Names: [2]string{"laptop-ana", "pod-1"}, Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 80}}, PolicyName: "Kubernetes"}
	f := api.LiveFlow{Flow: wire.Flow{Proto: wire.TCP, Dst: netip.MustParseAddrPort("100.64.0.2:80")}, Names: [2]string{"laptop-ana", "pod-1"}}
	t := api.TestResult{Why: "no policy allows it"}
	t.Name = "ana reaches pod-1"
	return api.Impact{Lost: []api.Access{a}, LostCount: 1, Flows: []api.LiveFlow{f}, Tests: []api.TestResult{t}}, nil
}

func (s *server) SystemVerb(_ context.Context, dry bool, name, verb string) (api.Impact, error) {
	return s.change(dry, verb+" "+name)
}
func (s *server) Tag(_ context.Context, dry bool, name string, add, remove []wire.Tag) (api.Impact, error) {
	return s.change(dry, fmt.Sprint("tag ", name, add, remove))
}
func (s *server) Expire(_ context.Context, dry bool, name string, u api.SystemUpdate) (api.Impact, error) {
	return s.change(dry, fmt.Sprint("expire ", name, u.Never, u.ExpiresAt))
}
func (s *server) PolicyVerb(_ context.Context, dry bool, name, verb string) (api.Impact, error) {
	return s.change(dry, verb+" "+name)
}
func (s *server) Save(_ context.Context, dry bool, in screen.Saving) (api.Impact, error) {
	p := &in.Policy
	if p.Name == "Taken" {
		return api.Impact{}, &api.Problem{Title: "the policy has mistakes", Code: api.CodeInvalid, Problems: []wire.Problem{{Path: "name", Message: "is another policy's"}}}
	}
	if p.ID == "" {
		return s.change(dry, fmt.Sprint("create ", p.Name, p.SenderTags, p.ReceiverTags, len(p.ACLs)))
	}
	text, err := json.Marshal(p)
	if err != nil {
		return api.Impact{}, err
	}
	return s.change(dry, fmt.Sprintf("save %d %s %s", in.Version, in.ConfirmWithin, text))
}
func (s *server) Confirm(_ context.Context, dry bool) (api.Impact, error) {
	return s.change(dry, "confirm")
}
func (s *server) Restore(_ context.Context, dry bool, rev wire.Revision) (api.Impact, error) {
	return s.change(dry, fmt.Sprint("restore ", rev))
}
func (s *server) History(_ context.Context, limit int) ([]api.RevisionEntry, error) {
	var out []api.RevisionEntry
	for i := range min(limit, 20) {
		out = append(out, api.RevisionEntry{Revision: wire.Revision(40 - 2*i), At: now.Add(-time.Duration(i) * time.Hour), Author: "admin", Action: "policy.update", ObjectName: "Kubernetes", Reason: "ticket 12"})
	}
	return out, s.err
}
func (s *server) Compare(_ context.Context, from, to wire.Revision) (api.SetDiff, error) {
	return api.SetDiff{From: from, To: max(to, 40), Changes: []api.PartChange{
		{Part: "policy", Name: "Kubernetes", Change: "changed", Before: json.RawMessage(`{"type":"direct","enabled":true,"acls":[{"protocol":"tcp","ports":"80"}]}`), After: json.RawMessage(`{"type":"direct","enabled":false,"acls":[{"protocol":"tcp","ports":"80,443"}]}`)},
		{Part: "tag", ID: "web", Change: "added", After: json.RawMessage(`{"name":"web","trust_requirements":["mfa"]}`)}}}, s.err
}

func lab() *server {
	sys := func(i int, name string, state wire.SystemState, tags ...wire.Tag) api.System {
		seen := now.Add(-time.Duration(i) * time.Hour)
		return api.System{ID: wire.SystemID(fmt.Sprintf("sys0%d", i)), Name: name, State: state, Kind: "general", Tags: tags, NAT: "easy",
			IPv4: netip.AddrFrom4([4]byte{100, 64, 0, byte(i)}), IPv6: netip.MustParseAddr(fmt.Sprintf("fd00::%d", i)), SeenFrom: "203.0.113.6",
			Host: wire.Host{Hostname: name + ".local", Platform: "linux"}, EnrolledAt: now.Add(-48 * time.Hour), LastSeen: &seen, Applied: 12}
	}
	expires := now.Add(8 * time.Hour)
	pol := func(name, state string, enabled bool) api.Policy {
		return api.Policy{State: state, Version: 9, Policy: wire.Policy{ID: wire.PolicyID("p-" + name), Name: name, Kind: wire.Direct, Enabled: enabled,
			SenderTags: []wire.Tag{"developers"}, ReceiverTags: []wire.Tag{"pods"}, ACLs: []wire.ACL{{Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 80}}}}}}
	}
	hours := pol("Office hours", "outside hours", true)
	hours.ActiveHours = wire.Windows{{Zone: "Europe/London", Days: []string{"mon", "tue"}, Start: "22:00", End: "02:00"}}
	kube := pol("Kubernetes", "active", true)
	kube.ExpiresAt = &expires
	s := &server{org: screen.Org{
		Revision: api.RevisionStatus{Revision: 12, At: now, Waiting: []wire.SystemID{"sys02"}},
		Systems: []api.System{sys(1, "laptop-ana", wire.Connected, "developers"), sys(2, "pod-1", wire.Connected, "pods", "web"),
			sys(3, "newcomer", wire.Pending), sys(4, "db", wire.Disconnected, "databases"), sys(5, "old", wire.Revoked)},
		Policies: []api.Policy{kube, hours, pol("Backups", "disabled", false), full()},
		Relays:   []api.Relay{{Relay: wire.Relay{ID: "r3lay", Addr: "relay.example:443", STUN: []string{"192.0.2.1:3478", "192.0.2.1:3479"}}, Name: "far", EnrolledAt: now.Add(-72 * time.Hour)}},
		Coming:   []api.Coming{{At: expires, Kind: "expires", Object: "policy", Name: "Kubernetes"}},
	}}
	for i := range 30 {
		s.audit = append(s.audit, api.AuditRecord{Seq: int64(i), At: now.Add(time.Duration(i-30) * time.Second), Actor: "admin", Action: "policy.update", Object: "Kubernetes", Outcome: "ok"})
	}
	s.audit[29].Outcome, s.audit[29].Action = "denied", "auth.deny"
	return s
}

// full is a policy with every field set.
func full() api.Policy {
	ends, local := now.Add(8*time.Hour), wire.LocalTime{Time: "2026-03-27T19:00", Zone: "Europe/Berlin"}
	return api.Policy{State: "active", Version: 11, Policy: wire.Policy{ID: "p-full", Name: "Everything", Kind: wire.Gateway, Enabled: true,
		SenderTags: []wire.Tag{"developers", "web"}, ACLs: []wire.ACL{{Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 80}, {Lo: 8000, Hi: 8100}}, Description: `the "web"`}, {Proto: wire.ICMP}},
		ExpiresAt: &ends, ExpiresLocal: &local, ExpiryAction: wire.DeleteOnExpiry, SenderTrust: []string{"mfa", "office"}, RecvTrust: []string{"disk"},
		ActiveHours:  wire.Windows{{Zone: "Europe/London", Days: []string{"fri", "mon"}, Start: "08:15", End: "18:00"}, {Zone: "UTC", Days: []string{}, Start: "01:00", End: "02:00"}},
		Gateways:     []wire.GatewayRoute{{System: "sys04", Subnets: []string{"192.168.1.0/24", "10.0.0.0/8"}}, {System: "gone0", Subnets: []string{}}},
		SubnetFilter: []string{"10.0.0.1 - 10.0.0.9", "db.corp"}, Priority: "ordered", Notes: "one\n\ttwo \\n  "}}
}
