package tui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"
	"github.com/muesli/termenv"

	"enclave/tui/frame"
	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/tui/theme"
	"enclave/wire"
	"enclave/wire/api"
)

var now = time.Date(2026, 3, 27, 10, 0, 0, 0, time.UTC) // a Friday

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

func model(s *server, o Options) *Model {
	r := lipgloss.NewRenderer(nil)
	r.SetColorProfile(termenv.ANSI)
	m := New(Config{Client: s, Theme: theme.New(r, o.ASCII), ReadOnly: o.ReadOnly, Now: now})
	m.Update(load(s)())
	m.Update(records(s.audit))
	return m
}

// press sends keys and runs the commands that come of them to their end.
func press(m *Model, names ...string) {
	for _, n := range names {
		if text, ok := strings.CutPrefix(n, "text:"); ok {
			typed(m, text)
			continue
		}
		if n == "tick" {
			run(m, m.current().Update(screen.Tick{}, &m.state))
			continue
		}
		_, cmd := m.Update(keys.New("x", n).Press())
		run(m, cmd)
		m.View() // as a terminal would: what can be scrolled is known from it
	}
}

func typed(m *Model, text string) {
	_, cmd := m.Update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(text)})
	run(m, cmd)
}

func run(m *Model, cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	switch msg := cmd().(type) {
	case nil, tea.QuitMsg:
	case tea.BatchMsg:
		for _, c := range msg {
			run(m, c)
		}
	default:
		_, next := m.Update(msg)
		run(m, next)
	}
}

// views are what golden frames are taken of, by the keys that lead there.
var views = map[string][]string{
	"overview":      {"1"},
	"systems":       {"2"},
	"system":        {"2", "s", "enter"},
	"system-up":     {"2", "down", "enter"},
	"system-end":    {"2", "down", "enter", "G"},
	"systems-help":  {"2", "?"},
	"systems-two":   {"2", " ", " ", "t"},
	"policies":      {"3"},
	"policy":        {"3", "down", "enter"},
	"policy-new":    {"3", "n"},
	"policy-change": {"3", "d"},
	"policy-edit":   {"3", "down", "c", "text: now", "tick"},
	"policy-full":   {"3", "end", "c", "tab", "tab", "tab"},
	"policy-diff":   {"3", "c", "text:!", "enter"},
	"policy-hours":  {"3", "down", "c", "ctrl+o", " ", " ", "down"},
	"policy-help":   {"3", "?"},
	"form-help":     {"3", "c", "f1"},
	"history":       {"3", "h", "down"},
	"history-diff":  {"3", "h", "down", "enter"},
	"palette":       {":"},
	"explain":       {"4"},
	"explain-why":   {"4", "enter", "text:laptop-ana pod-1 tcp/22", "enter"},
	"flows":         {"5"},
	"flow":          {"5", "enter"},
	"flow-cut":      {"5", "c"},
	"flows-denied":  {"5", "v", "down"},
	"flow-denied":   {"5", "v", "enter"},
	"audit":         {"6"},
	"map":           {"7", "down", "right"},
	"map-lines":     {"7", "m", "down"},
	"map-later":     {"7", "t", "t", "]"},
	"map-tags":      {"7", "v", "down", "right", "right"},
	"map-systems":   {"7", "v", "down", "right", "right", "enter"},
	"map-why":       {"7", "down", "enter"},
	"audit-record":  {"6", "enter"},
	"audit-verify":  {"6", "V"},
	"keys":          {"8"},
	"key":           {"8", "enter"},
	"key-new":       {"8", "n", "text:laptops", "tab", "text:other", "tab"},
	"key-made":      {"8", "n", "text:laptops", "enter", "y"},
	"key-delete":    {"8", "x"},
	"relays":        {"9"},
	"relay":         {"9", "enter"},
	"trust":         {"0"},
	"trust-one":     {"0", "enter"},
	"trust-mark":    {"0", "m", "text:laptop-ana", "tab", "text:8h", "enter"},
	"dns":           {"alt+1", "down"},
	"dns-record":    {"alt+1", "down", "enter"},
	"dns-resolve":   {"alt+1", "r", "text:web.corp.example", "tab", "text:laptop-ana", "enter"},
	"dns-new":       {"alt+1", "n", "text:db.corp.example", "tab", "tab", "text:nobody"},
	"seal":          {"alt+2"},
	"seal-rotate":   {"alt+2", "o"},
	"seal-unlock":   {"alt+2", "u", "text:correct horse"},
	"seal-help":     {"alt+2", "?"},
	"sandbox":       {"alt+3"},
	"sandbox-run":   {"alt+3", "down", "enter"},
	"sandbox-stop":  {"alt+3", "c"},
}

