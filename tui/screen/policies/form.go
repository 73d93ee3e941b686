package policies

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/tui/theme"
	"enclave/wire"
	"enclave/wire/api"
)

// form makes a policy, or changes one. What is wrong with a field stands beside it while
// it is typed; what only the server knows comes from a dry run once typing pauses, with
// what saving would do. Nothing that comes or fails meanwhile changes what was typed.
type form struct {
	base    wire.Policy // as it is, or the beginning of a new one
	version wire.Revision
	at      int
	lines   []line
	confirm line // how long a change waits to be confirmed; not of the policy
	grid    *grid
	leaving bool // esc was pressed once
	list    screen.List

	checked  string // what the last dry run was of
	checking bool
	impact   *api.Impact
	refused  error
}

// line is one field while it is edited.
type line struct {
	*field
	input screen.Input
	was   string
}

var (
	next     = keys.New("next field", "tab", "down")
	prev     = keys.New("field before", "shift+tab", "up")
	save     = keys.Writes("try it, then save", "enter", "ctrl+s")
	drawGrid = keys.New("draw the hours", "ctrl+o")
	complete = keys.New("take the tag that is offered", "ctrl+y")
	leaveIt  = keys.New("leave, twice if something was typed", "esc")
	choose   = keys.New("choose, where < > stands", "left", "right")
)

func (f *form) keys() []keys.Binding {
	if f.grid != nil {
		return f.grid.keys()
	}
	return []keys.Binding{save, next, leaveIt, prev, complete, drawGrid, choose}
}

// newForm begins with a policy; one without an ID is new.
func newForm(p wire.Policy, version wire.Revision, s *screen.State) *form {
	if p.ExpiresLocal != nil {
		p.ExpiresAt = nil // the server says both, and takes one
	}
	f := &form{base: p, version: version}
	for i := range fields {
		l := line{field: &fields[i], input: screen.NewInput(fields[i].example), was: fields[i].write(&p, s)}
		l.input.Set(l.was)
		f.lines = append(f.lines, l)
	}
	f.confirm = line{field: &field{name: "confirm", example: "5m: reverts unless confirmed in time; or nothing"}}
	f.confirm.input = screen.NewInput(f.confirm.example)
	f.lines[0].input.Focus()
	return f
}

// seen are the fields that a policy of the chosen type has.
func (f *form) seen() (out []*line) {
	kind := wire.PolicyKind(f.line(typeName).input.Value())
	for i := range f.lines {
		if l := &f.lines[i]; l.kind == "" || l.kind == kind {
			out = append(out, l)
		}
	}
	return append(out, &f.confirm)
}

func (f *form) changed() bool {
	return f.confirm.input.Value() != "" || slices.ContainsFunc(f.lines, func(l line) bool { return l.input.Value() != strings.TrimSpace(l.was) })
}

// saving reads the form and returns what is wrong with each field that is seen.
func (f *form) saving(s *screen.State) (screen.Saving, []error) {
	out := screen.Saving{Policy: wire.Policy{ID: f.base.ID}, Version: f.version}
	seen := f.seen()
	wrong := make([]error, len(seen))
	for i, l := range seen[:len(seen)-1] {
		if text := l.input.Value(); text == strings.TrimSpace(l.was) && (text != "" || f.base.ID != "") {
			l.copy(&out.Policy, &f.base)
		} else {
			wrong[i] = l.read(&out.Policy, text, s)
		}
	}
	if text := f.confirm.input.Value(); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < time.Second || d > longestConfirm {
			wrong[len(seen)-1] = errors.New("want 1s to 24h, such as 5m")
		}
		out.ConfirmWithin = d
	}
	return out, wrong
}

// longestConfirm is the server's bound.
const longestConfirm = 24 * time.Hour

func (f *form) update(k tea.KeyMsg, s *screen.State) (cmd tea.Cmd, closed bool) {
	if f.grid != nil {
		if done, take := f.grid.update(k); done {
			if take {
				f.line(hoursName).input.Set(hoursText(f.grid.on.windows(f.grid.zone)))
			}
			f.grid = nil
		}
		return nil, false
	}
	leaving := f.leaving
	f.leaving = false
	l := f.seen()[f.at]
	switch {
	case leaveIt.Is(k):
		if !f.changed() || leaving {
			return nil, true
		}
		f.leaving = true
		return screen.Tell("esc again throws away what was typed", nil), false
	case next.Is(k):
		f.move(1)
	case prev.Is(k):
		f.move(-1)
	case drawGrid.Is(k):
		f.draw(s)
	case complete.Is(k):
		if word, tag := offer(s, l); tag != "" {
			l.input.Set(strings.TrimSuffix(l.input.Value(), word) + tag)
		}
	case save.Is(k):
		return f.save(s), false
	case l.field.choices != nil:
		l.choose(k)
	default:
		l.input.Update(k)
	}
	return nil, false
}

func (f *form) line(name string) *line {
	i := slices.IndexFunc(f.lines, func(l line) bool { return l.name == name })
	return &f.lines[i]
}

