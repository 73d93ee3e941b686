package tui

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"

	"enclave/tui/screen"
	"enclave/wire"
	"enclave/wire/api"
)

// What the stewards' screens read of the fixed organisation.

func (s *server) Keys(context.Context) ([]api.Key, error) {
	left, ends := 3, now.Add(24*time.Hour)
	past, none := now.Add(-time.Hour), 0
	return []api.Key{
		{ID: "k-laptops", Name: "laptops", Kind: "general", Approval: "automatic", Uses: &left, Used: 7, Tags: []wire.Tag{"developers"}, Enabled: true, ExpiresAt: &ends, ExpiryAction: "delete", Sources: []string{"192.0.2.0/24"}, CreatedAt: now.Add(-48 * time.Hour)},
		{ID: "k-ci", Name: "ci", Kind: "ephemeral", Approval: "automatic", Used: 412, Tags: []wire.Tag{"builders"}, Enabled: true, Retention: 300, CreatedAt: now},
		{ID: "k-old", Name: "old", Kind: "general", Approval: "manual", Enabled: true, ExpiresAt: &past, CreatedAt: now},
		{ID: "k-spent", Name: "spent", Kind: "relay", Approval: "automatic", Uses: &none, Used: 1, Enabled: true, CreatedAt: now},
		{ID: "k-off", Name: "off", Kind: "general", Approval: "manual", CreatedAt: now},
	}, s.err
}

func (s *server) CreateKey(_ context.Context, k api.KeyCreate) (api.KeyCreated, error) {
	_, err := s.change(false, fmt.Sprint("key ", k.Name, k.Tags, k.Approval, k.ExpiresAt != nil))
	return api.KeyCreated{Key: api.Key{Name: k.Name}, Secret: "enclave-key-0123456789abcdefghijklmnopqrstuvwxyz-0123456789"}, err
}

func (s *server) KeyVerb(_ context.Context, dry bool, id, verb string) (api.Impact, error) {
	if dry {
		return api.Impact{}, s.err
	}
	return s.change(dry, verb+" "+id)
}

func (s *server) Requirements(context.Context) ([]api.Requirement, error) {
	return []api.Requirement{
		{Requirement: wire.Requirement{ID: "mfa", Kind: "user-authentication", Authority: "https://login.example", Claims: []wire.ClaimCondition{{Claim: "amr", Value: "mfa"}}, Description: "signed in with a second factor"}},
		{Requirement: wire.Requirement{ID: "office", Kind: "public-ip", Ranges: []wire.RangeCondition{{Range: "192.0.2.0/24"}, {Range: "192.0.2.9", Blocked: true}}}},
	}, s.err
}

func (s *server) Mark(_ context.Context, dry bool, system, requirement string, until time.Time) (api.Impact, error) {
	return s.change(dry, fmt.Sprint("mark ", system, " ", requirement, " ", until.Sub(now)))
}
func (s *server) Unmark(_ context.Context, dry bool, system, requirement string) (api.Impact, error) {
	return s.change(dry, "unmark "+system+" "+requirement)
}
func (s *server) AddRequirement(_ context.Context, dry bool, r wire.Requirement) (api.Impact, error) {
	return s.change(dry, fmt.Sprint("require ", r.ID, " ", r.Kind, " ", r.Authority, r.Claims, r.Ranges, r.Countries))
}
func (s *server) AddZone(_ context.Context, dry bool, z wire.Zone) (api.Impact, error) {
	text := fmt.Sprint("zone ", z.Name, z.AutoTags)
	if f := z.Forward; f != nil {
		text += fmt.Sprint(f.Gateways, f.Resolvers)
	}
	return s.change(dry, text)
}
func (s *server) DropRequirement(_ context.Context, dry bool, id string) (api.Impact, error) {
	return s.change(dry, "drop "+id)
}

