package cli

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"

	"enclave/cli/client"
	"enclave/tui"
	"enclave/tui/keys"
	"enclave/tui/theme"
	"enclave/wire/api"
)

// screens is the terminal UI on a server, without a terminal: keys go in, and what comes
// of them is run to its end.
type screens struct {
	*site
	m *tui.Model
}

func newScreens(s *site) *screens {
	s.t.Helper()
	cl, err := client.New(client.Config{URL: s.url, Token: s.first.Token, Fingerprint: s.fingerprint})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(cl.Close)
	out := &screens{s, tui.New(tui.Config{Client: tuiClient{Client: cl, seen: new(seenTrail)}, Theme: theme.New(lipgloss.NewRenderer(nil), false), Now: time.Now()})}
	out.m.Update(tea.WindowSizeMsg{Width: 120, Height: 40})
	out.press("ctrl+r")
	return out
}

func (s *screens) press(names ...string) {
	for _, n := range names {
		k := keys.New("x", n).Press()
		if text, ok := strings.CutPrefix(n, "text:"); ok {
			k = tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(text), Paste: true}
		}
		_, cmd := s.m.Update(k)
		s.follow(cmd)
		s.m.View()
	}
}

func (s *screens) follow(cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	switch msg := cmd().(type) {
	case nil, tea.QuitMsg:
	case tea.BatchMsg:
		for _, c := range msg {
			s.follow(c)
		}
	default:
		_, next := s.m.Update(msg)
		s.follow(next)
	}
}

func (s *screens) sees(want ...string) {
	s.t.Helper()
	view := ansi.Strip(s.m.View())
	for _, w := range want {
		if !strings.Contains(view, w) {
			s.t.Errorf("no %q in\n%s", w, view)
		}
	}
}

// fullPolicy has every field that a policy can have, in spellings that a form would not
// choose.
const fullPolicy = `{"type":"gateway","enabled":true,"sender_tags":["zeta","alpha"],"acls":[{"protocol":"tcp","ports":"443,80,8000-8100","description":"the \"web\""},{"protocol":"icmp"}],
"expires_local":{"time":"2099-12-24T18:00","tz":"Europe/Berlin"},"expiry_action":"delete",
"active_hours":[{"tz":"Europe/London","days":["fri","mon"],"start":"08:15","end":"18:00"},{"tz":"UTC","days":[],"start":"22:00","end":"02:00"}],
"trust_requirements":["mfa","office"],"receiver_trust":["disk"],"gateways":[{"system":"SYSTEM","subnets":["192.168.1.0/24"]}],
"subnet_filter":["192.168.1.1 - 192.168.1.9"],"priority":"ordered","notes":"one\n\ttwo \\ three"}`

// TestTheFormKeepsEveryFieldOnTheServer changes the name of a policy that has every field
// and compares what the server has before and after.
func TestTheFormKeepsEveryFieldOnTheServer(t *testing.T) {
	s := newSite(t, nil)
	id := s.mustEnrol("office")
	s.ok("system", "route", "add", "office", "192.168.1.0/24")
	s.ok("tag", "add", "office", "zeta", "alpha")
	file := filepath.Join(privateDir(t), "policy.json")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(fullPolicy, "SYSTEM", string(id))), 0o600); err != nil {
		t.Fatal(err)
	}
	s.ok("policy", "create", "Everything", "--file", file)
	show := func(name string) (out map[string]json.RawMessage) {
		if err := json.Unmarshal([]byte(s.ok("policy", "show", name, "--json")), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	before := show("Everything")
	ui := newScreens(s)
	ui.press("3", "c")
	ui.sees("office=192.168.1.0/24", "never 22:00-02:00 UTC", "2099-12-24 18:00 Europe/Berlin")
	ui.press("enter")
	ui.sees("nothing was changed")
	ui.press("text:!", "enter")
	ui.sees("name: Everything → Everything!", "right now nobody gains or loses anything")
	ui.press("y")
	after := show("Everything!")
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if name != "name" && name != "version" && string(before[name]) != string(after[name]) {
			t.Errorf("%s: %s is %s now", name, before[name], after[name])
		}
	}
	if len(before) != len(after) || string(before["version"]) == string(after["version"]) {
		t.Errorf("before %s\nafter %s", before, after)
	}
	ui.press("ctrl+r", "h", "enter", "esc", "esc", "u")
	ui.sees("undo policy.update of Everything!, back to revision 5?", "policy Everything: name: Everything! → Everything")
	ui.press("y")
	show("Everything")
}

// TestAChangeFromTheFormWaitsToBeConfirmed makes a policy that reverts, sees it wait, and
// keeps it; and what somebody else changed meanwhile is not overwritten.
func TestAChangeFromTheFormWaitsToBeConfirmed(t *testing.T) {
	s := newSite(t, nil)
	s.mustEnrol("laptop")
	s.ok("tag", "add", "laptop", "laptops", "servers")
	s.ok("policy", "create", "Web", "--from", "laptops", "--to", "servers", "--allow", "tcp/80")
	ui := newScreens(s)
	ui.press("3", "c", "text:2", "up", "text:5m", "enter")
	ui.sees("name: Web → Web2", "reverts after 5m0s unless confirmed")
	ui.press("y")
	var st api.RevisionStatus
	if err := json.Unmarshal([]byte(s.ok("status", "--json")), &st); err != nil || st.ConfirmBy == nil {
		t.Fatalf("nothing waits: %+v, %v", st, err)
	}
	ui.press("ctrl+r")
	ui.sees("the last change reverts at", "K keeps it")
	ui.press("K", "y")
	if err := json.Unmarshal([]byte(s.ok("status", "--json")), &st); err != nil {
		t.Fatal(err)
	}
	ui.press("ctrl+r", "c", "text:3")
	s.ok("policy", "update", "Web2", "--allow", "tcp/443")
	ui.press("enter")
	ui.sees("version")
	ui.press("esc")
	ui.sees("Web23") // still typed
	if out := s.ok("policy", "show", "Web2"); !strings.Contains(out, "443") {
		t.Errorf("overwritten: %s", out)
	}
}
