// Package names shows the zones and records of DNS, and what a name stands for as one
// system sees it: answers depend on who asks.
package names

import (
	"cmp"
	"context"
	"fmt"
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

// entry is a zone or a record.
type entry struct {
	name   string
	zone   *api.Zone
	record *api.Record
}

// Model is the screen.
type Model struct {
	list  listing.List[entry]
	found *found // nil where nothing was asked
}

var (
	resolve = keys.New("resolve as a system", "r")
	add     = keys.Writes("new record", "n")
	addZone = keys.Writes("new zone", "z")
	drop    = keys.Writes("delete", "x")
	closeIt = keys.New("back to the list", "esc")
)

// New makes the screen.
func New() *Model {
	return &Model{list: listing.New(listing.List[entry]{
		Ask:     read,
		Columns: []theme.Column{{Head: "name", Min: 20, Max: 30}, {Head: "what", Min: 15}, {Head: "stands for", Min: 16, Max: 60}},
		Cells: func(s *screen.State, e *entry) []string {
			name := e.name
			if e.record != nil {
				name = "  " + name
			}
			return []string{theme.Clean(name), what(e), theme.Clean(targets(s, e))}
		},
		Words: func(e *entry) find.Thing { return find.Thing{Names: []string{e.name}, Texts: []string{what(e)}} },
		Head: func(_ *screen.State, shown, of int) string {
			return fmt.Sprintf("zones and records: %d of %d", shown, of)
		},
		Empty: "nothing here", Detail: detail,
	})}
}

// read lists zones, each with its records after it.
func read(ctx context.Context, c screen.Client) ([]entry, error) {
	zones, err := c.Zones(ctx)
	if err != nil {
		return nil, err
	}
	records, err := c.Records(ctx)
	if err != nil {
		return nil, err
	}
	var out []entry
	slices.SortFunc(zones, func(a, b api.Zone) int { return cmp.Compare(a.Name, b.Name) })
	for i := range zones {
		out = append(out, entry{name: zones[i].Name, zone: &zones[i]})
		for j := range records {
			if records[j].Zone == zones[i].Name {
				out = append(out, entry{name: records[j].Name, record: &records[j]})
			}
		}
	}
	return out, nil
}

func what(e *entry) string {
	switch {
	case e.record != nil:
		return "record"
	case e.zone.BuiltIn:
		return "zone, built in"
	case e.zone.Forward != nil:
		return "zone, forwarded"
	}
	return "zone"
}

func targets(s *screen.State, e *entry) string {
	if e.zone != nil {
		switch {
		case e.zone.Forward != nil:
			return "what its resolvers answer"
		case e.zone.BuiltIn:
			return "every system's own names"
		case len(e.zone.AutoTags) == 0:
			return "its records"
		}
		return "systems tagged " + join(e.zone.AutoTags)
	}
	var out []string
	if len(e.record.Tags) > 0 {
		out = append(out, "systems tagged "+join(e.record.Tags))
	}
	for _, id := range e.record.Systems {
		out = append(out, s.Named("system:"+string(id)))
	}
	return strings.Join(out, ", ")
}

func join(list []wire.Tag) string {
	var out []string
	for _, t := range list {
		out = append(out, string(t))
	}
	return strings.Join(out, ", ")
}

// Name of the screen.
func (*Model) Name() string { return "dns" }

// Keys of the list, the form, or an answer.
func (m *Model) Keys() []keys.Binding {
	if m.found != nil && !m.list.Filling() {
		return []keys.Binding{closeIt, resolve}
	}
	return m.list.Keys(resolve, add, addZone, drop)
}

// Typing is so in the form and the search.
func (m *Model) Typing() bool { return m.list.Typing() }

// done closes the form once its change is made.
type done = listing.Done[entry]

// found is what a name stood for.
type found struct {
	api.Resolution
	err error
}

// Update follows keys and readings.
func (m *Model) Update(msg tea.Msg, s *screen.State) tea.Cmd {
	switch msg := msg.(type) {
	case found:
		m.found = &msg
		m.list.Fill(nil)
		return nil
	case tea.KeyMsg:
		return m.pressed(msg, s)
	}
	return m.list.Update(msg, s)
}

func (m *Model) pressed(k tea.KeyMsg, s *screen.State) tea.Cmd {
	switch {
	case m.list.Typing():
	case resolve.Is(k):
		m.list.Fill(askForm(s.Client))
		return nil
	case m.found != nil:
		if closeIt.Is(k) {
			m.found = nil
		}
		return nil
	case add.Is(k):
		m.list.Fill(recordForm(s))
		return nil
	case addZone.Is(k):
		m.list.Fill(zoneForm(s))
		return nil
	case drop.Is(k):
		if e := m.list.Chosen(); e != nil {
			name, zone, c := e.name, e.zone != nil, s.Client
			return screen.Ask(screen.Propose{Title: "delete " + name, Done: "deleted " + name, Then: done{},
				Steps: []screen.Step{func(ctx context.Context, dry bool) (api.Impact, error) { return c.DropName(ctx, dry, name, zone) }}})
		}
		return nil
	}
	return m.list.Update(k, s)
}

func askForm(c screen.Client) *listing.Form {
	return listing.NewForm("What a name stands for", func(v []string) tea.Cmd {
		return screen.Call(func(ctx context.Context) tea.Msg {
			r, err := c.Resolve(ctx, v[0], v[1], time.Time{})
			return found{r, err}
		})
	}, listing.Field{Name: "name", Example: "pod-1.enclave", Check: listing.Needed("which name?")},
		listing.Field{Name: "asked by", Example: "a system, by name or ID", Check: listing.Needed("who asks? Answers depend on it")})
}

func recordForm(s *screen.State) *listing.Form {
	c := s.Client
	known, ids := listing.Systems(s)
	return listing.NewForm("New record", func(v []string) tea.Cmd {
		r := wire.Record{Name: v[0], Systems: ids(v[2])}
		r.Tags, _ = listing.ReadTags(v[1]) // Check has read them
		return screen.Ask(screen.Propose{Title: "let " + r.Name + " stand for them", Done: "made " + r.Name, Then: done{},
			Steps: []screen.Step{func(ctx context.Context, dry bool) (api.Impact, error) { return c.AddRecord(ctx, dry, r) }}})
	}, listing.Field{Name: "name", Example: "db.corp.example, *.corp.example", Check: listing.Needed("a record needs a name in a zone of ours")},
		listing.Field{Name: "tags", Example: "systems with one of these", Check: listing.Tags},
		listing.Field{Name: "systems", Example: "and these", Check: known})
}

// zoneForm asks for a zone: ours, or with gateways and resolvers somebody else's.
func zoneForm(s *screen.State) *listing.Form {
	c := s.Client
	known, ids := listing.Systems(s)
	return listing.NewForm("New zone", func(v []string) tea.Cmd {
		z := wire.Zone{Name: v[0], Notes: v[4]}
		z.AutoTags, _ = listing.ReadTags(v[1])
		if v[2] != "" || v[3] != "" {
			z.Forward = &wire.ZoneForward{Gateways: ids(v[2]), Resolvers: strings.Fields(v[3])}
		}
		return screen.Ask(screen.Propose{Title: "make the zone " + z.Name, Done: "made " + z.Name, Then: done{},
			Steps: []screen.Step{func(ctx context.Context, dry bool) (api.Impact, error) { return c.AddZone(ctx, dry, z) }}})
	}, listing.Field{Name: "name", Example: "corp.example", Check: listing.Needed("a zone needs a name")},
		listing.Field{Name: "tags", Example: "systems with one are HOSTNAME.ZONE", Check: listing.Tags},
		listing.Field{Name: "gateways", Example: "it is not ours: who leads to its resolvers", Check: known},
		listing.Field{Name: "resolvers", Example: "192.168.1.53, behind the gateways"},
		listing.Field{Name: "notes", Example: "what it is for"})
}

// View draws the list, the form or an answer.
func (m *Model) View(s *screen.State, w, h int) string {
	if m.found != nil && !m.list.Filling() {
		return theme.Box(answer(s, m.found, w), w, h)
	}
	return m.list.View(s, w, h)
}

func answer(s *screen.State, f *found, w int) []string {
	if f.err != nil {
		return theme.Wrap(s.Theme.Paint(theme.Bad, "✗ "+theme.Clean(f.err.Error())), w)
	}
	var systems, via []string
	for _, r := range f.Systems {
		systems = append(systems, fmt.Sprintf("%s %s %s", r.Name, r.IPv4, r.IPv6))
	}
	for _, v := range f.Resolvers {
		via = append(via, fmt.Sprintf("%s behind %s", v.Resolver, s.Named("system:"+string(v.Gateway))))
	}
	as := cmp.Or(f.AsName, string(f.As))
	lines := listing.Facts(s.Theme, w, s.Theme.Paint(theme.Title, theme.Clean(f.Name))+" as "+theme.Clean(as)+" sees it: "+s.Theme.State(f.Kind),
		"zone", f.Zone, "why", f.Why, "asks", strings.Join(via, ", "), "rcode", f.RCode)
	for i, text := range systems {
		if i == 0 {
			lines = append(lines, s.Theme.Paint(theme.Title, "An answer is one of"))
		}
		lines = append(lines, "  "+theme.Clean(text))
	}
	return lines
}

func detail(s *screen.State, e *entry, w int) []string {
	notes, forward := "", ""
	if e.zone != nil {
		notes = e.zone.Notes
		if f := e.zone.Forward; f != nil {
			var via []string
			for _, g := range f.Gateways {
				via = append(via, s.Named("system:"+string(g)))
			}
			forward = "to " + strings.Join(f.Resolvers, ", ") + " behind " + strings.Join(via, ", ")
		}
	} else {
		notes = e.record.Notes
	}
	return listing.Facts(s.Theme, w, s.Theme.Paint(theme.Title, theme.Clean(e.name))+"  "+what(e), "stands for", targets(s, e), "forwarded", forward, "notes", notes)
}

// Click puts the cursor on a row.
func (m *Model) Click(_, y int, _ *screen.State) bool {
	return m.found == nil && m.list.Click(y)
}
