// Package runs shows what untrusted scripts did: each run with its level, its risk score,
// the tools that it used and how it stands. The audit trail is the source, so runs of
// every sandbox server that joins the overlay are here; cancelling one takes the server
// that holds it, which is named as the program starts.
package runs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/tui/screen/listing"
	"enclave/tui/theme"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/find"
)

// run is what the trail and the server tell of one.
type run struct {
	id, user, level, state string
	score                  int // -1 is not told yet
	began, ended           time.Time
	calls                  []call
	errorCode              string
	session                string // at the server; empty where it holds none
}

// call is one call of a tool.
type call struct {
	at            time.Time
	tool, outcome string
	args          string
	took          time.Duration
}

// Model is the screen.
type Model struct{ list listing.List[run] }

var cancel = keys.Writes("cancel the run", "c")

// New makes the screen.
func New() *Model {
	return &Model{list: listing.New(listing.List[run]{
		Ask: read,
		Columns: []theme.Column{{Head: "run", Min: 20, Max: 22}, {Head: "state", Min: 11, Max: 24}, {Head: "level", Min: 10}, {Head: "risk", Min: 5}, {Head: "tools used", Min: 16, Max: 50},
			{Head: "began", Min: 8}, {Head: "took", Min: 9}, {Head: "for", Min: 8, Max: 20}},
		Cells: func(s *screen.State, r *run) []string {
			return []string{theme.Clean(r.id), s.Theme.State(r.state), theme.Clean(cmp.Or(r.level, "-")), r.risk(), theme.Clean(r.tools()), r.began.In(s.Now.Location()).Format("15:04:05"), r.took(s.Now), theme.Clean(r.user)}
		},
		Words: func(r *run) find.Thing {
			return find.Thing{Names: []string{r.user}, Texts: []string{r.level, r.state, r.tools()}, IDs: []string{r.id}}
		},
		Head: func(_ *screen.State, shown, of int) string {
			return fmt.Sprintf("%d of the newest %s", shown, wire.Count(of, "run"))
		},
		Empty: "no run is in the audit trail: \"enclave sandbox run --join\" makes one", Detail: detail,
	})}
}

// maxRecords of each kind are read: the newest.
const maxRecords = 1000

func read(ctx context.Context, c screen.Client) ([]run, error) {
	var all []api.AuditRecord
	for _, action := range []string{"run.*", "tool.*"} {
		list, err := c.Audit(ctx, url.Values{"action": {action}}, maxRecords)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b api.AuditRecord) int { return cmp.Compare(a.Seq, b.Seq) })
	sessions, err := c.Sessions(ctx)
	if err != nil && !errors.Is(err, screen.ErrNoSandbox) {
		return nil, err
	}
	return gather(all, sessions), nil
}

// told is what of a record's detail is looked at (docs/format of the sandbox's records).
type told struct {
	Run, User, Level, Outcome, Tool string
	Score                           *int
	Args                            json.RawMessage
	Duration                        int64 `json:"duration_ns"`
	Error                           string
}

// gather makes runs of records in their order; the newest run comes first.
func gather(records []api.AuditRecord, sessions []screen.Session) []run {
	byID := make(map[string]*run)
	var order []*run
	of := func(id string, at time.Time) *run {
		r := byID[id]
		if r == nil {
			r = &run{id: id, began: at, state: "running", score: -1}
			byID[id] = r
			order = append(order, r)
		}
		return r
	}
	for i := range records {
		rec := &records[i]
		name, ok := strings.CutPrefix(rec.Actor, "run:")
		var d told
		if json.Unmarshal(rec.Detail, &d) != nil || !ok {
			continue
		}
		r := of(cmp.Or(d.Run, name), rec.At)
		r.user, r.level = cmp.Or(d.User, r.user), cmp.Or(d.Level, r.level)
		switch rec.Action {
		case "tool.result":
			r.calls = append(r.calls, call{rec.At, d.Tool, d.Outcome, string(d.Args), time.Duration(d.Duration)})
		case "run.end":
			r.ended, r.state = rec.At, cmp.Or(d.Outcome, rec.Outcome)
			if r.state != "ok" {
				r.state, r.errorCode = "failed", d.Outcome
			}
			if d.Score != nil {
				r.score = *d.Score
			}
		}
	}
	for _, s := range sessions {
		r := of(s.Run, s.At)
		r.session = s.ID
		if r.ended.IsZero() && s.State != "" {
			r.state = s.State
		}
	}
	out := make([]run, 0, len(order))
	slices.SortStableFunc(order, func(a, b *run) int { return b.began.Compare(a.began) })
	for _, r := range order {
		out = append(out, *r)
	}
	return out
}