func (s *server) Zones(context.Context) ([]api.Zone, error) {
	return []api.Zone{{Zone: wire.Zone{Name: "enclave"}, BuiltIn: true}, {Zone: wire.Zone{Name: "corp.example", AutoTags: []wire.Tag{"servers"}, Notes: "the old names"}}}, s.err
}
func (s *server) Records(context.Context) ([]api.Record, error) {
	return []api.Record{{Record: wire.Record{Name: "web.corp.example", Tags: []wire.Tag{"web"}, Systems: []wire.SystemID{"sys02"}}, Zone: "corp.example"}}, s.err
}
func (s *server) Resolve(_ context.Context, name, as string, _ time.Time) (api.Resolution, error) {
	return api.Resolution{Name: name, As: "sys01", AsName: as, At: now, Kind: "found", Zone: "corp.example", Why: "a record of the zone; laptop-ana is connected to one of its two systems",
		Systems: []api.Resolved{{ID: "sys02", Name: "pod-1", IPv4: netip.MustParseAddr("100.64.0.2"), IPv6: netip.MustParseAddr("fd00::2")}}}, s.err
}
func (s *server) AddRecord(_ context.Context, dry bool, r wire.Record) (api.Impact, error) {
	return s.change(dry, fmt.Sprint("record ", r.Name, r.Tags, r.Systems))
}
func (s *server) DropName(_ context.Context, dry bool, name string, zone bool) (api.Impact, error) {
	return s.change(dry, fmt.Sprint("drop ", name, zone))
}

func (s *server) Seal(context.Context) (api.Seal, error) {
	since := now.Add(-time.Hour)
	return api.Seal{State: api.SealOpen, Since: &since, Root: 3, Own: true, Rotation: &api.Rotation{Began: now, Done: 300, Total: 1200},
		Recipients: []api.SealRecipient{{Kind: "post-quantum", Recipient: "age1pq1" + strings.Repeat("qpzry9x8gf2tvdw0s3jn54khce6mua7l", 8)}, {Kind: "passphrase", Recipient: "passphrase"}}}, s.err
}
func (s *server) SealDo(_ context.Context, verb string) (api.Seal, error) {
	_, err := s.change(false, "seal "+verb)
	return api.Seal{}, err
}
func (s *server) SealAdd(_ context.Context, in api.SealAdd) (api.Seal, error) {
	_, err := s.change(false, "seal add "+in.Recipient)
	return api.Seal{}, err
}
func (s *server) SealRemove(_ context.Context, in api.SealRemove) (api.Seal, error) {
	_, err := s.change(false, "seal remove")
	return api.Seal{}, err
}
func (s *server) Unlock(_ context.Context, in api.Unlock) (api.Seal, error) {
	_, err := s.change(false, "unlock "+in.Passphrase+in.Identity)
	return api.Seal{}, err
}

func (s *server) Sessions(context.Context) ([]screen.Session, error) {
	return []screen.Session{{ID: "s_1", Run: "run-live", State: "waiting", At: now.Add(-2 * time.Second)}}, s.err
}
func (s *server) CancelSession(_ context.Context, id string) error {
	_, err := s.change(false, "cancel "+id)
	return err
}

// runRecords are what two runs left in the trail.
func runRecords() []api.AuditRecord {
	rec := func(seq int64, run, action, detail string) api.AuditRecord {
		return api.AuditRecord{Seq: seq, At: now.Add(time.Duration(seq-100) * time.Second), Actor: "run:" + run, Action: action, Object: "system:s", Outcome: "ok", Detail: api.Detail(json.RawMessage(detail))}
	}
	return []api.AuditRecord{
		rec(71, "run-old", "run.start", `{"run":"run-old","user":"ana","level":"STRICT"}`),
		rec(72, "run-old", "tool.result", `{"run":"run-old","tool":"users:list","args":{"limit":3},"outcome":"ok","duration_ns":107586322}`),
		rec(73, "run-old", "tool.result", `{"run":"run-old","tool":"users:list","outcome":"ok","duration_ns":6322}`),
		rec(74, "run-old", "tool.result", `{"run":"run-old","tool":"db:query","args":{"data":"GET colour"},"outcome":"TOOL_CALL_FAILED","duration_ns":49153}`),
		rec(75, "run-old", "run.end", `{"run":"run-old","level":"STRICT","outcome":"ok","score":35}`),
		rec(98, "run-live", "run.start", `{"run":"run-live","user":"ben","level":"STANDARD"}`),
	}
}