func TestFrames(t *testing.T) {
	for name, path := range views {
		for _, size := range [][2]int{{60, 16}, {80, 24}, {120, 40}} {
			m := model(lab(), Options{})
			press(m, path...)
			frame.Golden(t, fmt.Sprintf("%s-%dx%d", name, size[0], size[1]), m, size[0], size[1])
		}
		m := model(lab(), Options{ASCII: true})
		press(m, path...)
		frame.Golden(t, name+"-ascii", m, 80, 24)
		for _, r := range ansi.Strip(m.View()) {
			if r >= 0x80 {
				t.Errorf("%s: %q in the ASCII profile", name, r)
			}
		}
	}
}

func TestEveryFrameFitsEverySize(t *testing.T) {
	for name, path := range views {
		m := model(lab(), Options{})
		press(m, path...)
		for w := 1; w < 140; w += 7 {
			for h := 1; h < 50; h += 5 {
				m.Update(tea.WindowSizeMsg{Width: w, Height: h})
				t.Run(fmt.Sprintf("%s %dx%d", name, w, h), func(t *testing.T) { frame.Check(t, m.View(), w, h) })
			}
		}
	}
}

func TestEveryBindingHasHelpAndNoneCollide(t *testing.T) {
	m := model(lab(), Options{})
	global := globals()
	for i := range m.screens {
		global = append(global, screenKey(i))
	}
	check := func(name string, sets ...[]keys.Binding) {
		for _, p := range keys.Problems(sets...) {
			t.Errorf("%s: %s", name, p)
		}
	}
	for i, s := range m.screens {
		check(s.Name(), global, s.Keys())
		press(m, screenKey(i).Key(), "?")
		m.Update(tea.WindowSizeMsg{Width: 80, Height: 40})
		view := ansi.Strip(m.View())
		for _, b := range s.Keys() {
			if !strings.Contains(view, b.Key()) || !strings.Contains(view, b.Does) {
				t.Errorf("help of %s does not tell %q", s.Name(), b.Does)
			}
		}
		press(m, "?")
	}
	press(m, "3", "n")
	for i := range m.screens[3:] {
		press(m, "esc", screenKey(3+i).Key(), "/")
		if !m.current().Typing() {
			t.Errorf("/ does not type on %s", m.current().Name())
		}
		check(m.current().Name()+" while typing", []keys.Binding{endKey}, m.current().Keys())
	}
	press(m, "esc", "3", "n")
	check("form", []keys.Binding{endKey}, m.current().Keys())
	check("proposal", []keys.Binding{endKey}, (&proposal{}).keys())
	check("failed proposal", []keys.Binding{endKey}, (&proposal{err: errors.New("x")}).keys())
}

// TestNoKeysCollideAnywhere looks at everything that can be on top of a screen.
func TestNoKeysCollideAnywhere(t *testing.T) {
	for name, path := range views {
		m := model(lab(), Options{})
		press(m, path...)
		if m.change != nil || m.palette != nil || m.help.open {
			continue
		}
		others := []keys.Binding{endKey}
		if !m.current().Typing() {
			others = globals()
			for i := range m.screens {
				others = append(others, screenKey(i))
			}
		}
		for _, p := range keys.Problems(others, m.current().Keys()) {
			t.Errorf("%s: %s", name, p)
		}
	}
}

func TestEveryStateIsAWord(t *testing.T) {
	th := model(lab(), Options{}).state.Theme
	for _, word := range []string{"pending", "connected", "disconnected", "disabled", "revoked", "active", "outside hours", "expired", "inactive: no rules", "ok", "denied", "failed", "in use", "unused", "used up", "open", "locked", "locking", "running", "waiting"} {
		if text := ansi.Strip(th.State(word)); !strings.HasSuffix(text, " "+word) {
			t.Errorf("%q is drawn as %q", word, text)
		}
	}
}

func TestAChangeIsShownBeforeItIsMade(t *testing.T) {
	s := lab()
	m := model(s, Options{})
	press(m, "3", "d")
	view := ansi.Strip(m.View())
	for _, want := range []string{"disable Kubernetes?", "Live flows cut: 1", "laptop-ana → pod-1 tcp/80", "Tests flipped: 1", "Lost: 1"} {
		if !strings.Contains(view, want) {
			t.Errorf("no %q in\n%s", want, view)
		}
	}
	press(m, "esc")
	if len(s.did) > 0 {
		t.Fatalf("esc made the change: %v", s.did)
	}
	press(m, "d", "y")
	if fmt.Sprint(s.did) != "[disable p-Kubernetes]" {
		t.Fatalf("did %v", s.did)
	}
	if view := ansi.Strip(m.View()); !strings.Contains(view, "disabled Kubernetes") {
		t.Errorf("nothing says so:\n%s", view)
	}
}

