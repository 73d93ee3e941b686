package policies

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/tui/theme"
	"enclave/wire"
	"enclave/wire/api"
)

// maxHistory is how many revisions are shown; older ones are "enclave policy history"'s.
const maxHistory = 200

// history is the past of the policy set: what differs from now or between two revisions,
// and the way back.
type history struct {
	list   screen.List
	page   int
	all    []api.RevisionEntry // newest first
	loaded bool
	err    error
	marked wire.Revision // to compare with; 0 is now
	diff   *api.SetDiff  // nil is the list
	asked  bool
	scroll screen.List
}

var (
	compareKey = keys.New("compare with now, or the marked one", "enter")
	markKey    = keys.New("mark to compare with", " ")
	restoreKey = keys.Writes("restore this policy set", "r")
	closeKey   = keys.New("back", "esc")
)

func (h *history) keys() []keys.Binding {
	if h.diff != nil || h.asked {
		return append([]keys.Binding{closeKey}, screen.Moves()...)
	}
	return append([]keys.Binding{compareKey, markKey, restoreKey, closeKey}, screen.Moves()...)
}

type (
	past struct {
		list []api.RevisionEntry
		err  error
	}
	compared struct {
		diff api.SetDiff
		err  error
	}
)

func askPast(c screen.Client) tea.Cmd {
	return screen.Call(func(ctx context.Context) tea.Msg {
		list, err := c.History(ctx, maxHistory)
		return past{list, err}
	})
}

// update follows a key and reports whether the history closes.
func (h *history) update(k tea.KeyMsg, s *screen.State) (tea.Cmd, bool) {
	switch {
	case closeKey.Is(k) && (h.diff != nil || h.asked):
		h.diff, h.asked, h.err = nil, false, nil
	case closeKey.Is(k):
		return nil, true
	case h.diff != nil:
		h.scroll.Move(k, len(h.diffLines(s)), 5)
	case h.asked || h.list.Move(k, len(h.all), max(h.page, 1)) || h.list.At >= len(h.all):
	case markKey.Is(k):
		if rev := h.all[h.list.At].Revision; h.marked != rev {
			h.marked = rev
		} else {
			h.marked = 0
		}
	case compareKey.Is(k):
		from, to := h.all[h.list.At].Revision, h.marked
		if to != 0 && to < from {
			from, to = to, from
		}
		h.asked, h.scroll = true, screen.List{}
		return screen.Call(func(ctx context.Context) tea.Msg {
			d, err := s.Client.Compare(ctx, from, to)
			return compared{d, err}
		}), false
	case restoreKey.Is(k):
		return restore(s, h.all[h.list.At].Revision), false
	}
	return nil, false
}

func restore(s *screen.State, rev wire.Revision) tea.Cmd {
	return screen.Ask(screen.Propose{Title: fmt.Sprintf("restore the policy set of revision %d", rev), Done: fmt.Sprintf("the policy set of revision %d is in force again", rev), Then: Restored{},
		Steps: []screen.Step{func(ctx context.Context, dry bool) (api.Impact, error) { return s.Client.Restore(ctx, dry, rev) }}})
}

// Restored tells the history that it has grown.
type Restored struct{}

// shownChanges is how many changes stand in the question of an undo.
const shownChanges = 12

// undo restores what was in force before the last change of the policy set.
func undo(s *screen.State) tea.Cmd {
	return screen.Call(func(ctx context.Context) tea.Msg {
		list, err := s.Client.History(ctx, 2)
		switch {
		case err != nil:
			return screen.Say{Err: err}
		case len(list) < 2:
			return screen.Say{Text: "nothing to undo: there is no policy set before this one"}
		}
		last := &list[0]
		name := last.ObjectName
		if name != "" {
			name = " of " + name
		}
		p := restore(s, list[1].Revision)().(screen.Propose)
		p.Title = fmt.Sprintf("undo %s%s, back to revision %d", last.Action, name, list[1].Revision)
		p.What = []string{fmt.Sprintf("revision %d by %s at %s", last.Revision, last.Author, last.At.In(s.Now.Location()).Format("Jan 2 15:04:05"))}
		d, err := s.Client.Compare(ctx, last.Revision, list[1].Revision)
		if err != nil {
			return screen.Say{Err: err}
		}
		for i := range d.Changes {
			c := &d.Changes[i]
			for _, text := range partLines(c, s) {
				p.What = append(p.What, fmt.Sprintf("%s %s: %s", c.Part, cmp.Or(c.Name, c.ID), text))
			}
		}
		if over := len(p.What) - shownChanges; over > 0 {
			p.What = append(p.What[:shownChanges], "and "+wire.Count(over, "change")+" more; h compares")
		}
		return p
	})
}