// offer is the first tag that some system carries and that begins like the last word of a
// line of tags.
func offer(s *screen.State, l *line) (word, tag string) {
	if l.name != "senders" && l.name != "receivers" {
		return "", ""
	}
	typed := l.input.Value()
	word = typed[strings.LastIndexAny(typed, " ,")+1:]
	for i := range s.Org.Systems {
		for _, t := range s.Org.Systems[i].Tags {
			if one := string(t); word != "" && one != word && strings.HasPrefix(one, word) && (tag == "" || one < tag) {
				tag = one
			}
		}
	}
	return word, tag
}

// draw opens the grid with the hours that are typed, if they can be read.
func (f *form) draw(s *screen.State) {
	var p wire.Policy
	if readHours(&p, f.line(hoursName).input.Value(), s) != nil {
		p.ActiveHours = f.base.ActiveHours
	}
	for i, l := range f.seen() {
		if l.name == hoursName {
			f.move(i - f.at)
		}
	}
	f.grid = newGrid(p.ActiveHours)
	if len(p.ActiveHours) == 0 {
		f.grid.zone = usualZone(s)
	}
}

// usualZone is the zone that most windows of the organisation's policies have, the first
// by name of several, else UTC.
func usualZone(s *screen.State) string {
	count := make(map[string]int)
	best := "UTC"
	for i := range s.Org.Policies {
		for _, w := range s.Org.Policies[i].ActiveHours {
			count[w.Zone]++
			if n := count[w.Zone]; n > count[best] || n == count[best] && w.Zone < best {
				best = w.Zone
			}
		}
	}
	return best
}

func (l *line) choose(k tea.KeyMsg) {
	i, by := slices.Index(l.choices, l.input.Value()), 0
	switch {
	case k.Type == tea.KeyLeft:
		by = len(l.choices) - 1
	case k.Type == tea.KeyRight || k.Type == tea.KeySpace:
		by = 1
	default: // by its first letter
		for j, c := range l.choices {
			if c != "" && k.String() == c[:1] {
				i = j
			}
		}
	}
	l.input.Set(l.choices[(max(i, 0)+by)%len(l.choices)])
}

func (f *form) move(by int) {
	seen := f.seen()
	seen[f.at].input.Blur()
	f.at = (f.at + by + len(seen)) % len(seen)
	seen[f.at].input.Focus()
}

func (f *form) save(s *screen.State) tea.Cmd {
	in, wrong := f.saving(s)
	for i, err := range wrong {
		if err != nil {
			f.move(i - f.at)
			return screen.Tell("", fmt.Errorf("%s: %w", f.seen()[i].name, err))
		}
	}
	if f.base.ID != "" && !f.changed() {
		return screen.Tell("nothing was changed", nil)
	}
	p := screen.Propose{Title: "create " + in.Policy.Name, Done: "created " + in.Policy.Name, Then: Saved{}}
	if f.base.ID != "" {
		p.Title, p.Done = "save "+f.base.Name, "saved "+in.Policy.Name
		p.What = differences(&f.base, &in.Policy, s)
	}
	if in.ConfirmWithin > 0 {
		p.What = append(p.What, fmt.Sprintf("reverts after %s unless confirmed", in.ConfirmWithin))
		p.Done += "; K keeps it, else it reverts"
	}
	p.Steps = []screen.Step{func(ctx context.Context, dry bool) (api.Impact, error) { return s.Client.Save(ctx, dry, in) }}
	return screen.Ask(p)
}