func TestSeveralSystemsAtOnce(t *testing.T) {
	s := lab()
	m := model(s, Options{})
	press(m, "2", "*", "t")
	typed(m, "web -old")
	press(m, "enter", "y")
	if len(s.did) != 5 || s.did[0] != "tag sys01[web] [old]" {
		t.Fatalf("did %q", s.did)
	}
	press(m, "/")
	typed(m, "newc")
	press(m, "enter", "a", "y")
	if len(s.did) != 6 || s.did[5] != "approve sys03" {
		t.Fatalf("did %q", s.did)
	}
}

func TestAPolicyIsMadeByKeyboard(t *testing.T) {
	s := lab()
	m := model(s, Options{})
	press(m, "3", "n")
	for _, text := range []string{"Web", "laptops", "servers", "tcp/99999"} {
		typed(m, text)
		press(m, "tab")
	}
	if view := ansi.Strip(m.View()); !strings.Contains(view, "✗ port") {
		t.Errorf("a bad port is not said while it is typed:\n%s", view)
	}
	press(m, "enter")
	if m.change != nil {
		t.Fatal("a form with a mistake was sent")
	}
	for range 5 {
		m.Update(tea.KeyMsg{Type: tea.KeyBackspace})
	}
	typed(m, "443 icmp")
	s.err = errors.New("the API does not answer")
	press(m, "enter")
	press(m, "esc") // the server is away: back in the form, nothing lost
	if view := ansi.Strip(m.View()); !strings.Contains(view, "tcp/443 icmp") {
		t.Fatalf("what was typed is lost:\n%s", view)
	}
	s.err = nil
	press(m, "enter", "y")
	if fmt.Sprint(s.did) != "[create Web[laptops] [servers] 2]" {
		t.Fatalf("did %v", s.did)
	}
	if m.current().Typing() {
		t.Error("the form stays open")
	}
}

func TestThePaletteDoesWhatItSays(t *testing.T) {
	s := lab()
	m := model(s, Options{})
	press(m, "4", ":", "text:policies: disab", "enter", "y")
	if fmt.Sprint(s.did) != "[disable p-Kubernetes]" || m.current().Name() != "policies" {
		t.Fatalf("did %v on %s", s.did, m.current().Name())
	}
	press(m, ":", "text:no such thing", "enter", "q")
	if m.palette != nil {
		t.Error("it stays open")
	}
}

func TestReadOnlyChangesNothing(t *testing.T) {
	s := lab()
	m := model(s, Options{ReadOnly: true})
	for i, sc := range m.screens {
		press(m, screenKey(i).Key())
		for _, b := range sc.Keys() {
			if b.Write {
				_, cmd := m.Update(b.Press())
				run(m, cmd)
				press(m, "y", "esc", "esc")
			}
		}
	}
	if len(s.did) > 0 {
		t.Fatalf("did %v", s.did)
	}
}

func TestALostServerKeepsWhatWasRead(t *testing.T) {
	s := lab()
	m := model(s, Options{})
	press(m, "2", "/")
	typed(m, "lap")
	s.err = errors.New("the API does not answer")
	m.state.Now = now.Add(4 * time.Second)
	m.Update(load(s)())
	view := ansi.Strip(m.View())
	if !strings.Contains(view, "no answer for 4s, trying again") || !strings.Contains(view, "laptop-ana") || !strings.Contains(view, "search: lap") {
		t.Errorf("lost something:\n%s", view)
	}
	s.err = nil
	m.Update(load(s)())
	if view := ansi.Strip(m.View()); !strings.Contains(view, "● live") {
		t.Errorf("not found again:\n%s", view)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := model(lab(), Options{})
	for range 1000 {
		m.Update(records(make([]api.AuditRecord, batch)))
	}
	if len(m.state.Audit) > screen.MaxAudit || cap(m.state.Audit) > 4*screen.MaxAudit {
		t.Errorf("%d records kept, room for %d", len(m.state.Audit), cap(m.state.Audit))
	}
}

func TestHostileNamesReachNoTerminal(t *testing.T) {
	s := lab()
	evil := "a\x1b]0;x\x07\u202e\nb"
	for i := range s.org.Systems {
		s.audit[i].Object, s.audit[i].Action = evil, evil
		s.org.Systems[i].Name, s.org.Systems[i].Host.Hostname, s.org.Systems[i].NAT = evil, evil, evil
	}
	s.org.Policies[0].Name, s.audit[29].Actor = evil, evil
	for name, path := range views {
		m := model(s, Options{})
		press(m, path...)
		m.Update(tea.WindowSizeMsg{Width: 120, Height: 40})
		view := m.View()
		if strings.ContainsAny(view, "\a\u202e") || strings.Contains(view, "\x1b]") {
			t.Errorf("%s: an escape sequence came through", name)
		}
		frame.Check(t, view, 120, 40)
	}
}
