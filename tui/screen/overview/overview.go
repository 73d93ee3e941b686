// Package overview is the first screen: what is up, what is open, what comes next and
// what was just done. It only draws; everything in it stands on a screen of its own.
package overview

import (
	"fmt"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/tui/theme"
	"enclave/wire"
)

// Model is the screen. It has no state.
type Model struct{}

// New makes the screen.
func New() *Model { return &Model{} }

// Name of the screen.
func (*Model) Name() string { return "overview" }

// Keys are none but the global ones.
func (*Model) Keys() []keys.Binding { return nil }

// Typing is never the case here.
func (*Model) Typing() bool { return false }

// Update has nothing to do.
func (*Model) Update(tea.Msg, *screen.State) tea.Cmd { return nil }

// View draws the counts, then alerts, what comes, and the newest records in what is left.
func (*Model) View(s *screen.State, w, h int) string {
	t := s.Theme
	lines := counts(s, w)
	alerts := alerts(s)
	if len(alerts) > 0 {
		lines = append(lines, heading(t, "Needs you"))
		lines = append(lines, alerts...)
	}
	room := h - len(lines)
	coming := coming(s, max(1, min(4, room/2-2)))
	lines = append(lines, heading(t, "Next, by itself"))
	lines = append(lines, coming...)
	lines = append(lines, heading(t, "Just done"))
	for i := len(s.Audit) - 1; i >= 0 && len(lines) < h; i-- {
		r := &s.Audit[i]
		line := fmt.Sprintf("  %s %s %s %s", r.At.In(s.Now.Location()).Format("15:04:05"), theme.Clean(r.Actor), theme.Clean(r.Action), theme.Clean(s.Named(r.Object)))
		if r.Outcome != "ok" {
			line += " " + t.State(r.Outcome)
		}
		lines = append(lines, line)
	}
	if len(s.Audit) == 0 {
		lines = append(lines, t.Paint(theme.Dim, "  nothing yet"))
	}
	return theme.Box(lines, w, h)
}

func heading(t theme.Theme, text string) string { return t.Paint(theme.Title, text) }

func counts(s *screen.State, w int) []string {
	t := s.Theme
	systems := make(map[string]int)
	for i := range s.Org.Systems {
		systems[string(s.Org.Systems[i].State)]++
	}
	policies := make(map[string]int)
	for i := range s.Org.Policies {
		policies[s.Org.Policies[i].State]++
	}
	line := func(name string, n int, by map[string]int, order ...string) []string {
		lines := []string{fmt.Sprintf("%s %4d ", t.Paint(theme.Title, theme.Fit(name, 9)), n)}
		for _, k := range order {
			if by[k] == 0 {
				continue
			}
			part, last := fmt.Sprintf("  %d %s", by[k], t.State(k)), len(lines)-1
			if ansi.StringWidth(lines[last])+ansi.StringWidth(part) > w {
				lines, last = append(lines, strings.Repeat(" ", 15)), last+1
			}
			lines[last] += part
		}
		return lines
	}
	return slices.Concat(
		line("Systems", len(s.Org.Systems), systems, string(wire.Connected), string(wire.Pending), string(wire.Disconnected), string(wire.Disabled), string(wire.Revoked)),
		line("Policies", len(s.Org.Policies), policies, "active", "outside hours", "disabled", "expired", "inactive: no rules"),
		line("Relays", len(s.Org.Relays), nil),
	)
}

func alerts(s *screen.State) []string {
	var out []string
	add := func(format string, args ...any) {
		out = append(out, "  "+s.Theme.Paint(theme.Warn, "! "+fmt.Sprintf(format, args...)))
	}
	pending := 0
	for i := range s.Org.Systems {
		if s.Org.Systems[i].State == wire.Pending {
			pending++
		}
	}
	if pending > 0 {
		add("%d pending: approve them on screen 2", pending)
	}
	if c := s.Org.Revision.ConfirmBy; c != nil {
		add("the last change reverts at %s unless it is confirmed", c.In(s.Now.Location()).Format("15:04:05"))
	}
	for _, text := range s.Org.Revision.Warnings {
		add("%s", theme.Clean(text))
	}
	return out[:min(len(out), 4)]
}

func coming(s *screen.State, most int) []string {
	var out []string
	for i := range s.Org.Coming {
		c := &s.Org.Coming[i]
		if !c.At.After(s.Now) {
			continue
		}
		name := c.Name
		if name == "" {
			name = c.ID
		}
		out = append(out, fmt.Sprintf("  %s %s  %s %s %s", c.At.In(s.Now.Location()).Format("Mon 15:04"),
			s.Theme.Paint(theme.Dim, theme.Fit("in "+About(c.At.Sub(s.Now)), 7)), theme.Clean(c.Object), theme.Clean(name), theme.Clean(c.Kind)))
		if len(out) == most {
			break
		}
	}
	if len(out) == 0 {
		out = append(out, s.Theme.Paint(theme.Dim, "  nothing in the next seven days"))
	}
	return out
}

// About says a duration in its largest unit.
func About(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", int(d/(24*time.Hour)))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%dh", int(d/time.Hour))
	case d >= time.Minute:
		return fmt.Sprintf("%dm", int(d/time.Minute))
	}
	return fmt.Sprintf("%ds", int(d/time.Second))
}
