package tui

import (
	"errors"
	"fmt"
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
	"enclave/wire/api"
)

var now = time.Date(2026, 3, 27, 10, 0, 0, 0, time.UTC) // a Friday

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

// A server that refuses a token has answered: whoever looks for a network fault is misled.
func TestARefusalIsNoSilence(t *testing.T) {
	s := lab()
	s.err = &api.Problem{Status: 401, Code: "unauthorised", Detail: "this token is not valid"}
	m := model(s, Options{})
	m.Update(load(s)())
	view := ansi.Strip(m.View())
	if strings.Contains(view, "no answer") || !strings.Contains(view, "unauthorised: the server refuses") {
		t.Errorf("a refusal:\n%s", view)
	}
}