func TestASecretIsShownOnceAndForgotten(t *testing.T) {
	s := lab()
	m := model(s, Options{})
	press(m, "8", "n", "text:laptops", "tab", "tab", "text:automatic", "tab", "text:developers", "tab", "tab", "text:8h", "enter", "y")
	if fmt.Sprint(s.did) != "[key laptops[developers]automatictrue]" {
		t.Fatalf("did %v", s.did)
	}
	view := ansi.Strip(m.View())
	if !strings.Contains(strings.ReplaceAll(view, "\n", ""), "enclave-key-0123456789") {
		t.Fatalf("the secret is not shown:\n%s", view)
	}
	press(m, "q", "1", "enter") // none of these may wipe it
	if !strings.Contains(ansi.Strip(m.View()), "enclave-key-0123456789") {
		t.Error("a key that says nothing of it wiped the secret")
	}
	press(m, "esc")
	if strings.Contains(ansi.Strip(m.View()), "enclave-key-0123456789") {
		t.Error("the secret stays")
	}
}

func TestWhatUnlocksIsNotShown(t *testing.T) {
	s := lab()
	m := model(s, Options{})
	press(m, "alt+2", "u", "text:correct horse")
	if view := ansi.Strip(m.View()); strings.Contains(view, "horse") || !strings.Contains(view, "*****") {
		t.Errorf("the passphrase is on the screen:\n%s", view)
	}
	press(m, "enter")
	if fmt.Sprint(s.did) != "[unlock correct horse]" {
		t.Errorf("did %v", s.did)
	}
	if view := ansi.Strip(m.View()); !strings.Contains(view, "it is open again") || m.current().Typing() {
		t.Errorf("the form stays:\n%s", view)
	}
}

func TestALockedStateCanBeUnlocked(t *testing.T) {
	m := New(Config{Client: lab(), Theme: model(lab(), Options{}).state.Theme, Now: now})
	m.state.Line.Err = context.DeadlineExceeded
	press(m, "alt+2")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "The state is") {
		t.Errorf("the seal is not shown where nothing else can be read:\n%s", view)
	}
}

func TestARunIsCancelledAtItsServer(t *testing.T) {
	s := lab()
	m := model(s, Options{})
	press(m, "alt+3", "c", "y")
	if fmt.Sprint(s.did) != "[cancel s_1]" {
		t.Errorf("did %v", s.did)
	}
	press(m, "down", "c")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "run-old has ended") {
		t.Errorf("nothing says that it has ended:\n%s", view)
	}
}

func TestStewardsChange(t *testing.T) {
	for want, path := range map[string][]string{
		"mark laptop-ana mfa 8h0m0s":                {"0", "m", "text:laptop-ana", "tab", "text:8h", "enter", "y"},
		"unmark laptop-ana mfa":                     {"0", "u", "text:laptop-ana", "enter", "y"},
		"drop office":                               {"0", "down", "x", "y"},
		"drop web.corp.examplefalse":                {"alt+1", "down", "x", "y"},
		"record db.corp.example[databases] [sys04]": {"alt+1", "n", "text:db.corp.example", "tab", "text:databases", "tab", "text:db", "enter", "y"},
		"require vpn public-ip [] [{192.0.2.0/24 false} {192.0.2.9 true}] []": {"0", "n", "text:vpn", "tab", "text:address", "tab", "tab", "tab", "text:192.0.2.0/24 !192.0.2.9", "enter", "y"},
		"require otp user-authentication local[{amr otp}] [] []":              {"0", "n", "text:otp", "tab", "text:sign-in", "tab", "text:local", "tab", "text:amr=otp", "enter", "y"},
		"zone lan.example[][sys04] [192.168.1.53]":                            {"alt+1", "z", "text:lan.example", "tab", "tab", "text:db", "tab", "text:192.168.1.53", "enter", "y"},
		"zone web.example[servers]":                                           {"alt+1", "z", "text:web.example", "tab", "text:servers", "enter", "y"},
		"seal lock":                                                           {"alt+2", "l", "y"},
		"seal rotate":                                                         {"alt+2", "o", "y"},
		"seal remove":                                                         {"alt+2", "x", "y"},
		"seal add age1abc":                                                    {"alt+2", "n", "text:age1abc", "enter", "y"},
		"disable k-laptops":                                                   {"8", "d", "y"},
	} {
		s := lab()
		m := model(s, Options{})
		press(m, path...)
		if len(s.did) != 1 || s.did[0] != want {
			t.Errorf("%v did %q, want %q; the screen:\n%s", path, s.did, want, ansi.Strip(m.View()))
		}
		s = lab()
		m = model(s, Options{})
		press(m, path[:len(path)-1]...)
		press(m, "esc")
		if len(s.did) > 0 {
			t.Errorf("%v did %q before anybody said yes", path, s.did)
		}
	}
}
