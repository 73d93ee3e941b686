package systems

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/screen"
	"enclave/tui/theme"
	"enclave/wire"
	"enclave/wire/api"
)

// moreEvery is how old what was asked about a system may get while it is looked at.
const moreEvery = 3 * time.Second

// shownRows is how many peers, accesses and flows of one system are drawn.
const shownRows = 200

// more is what is asked for only while the details of a system are open: its paths, what
// it may open, its flows. Each fails for itself: an agent that is away tells no paths.
type more struct {
	of                            wire.SystemID
	at                            time.Time
	busy                          bool
	loaded                        bool
	paths                         []api.PeerPath
	access                        api.SystemAccess
	flows                         []api.LiveFlow
	pathsErr, accessErr, flowsErr error
}

// inquire asks for all of it, never twice at once.
func (m *Model) inquire(s *screen.State) tea.Cmd {
	sys := m.current()
	if !m.detail || sys == nil {
		return nil
	}
	if m.more.of == sys.ID && (m.more.busy || m.more.loaded && s.Now.Sub(m.more.at) < moreEvery) {
		return nil
	}
	if m.more.of != sys.ID {
		m.more, m.scroll = more{of: sys.ID}, screen.List{}
	}
	m.more.busy, m.more.at = true, s.Now
	out, id, up := m.more, string(sys.ID), sys.State == wire.Connected
	return screen.Call(func(ctx context.Context) tea.Msg {
		out.access, out.accessErr = s.Client.Access(ctx, id, time.Time{})
		out.paths, out.flows, out.pathsErr, out.flowsErr = nil, nil, nil, nil
		if up {
			out.paths, out.pathsErr = s.Client.Paths(ctx, id)
			var all []api.LiveFlow
			all, out.flowsErr = s.Client.Flows(ctx)
			out.flows = slices.DeleteFunc(slices.Clone(all), func(f api.LiveFlow) bool { return f.From != out.of && f.To != out.of })
		}
		return out
	})
}

func (m *Model) told(x more) {
	if x.of == m.more.of {
		m.more = x
		m.more.busy, m.more.loaded = false, true
	}
}

// page of details.
type page struct {
	t     theme.Theme
	w     int
	lines []string
}

func (p *page) add(name, value string) {
	for i, part := range theme.Wrap(value, p.w-14) {
		if i > 0 {
			name = ""
		}
		p.lines = append(p.lines, "  "+p.t.Paint(theme.Dim, theme.Fit(name, 11))+" "+part)
	}
}

func (p *page) head(text string) {
	p.lines = append(p.lines, "", p.t.Paint(theme.Title, text))
}

// failed says what became of a question, if nothing good.
func (p *page) failed(what string, err error) bool {
	if err == nil {
		return false
	}
	p.head(what)
	p.lines = append(p.lines, theme.Wrap("  "+p.t.Paint(theme.Bad, "✗ "+theme.Clean(err.Error())), p.w)...)
	return true
}

// details are everything that is known of one system.
func (m *Model) details(s *screen.State, sys *api.System, w int) []string {
	p := &page{t: s.Theme, w: w}
	at := func(v *time.Time) string {
		if v == nil || v.IsZero() {
			return "-"
		}
		return v.In(s.Now.Location()).Format("2006-01-02 15:04:05")
	}
	p.lines = append(p.lines, p.t.Paint(theme.Title, theme.Clean(sys.Name))+"  "+p.t.State(string(sys.State)))
	p.add("id, kind", theme.Clean(string(sys.ID))+", "+theme.Clean(sys.Kind))
	p.add("tags", list(sys.Tags))
	p.add("addresses", sys.IPv4.String()+", "+sys.IPv6.String())
	p.add("host", theme.Clean(dash(sys.Host.Hostname)+", "+dash(sys.Host.Platform)+", "+dash(sys.Host.Version)))
	p.add("seen from", theme.Clean(dash(sys.SeenFrom)+", NAT "+dash(sys.NAT)+", relay "+dash(string(sys.Relay))))
	var routes []string
	for _, r := range sys.Routes {
		text := r.Subnet.String()
		if r.As.IsValid() {
			text += " shown as " + r.As.String()
		}
		routes = append(routes, text)
	}
	p.add("routes", dash(strings.Join(routes, ", ")))
	var added []string
	for _, id := range sys.Adds {
		added = append(added, s.Named("system:"+string(id)))
	}
	if len(added) > 0 {
		p.add("has added", theme.Clean(strings.Join(added, ", ")))
	}
	p.add("applied", fmt.Sprintf("revision %d of %d", sys.Applied, s.Org.Revision.Revision))
	expires := at(sys.ExpiresAt)
	if sys.ExpiresLocal != nil {
		expires = sys.ExpiresLocal.String()
	}
	if sys.ExpiresAt != nil && sys.ExpiryAction != "" {
		expires += ", then " + string(sys.ExpiryAction)
	}
	p.add("expires", expires)
	p.add("enrolled", at(&sys.EnrolledAt)+" with key "+dash(string(sys.Key)))
	p.add("connected", at(sys.ConnectedAt))
	for _, mark := range sys.Trust {
		p.add("trust", theme.Clean(mark.Requirement)+" until "+at(&mark.Until))
	}
	if sys.Notes != "" {
		p.add("notes", theme.Clean(sys.Notes))
	}
	m.asked(s, sys, p)
	return p.lines
}

