package tui

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"enclave/wire"
)

// saved is the policy that the last change saved.
func saved(t *testing.T, s *server) (p wire.Policy) {
	t.Helper()
	if len(s.did) == 0 {
		t.Fatal("nothing was saved")
	}
	words := strings.SplitN(s.did[len(s.did)-1], " ", 4)
	if len(words) < 4 || words[0] != "save" {
		t.Fatalf("did %q", s.did)
	}
	if err := json.Unmarshal([]byte(words[3]), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// clear empties the field under the cursor.
func clear(m *Model) {
	for range 200 {
		m.Update(tea.KeyMsg{Type: tea.KeyBackspace})
	}
}

func TestSavingAPolicyLosesNoField(t *testing.T) {
	s := lab()
	m := model(s, Options{})
	press(m, "3", "end", "c", "enter")
	if view := ansi.Strip(m.View()); m.change != nil || !strings.Contains(view, "nothing was changed") {
		t.Fatalf("an untouched policy is saved:\n%s", view)
	}
	press(m, "text:!", "enter")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "name: Everything → Everything!") || strings.Count(view, ": ") > 5 {
		t.Errorf("the difference is not the name alone:\n%s", view)
	}
	press(m, "y")
	want := full().Policy
	want.Name, want.ExpiresAt = "Everything!", nil // the server takes one of the two
	if got := saved(t, s); !reflect.DeepEqual(got, want) {
		t.Errorf("saved %+v\nwant  %+v", got, want)
	}
	// No field of the document may be missing from the form.
	if n := reflect.TypeFor[wire.Policy]().NumField(); n != 17 {
		t.Errorf("a policy has %d fields: teach the form the new one, and this test", n)
	}
}

func TestEveryFieldOfAPolicyCanBeChanged(t *testing.T) {
	s := lab()
	m := model(s, Options{})
	press(m, "3", "end", "c")
	for _, text := range []string{"New", "a b", "sys01=10.1.0.0/16; laptop-ana", "10.1.0.7, 10.1.0.9", "", `udp/53 "dns" any`, "one", "two", "mon-fri 08:00-18:00 UTC", "2026-12-24 18:00 Europe/Berlin", "", `line\nline`, "gateway", "", "5m"} {
		switch text {
		case "gateway":
		case "":
			press(m, "right")
		default:
			clear(m)
			typed(m, text)
		}
		press(m, "tab")
	}
	press(m, "enter")
	if m.change != nil || !strings.Contains(ansi.Strip(m.View()), "gateways: laptop-ana may carry nothing yet") {
		t.Fatalf("a gateway without routes:\n%s", ansi.Strip(m.View()))
	}
	clear(m)
	typed(m, "sys01=10.1.0.0/16")
	press(m, "enter", "y")
	got := saved(t, s)
	if got.Name != "New" || got.Enabled || got.Kind != wire.Gateway || len(got.SenderTags) != 2 || got.Gateways[0].System != "sys01" ||
		got.ActiveHours[0].End != "18:00" || got.ExpiresLocal.Time != "2026-12-24T18:00" || got.Notes != "line\nline" || got.Priority != "nearest" || got.ExpiryAction != "" || got.ACLs[0].Description != "dns" || got.SenderTrust[0] != "one" || got.RecvTrust[0] != "two" || got.SubnetFilter[1] != "10.1.0.9" {
		t.Errorf("saved %+v", got)
	}
	if !strings.Contains(s.did[len(s.did)-1], "save 11 5m0s") {
		t.Errorf("not to be confirmed: %s", s.did)
	}
}

func TestWhatTheServerRefusesStandsAtItsField(t *testing.T) {
	s := lab()
	m := model(s, Options{})
	press(m, "3", "c")
	clear(m)
	typed(m, "Taken")
	press(m, "tick")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "✗ is another policy's") {
		t.Errorf("not said:\n%s", view)
	}
	typed(m, "not")
	s.err = errors.New("the API does not answer")
	press(m, "tick")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "Takennot█") || !strings.Contains(view, "what is typed stays") {
		t.Errorf("lost:\n%s", view)
	}
	s.err = nil
	press(m, "tick")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "saved now: +0 gained, -1 lost, 1 flow cut, 1 test flipped") {
		t.Errorf("no outlook:\n%s", view)
	}
	press(m, "esc")
	if !m.current().Typing() {
		t.Error("one esc throws typing away")
	}
	press(m, "esc")
	if m.current().Typing() {
		t.Error("two esc do not leave")
	}
}

func TestHoursAreDrawn(t *testing.T) {
	s := lab()
	m := model(s, Options{})
	press(m, "3", "c", "ctrl+o", "enter", "enter", "c", "t") // a day from 08:00: there is nothing before it
	press(m, "ctrl+o", " ", " ", "c", "t", "enter", "y")
	got := saved(t, s).ActiveHours
	if len(got) != 1 || got[0].Start != "08:00" || got[0].End != "09:00" || strings.Join(got[0].Days, " ") != "mon tue" || got[0].Zone != "Europe/London" {
		t.Errorf("saved %+v", got)
	}
}

func TestEnableForAWhile(t *testing.T) {
	s := lab()
	m := model(s, Options{})
	press(m, "3", "/", "text:Backups", "enter", "E", "text:nonsense", "enter")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "want a duration") {
		t.Errorf("not said:\n%s", view)
	}
	clear(m)
	press(m, "text:8h", "enter", "y")
	if p := saved(t, s); !p.Enabled || !p.ExpiresAt.Equal(now.Add(8*time.Hour)) || p.ReceiverTags[0] != "pods" {
		t.Errorf("saved %+v", p)
	}
}

func TestBackToAnOldPolicySet(t *testing.T) {
	s := lab()
	m := model(s, Options{})
	press(m, "3", "h", "down", "r", "y")
	press(m, "esc", "u", "y")
	if strings.Join(s.did, "; ") != "restore 38; restore 38" {
		t.Errorf("did %q", s.did)
	}
	by := now.Add(time.Minute)
	press(m, "K")
	m.state.Org.Revision.ConfirmBy = &by
	press(m, "K", "y")
	if s.did[len(s.did)-1] != "confirm" {
		t.Errorf("did %q", s.did)
	}
}

func TestReadOnlyBelowTheList(t *testing.T) {
	s := lab()
	m := model(s, Options{ReadOnly: true})
	press(m, "3", "h", "down", "r")
	if view := ansi.Strip(m.View()); len(s.did) > 0 || m.change != nil || !strings.Contains(view, "this terminal only reads") || strings.Contains(view, "restore this") {
		t.Errorf("did %q:\n%s", s.did, view)
	}
	press(m, "enter") // comparing is reading
	if view := ansi.Strip(m.View()); !strings.Contains(view, "2 changes") {
		t.Errorf("no comparison:\n%s", view)
	}
}

func TestTagsAreOffered(t *testing.T) {
	s := lab()
	m := model(s, Options{})
	press(m, "3", "n", "text:Web", "tab", "text:web dev")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "web dev█ → developers, ctrl+y") {
		t.Errorf("nothing is offered:\n%s", view)
	}
	press(m, "ctrl+y", "ctrl+y")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "web developers█") || strings.Contains(view, "→ ") {
		t.Errorf("not taken:\n%s", view)
	}
}