// tools are the names of those that were called, with how often.
func (r *run) tools() string {
	var names []string
	count := make(map[string]int)
	for _, c := range r.calls {
		if count[c.tool]++; count[c.tool] == 1 {
			names = append(names, c.tool)
		}
	}
	for i, n := range names {
		if count[n] > 1 {
			names[i] = fmt.Sprintf("%s ×%d", n, count[n])
		}
	}
	return cmp.Or(strings.Join(names, " "), "-")
}

func (r *run) risk() string {
	if r.score < 0 {
		return "-"
	}
	return fmt.Sprint(r.score)
}

// live reports whether it goes on.
func (r *run) live() bool {
	switch r.state {
	case "starting", "running", "waiting":
		return r.ended.IsZero()
	}
	return false
}

func (r *run) took(now time.Time) string {
	end := r.ended
	switch {
	case end.IsZero() && !r.live():
		return "-" // its server knows that it has ended, not when
	case end.IsZero():
		end = now
	}
	return end.Sub(r.began).Round(time.Millisecond).String()
}

func detail(s *screen.State, r *run, w int) []string {
	lines := listing.Facts(s.Theme, w, s.Theme.Paint(theme.Title, theme.Clean(r.id))+"  "+s.Theme.State(r.state),
		"for", r.user, "level", r.level, "risk", r.risk()+" of 100", "began", r.began.In(s.Now.Location()).Format("2006-01-02 15:04:05.000"),
		"took", r.took(s.Now), "ended with", r.errorCode, "session", r.session)
	lines = append(lines, s.Theme.Paint(theme.Title, fmt.Sprintf("Calls: %d", len(r.calls))))
	for _, c := range r.calls {
		outcome := s.Theme.State(c.outcome)
		if c.outcome != "ok" {
			outcome = s.Theme.Paint(theme.Bad, "✗ "+theme.Clean(c.outcome))
		}
		lines = append(lines, fmt.Sprintf("  %s %s %s %s", c.at.In(s.Now.Location()).Format("15:04:05.000"), theme.Clean(c.tool), outcome, c.took.Round(10*time.Microsecond)))
		if c.args != "" && c.args != "null" {
			for _, l := range theme.Wrap(theme.Clean(c.args), w-6) {
				lines = append(lines, "      "+s.Theme.Paint(theme.Dim, l))
			}
		}
	}
	return lines
}

// Name of the screen.
func (*Model) Name() string { return "sandbox" }

// Keys of the list.
func (m *Model) Keys() []keys.Binding { return m.list.Keys(cancel) }

// Typing is so while a search is typed.
func (m *Model) Typing() bool { return m.list.Typing() }

// Update follows the list; c cancels.
func (m *Model) Update(msg tea.Msg, s *screen.State) tea.Cmd {
	k, ok := msg.(tea.KeyMsg)
	if !ok || m.list.Typing() || !cancel.Is(k) {
		return m.list.Update(msg, s)
	}
	r := m.list.Chosen()
	switch {
	case r == nil:
		return nil
	case !r.live():
		return screen.Tell("", errors.New(r.id+" has ended"))
	case r.session == "":
		return screen.Tell("", errors.New("no server that was named holds "+r.id+": start with --sandbox URL and its token"))
	}
	id, session, c := r.id, r.session, s.Client
	return screen.Ask(screen.Propose{Title: "cancel " + id, Warn: "it ends where it is; what its tools did stays done", Done: "cancelled " + id, Then: screen.Shown{},
		Steps: []screen.Step{func(ctx context.Context, dry bool) (api.Impact, error) {
			if dry {
				return api.Impact{}, nil
			}
			return api.Impact{}, c.CancelSession(ctx, session)
		}}})
}

// View draws it.
func (m *Model) View(s *screen.State, w, h int) string { return m.list.View(s, w, h) }

// Click puts the cursor on a row.
func (m *Model) Click(_, y int, _ *screen.State) bool { return m.list.Click(y) }