// asked draws what agents and the policy engine say of the system.
func (m *Model) asked(s *screen.State, sys *api.System, p *page) {
	x := &m.more
	if x.of != sys.ID || !x.loaded {
		p.head("asking for its peers, grants and flows…")
		return
	}
	m.peers(sys, p)
	if !p.failed("Grants", x.accessErr) {
		grants(p, "May open", x, func(a *api.Access) (bool, string) { return a.From == sys.ID, "→ " + a.Names[1] })
		grants(p, "May be opened by", x, func(a *api.Access) (bool, string) { return a.To == sys.ID, "← " + a.Names[0] })
	}
	if sys.State != wire.Connected || p.failed("Flows", x.flowsErr) {
		return
	}
	p.head(fmt.Sprintf("Flows: %d", len(x.flows)))
	for i := range x.flows[:min(len(x.flows), shownRows)] {
		f := &x.flows[i]
		other := "→ " + f.Names[1]
		if f.To == sys.ID {
			other = "← " + f.Names[0]
		}
		p.lines = append(p.lines, fmt.Sprintf("  %s %s  %s  by %s", theme.Clean(other), service(f.Proto, f.Dst.Port()), wire.Count(f.Bytes, "byte"), theme.Clean(f.PolicyName)))
	}
}

func (m *Model) peers(sys *api.System, p *page) {
	x := &m.more
	if sys.State != wire.Connected || p.failed("Peers", x.pathsErr) {
		return
	}
	p.head(fmt.Sprintf("Peers: %d", len(x.paths)))
	slices.SortStableFunc(x.paths, func(a, b api.PeerPath) int { return cmp.Compare(a.Name, b.Name) })
	for i := range x.paths[:min(len(x.paths), shownRows)] {
		one := &x.paths[i]
		rtt := "-"
		if one.RTT > 0 {
			rtt = one.RTT.Round(100 * time.Microsecond).String()
		}
		word := one.Route
		if word == "none" {
			word = "waiting"
		}
		p.lines = append(p.lines, "  "+theme.Fit(theme.Clean(one.Name), 18)+" "+theme.Fit(p.t.State(word), 9)+" "+theme.Fit(rtt, 8)+" "+theme.Clean(one.Via))
		if one.Why != "" {
			p.add("", theme.Clean(one.Why))
		}
	}
}

func grants(p *page, what string, x *more, of func(*api.Access) (bool, string)) {
	var lines []string
	for i := range x.access.Items {
		a := &x.access.Items[i]
		mine, other := of(a)
		if !mine {
			continue
		}
		lines = append(lines, "  "+theme.Clean(other)+" "+theme.Clean(a.What())+"  by "+theme.Clean(cmp.Or(a.PolicyName, string(a.Policy))))
	}
	p.head(fmt.Sprintf("%s: %d", what, len(lines)))
	p.lines = append(p.lines, lines[:min(len(lines), shownRows)]...)
	if over := len(lines) - shownRows; over > 0 || x.access.More {
		p.lines = append(p.lines, fmt.Sprintf("  … and %d more and what the server left out: \"enclave system access\"", max(over, 0)))
	}
}

func service(proto wire.Proto, port uint16) string {
	if port == 0 {
		return proto.String()
	}
	return fmt.Sprintf("%s/%d", proto, port)
}