func (h *history) view(s *screen.State, w, height int) []string {
	t := s.Theme
	switch {
	case h.err != nil:
		return append([]string{t.Paint(theme.Bad, "✗ "+theme.Clean(h.err.Error()))}, "esc goes back")
	case h.asked && h.diff == nil:
		return []string{"comparing…"}
	case h.diff != nil:
		var lines []string
		for _, l := range h.diffLines(s) {
			lines = append(lines, theme.Wrap(l, w)...)
		}
		from := min(h.scroll.At, max(0, len(lines)-height))
		return lines[from:]
	case !h.loaded:
		return []string{"reading the history…"}
	}
	top := "the newest " + wire.Count(len(h.all), "revision") + " of the policy set"
	if h.marked != 0 {
		top += fmt.Sprintf("  %d is marked", h.marked)
	}
	columns := []theme.Column{{Min: 8}, {Min: 14}, {Min: 13, Max: 20}, {Min: 13, Max: 34}, {Min: 12, Max: 24}, {Min: 12, Max: 40}}
	widths := theme.Widths(columns, w-4)
	lines := []string{top, t.Paint(theme.Dim, "    "+theme.Row(widths, "revision", "time", "what", "on", "by", "why"))}
	h.page = max(1, height-len(lines))
	from, to := h.list.Window(len(h.all), h.page)
	lines[0] += h.list.Rest(len(h.all))
	for i := from; i < to; i++ {
		e := &h.all[i]
		cursor := "  "
		if i == h.list.At {
			cursor = "▸ "
		}
		if e.Revision == h.marked {
			cursor += "✓ "
		} else {
			cursor += "  "
		}
		on := e.ObjectName
		if on == "" {
			on = e.Object
		}
		what := e.Action
		if e.Pending != nil {
			what = "waits: " + what
		}
		lines = append(lines, cursor+theme.Row(widths, fmt.Sprint(e.Revision), e.At.In(s.Now.Location()).Format("01-02 15:04:05"),
			theme.Clean(what), theme.Clean(on), theme.Clean(e.Author), theme.Clean(e.Reason)))
	}
	if len(h.all) == 0 {
		lines = append(lines, t.Paint(theme.Dim, "  no policy was ever made"))
	}
	return lines
}

func (h *history) diffLines(s *screen.State) []string {
	t, d := s.Theme, h.diff
	to := fmt.Sprintf("revision %d", d.To)
	if h.marked == 0 {
		to = "now, " + to
	}
	lines := []string{t.Paint(theme.Title, fmt.Sprintf("From revision %d to %s: %s", d.From, to, wire.Count(len(d.Changes), "change")))}
	if len(d.Changes) == 0 {
		return append(lines, "the two policy sets are the same")
	}
	marks := map[string]string{"added": t.Paint(theme.Good, "+ added"), "removed": t.Paint(theme.Warn, "- removed"), "changed": "~ changed"}
	for i := range d.Changes {
		c := &d.Changes[i]
		name := c.Name
		if name == "" {
			name = c.ID
		}
		lines = append(lines, marks[c.Change]+" "+theme.Clean(c.Part+" "+name))
		for _, text := range partLines(c, s) {
			lines = append(lines, "    "+theme.Clean(text))
		}
	}
	return lines
}

// partLines tells what changed in a part: of a policy in the words of the form, of
// others by the fields of the document.
func partLines(c *api.PartChange, s *screen.State) []string {
	if c.Part == "policy" {
		var before, after wire.Policy
		errA, errB := unmarshal(c.Before, &before), unmarshal(c.After, &after)
		if errA == nil && errB == nil {
			return differences(&before, &after, s)
		}
	}
	var before, after map[string]json.RawMessage
	if unmarshal(c.Before, &before) != nil || unmarshal(c.After, &after) != nil {
		return nil
	}
	var out []string
	names := slices.AppendSeq(slices.Collect(maps.Keys(before)), maps.Keys(after))
	slices.Sort(names)
	for _, n := range slices.Compact(names) {
		if !bytes.Equal(before[n], after[n]) {
			out = append(out, fmt.Sprintf("%s: %s → %s", n, dash(string(before[n])), dash(string(after[n]))))
		}
	}
	return out
}

func unmarshal(raw json.RawMessage, v any) error {
	if len(raw) == 0 {
		return nil
	}
	if len(raw) > wire.MaxRequestBody {
		return errors.New("larger than a document may be")
	}
	return json.Unmarshal(raw, v)
}