// differences tells two policies apart by their fields.
func differences(before, after *wire.Policy, s *screen.State) (out []string) {
	for i := range fields {
		f := &fields[i]
		if was, is := f.write(before, s), f.write(after, s); was != is {
			out = append(out, fmt.Sprintf("%s: %s → %s", f.name, dash(was), dash(is)))
		}
	}
	return out
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// checked is what a dry run of a form came to.
type checked struct {
	form   *form
	impact api.Impact
	err    error
}

// tick tries what is typed, once it has been the same for a tick and can be read.
func (f *form) tick(s *screen.State) tea.Cmd {
	in, wrong := f.saving(s)
	key := fmt.Sprintf("%+v %v", f.texts(), f.version)
	if f.checking || key == f.checked || !f.changed() || slices.ContainsFunc(wrong, func(err error) bool { return err != nil }) {
		return nil
	}
	f.checked, f.checking = key, true
	return screen.Call(func(ctx context.Context) tea.Msg {
		impact, err := s.Client.Save(ctx, true, in)
		return checked{f, impact, err}
	})
}

func (f *form) texts() (out []string) {
	for _, l := range f.seen() {
		out = append(out, l.input.Value())
	}
	return out
}

func (f *form) told(c checked) {
	f.checking, f.impact, f.refused = false, nil, c.err
	var p *api.Problem
	if c.err == nil {
		f.impact = &c.impact
	} else if !errors.As(c.err, &p) {
		f.checked = "" // no answer: the next tick asks again
	}
}

// refusal is what the server said of a field.
func (f *form) refusal(l *line) string {
	var p *api.Problem
	if !errors.As(f.refused, &p) || f.checked == "" {
		return ""
	}
	for _, one := range p.Problems {
		path := one.Path
		if strings.HasPrefix(path, "set.") || strings.HasPrefix(path, "policies[") {
			_, path, _ = strings.Cut(path, "].")
		}
		for _, own := range l.paths {
			if path == own || strings.HasPrefix(path, own+"[") || strings.HasPrefix(path, own+".") {
				return one.Message
			}
		}
	}
	return ""
}

func (f *form) view(s *screen.State, w, h int) []string {
	t := s.Theme
	if f.grid != nil {
		return f.grid.view(s)
	}
	title := "New policy"
	if f.base.ID != "" {
		title = "Policy " + theme.Clean(f.base.Name)
	}
	lines := []string{t.Paint(theme.Title, title)}
	in, wrong := f.saving(s)
	seen := f.seen()
	f.list.At = f.at
	from, to := f.list.Window(len(seen), h-2)
	if to-from < len(seen) {
		lines[0] += t.Paint(theme.Dim, fmt.Sprintf("  fields %d to %d of %d", from+1, to, len(seen)))
	}
	if f.base.ID != "" {
		lines[0] += t.Paint(theme.Dim, fmt.Sprintf("  %s, version %d", theme.Clean(string(f.base.ID)), f.version))
	}
	for i := from; i < to; i++ {
		lines = append(lines, f.row(s, seen[i], i == f.at, wrong[i], w))
	}
	lines = append(lines, f.outlook(t, w))
	if len(in.Policy.ActiveHours) > 0 && h-len(lines) >= 10 {
		on, _ := weekOf(in.Policy.ActiveHours)
		lines = append(append(lines, "", "  hours, "+theme.Clean(in.Policy.ActiveHours[0].Zone)), on.lines(t, -1, 0)...)
	}
	return lines
}

func (f *form) row(s *screen.State, l *line, at bool, wrong error, w int) string {
	t := s.Theme
	cursor, mark := "  ", " "
	if at {
		cursor = "▸ "
	}
	if l.input.Value() != strings.TrimSpace(l.was) {
		mark = "*"
	}
	text := ""
	if wrong != nil && l.input.Value() != "" {
		text = wrong.Error()
	} else if wrong == nil {
		text = f.refusal(l)
	}
	room, note := w-14, ""
	if text != "" {
		note = " " + t.Paint(theme.Bad, "✗ "+theme.Clean(text))
		room = min(room, max(10, min(len(l.input.Value())+1, w-54)))
	}
	if _, tag := offer(s, l); at && text == "" && tag != "" {
		note = t.Paint(theme.Dim, "→ "+theme.Clean(tag)+", ctrl+y")
		room = min(room, len(l.input.Value())+2)
	}
	value := l.input.View(t, room)
	if l.choices != nil {
		value = theme.Fit(dash(l.input.Value()), min(room, 10))
		if at {
			value = "< " + dash(l.input.Value()) + " >"
		}
	}
	return theme.Fit(cursor+t.Paint(theme.Dim, theme.Fit(l.name, 10))+mark+" "+value+note, w)
}

// outlook says what saving would do, as far as it is known.
func (f *form) outlook(t theme.Theme, w int) string {
	var p *api.Problem
	switch {
	case !f.changed() && f.base.ID != "":
		return t.Paint(theme.Dim, "  nothing is changed yet; what is not touched is kept")
	case f.checking:
		return t.Paint(theme.Dim, "  asking the server what saving would do…")
	case errors.As(f.refused, &p):
		return "  " + t.Paint(theme.Bad, "✗ "+theme.Clean(p.Error()))
	case f.refused != nil:
		return "  " + t.Paint(theme.Warn, "! the server does not answer; what is typed stays")
	case f.impact == nil:
		return ""
	}
	i := f.impact
	if len(i.Warnings) > 0 && w < 110 {
		return fmt.Sprintf("  +%d -%d, %d cut, %d flip", i.GainedCount, i.LostCount, len(i.Flows), len(i.Tests)) + t.Paint(theme.Warn, "  ! "+theme.Clean(i.Warnings[0]))
	}
	if w < 70 {
		return fmt.Sprintf("  saved now: +%d -%d, %s cut, %s flipped", i.GainedCount, i.LostCount, wire.Count(len(i.Flows), "flow"), wire.Count(len(i.Tests), "test"))
	}
	line := fmt.Sprintf("  saved now: +%d gained, -%d lost, %s cut, %s flipped", i.GainedCount, i.LostCount, wire.Count(len(i.Flows), "flow"), wire.Count(len(i.Tests), "test"))
	if len(i.Warnings) > 0 {
		line += t.Paint(theme.Warn, "  ! "+theme.Clean(i.Warnings[0]))
	}
	return line
}
