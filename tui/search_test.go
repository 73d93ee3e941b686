package tui

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"

	"enclave/wire"
	"enclave/wire/api"
)

// TestWhatIsSearchedIsUnderTheCursor: an address or an ID that holds the letters by
// chance is no match, a note is one behind the name, and the cursor leaves the row on
// which it stood before, so that a change is proposed for what was searched.
func TestWhatIsSearchedIsUnderTheCursor(t *testing.T) {
	for _, note := range []string{"", "asks dee for the badge"} {
		s := lab()
		s.org.Systems = append(s.org.Systems,
			api.System{ID: "x3dee", Name: "contractor", State: wire.Pending, Notes: note, IPv6: netip.MustParseAddr("fd00::dee:1")},
			api.System{ID: "zzz17", Name: "laptop-dee", State: wire.Pending, IPv6: netip.MustParseAddr("fd00::2")})
		m := model(s, Options{})
		press(m, "2")
		for range s.org.Systems { // onto contractor
			if view := ansi.Strip(m.View()); strings.Contains(view, "> contractor") || strings.Contains(view, "▸ contractor") {
				break
			}
			press(m, "down")
		}
		press(m, "/")
		typed(m, "dee")
		view := ansi.Strip(m.View())
		if !strings.Contains(view, "laptop-dee") || strings.Contains(view, "contractor") != (note != "") {
			t.Errorf("note %q: searched dee, and saw\n%s", note, view)
		}
		press(m, "enter", "a", "y")
		if want := "approve zzz17"; !slices.ContainsFunc(s.did, func(d string) bool { return strings.Contains(d, "zzz17") }) || len(s.did) != 1 {
			t.Errorf("note %q: did %v, want %s alone", note, s.did, want)
		}
	}
}
