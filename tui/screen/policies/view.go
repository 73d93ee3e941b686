package policies

import (
	"fmt"
	"strings"
	"time"

	"enclave/tui/screen"
	"enclave/tui/theme"
	"enclave/wire"
	"enclave/wire/api"
)

var columns = []theme.Column{{Head: "policy", Min: 18, Max: 30}, {Head: "state", Min: 15, Max: 20}, {Head: "who", Min: 16, Max: 36}, {Head: "rules", Min: 12, Max: 24}, {Head: "until", Min: 11}}

// View draws the list, one policy, or the form.
func (m *Model) View(s *screen.State, w, h int) string {
	if m.form != nil {
		return theme.Box(m.form.view(s, w, h), w, h)
	}
	if m.past != nil {
		return theme.Box(m.past.view(s, w, h), w, h)
	}
	t := s.Theme
	rows := m.seen(s)
	if m.detail && m.list.At < len(rows) {
		return theme.Box(m.scroll.Cut(details(s, rows[m.list.At], w, h), h), w, h)
	}
	top := fmt.Sprintf("%d of %d", len(rows), len(s.Org.Policies))
	if m.until != nil {
		top = "enable for: " + m.until.View(t, max(1, min(34, w-14)))
		if m.wrong != "" {
			top = "enable for: " + m.until.View(t, min(14, w/3)) + " " + t.Paint(theme.Bad, "✗ "+theme.Clean(m.wrong))
		}
	} else if m.search.Focused() {
		top = "search: " + m.search.View(t, w-8)
	} else if v := m.search.Value(); v != "" {
		top += "  search: " + theme.Clean(v)
	}
	if by := s.Org.Revision.ConfirmBy; by != nil {
		top += t.Paint(theme.Warn, "  ! the last change reverts at "+by.In(s.Now.Location()).Format("15:04:05")+": K keeps it")
	}
	widths := theme.Widths(columns, w-2)
	lines := []string{top, t.Paint(theme.Dim, "  "+theme.Row(widths, "policy", "state", "who", "rules", "until"))}
	m.page = max(1, h-len(lines))
	from, to := m.list.Window(len(rows), m.page)
	lines[0] += m.list.Rest(len(rows))
	for i := from; i < to; i++ {
		p := rows[i]
		cursor, name := "  ", theme.Clean(p.Name)
		if i == m.list.At {
			cursor, name = "▸ ", t.Paint(theme.Chosen, theme.Fit(name, widths[0]))
		}
		lines = append(lines, cursor+theme.Row(widths, name, t.State(p.State), who(p), rules(p.ACLs), until(p, s.Now)))
	}
	switch {
	case len(s.Org.Policies) == 0 && s.ReadOnly:
		lines = append(lines, t.Paint(theme.Dim, "  no policy: no system knows any other"))
	case len(s.Org.Policies) == 0:
		lines = append(lines, t.Paint(theme.Dim, "  no policy: no system knows any other; n makes one"))
	case len(rows) == 0:
		lines = append(lines, t.Paint(theme.Dim, "  nothing matches; esc clears the search"))
	}
	return theme.Box(lines, w, h)
}

func tagWords(tags []wire.Tag) string {
	words := make([]string, len(tags))
	for i, t := range tags {
		words[i] = string(t)
	}
	return theme.Clean(strings.Join(words, ","))
}

func who(p *api.Policy) string {
	if p.Kind == wire.Gateway {
		return tagWords(p.SenderTags) + " → " + wire.Count(len(p.Gateways), "gateway")
	}
	return tagWords(p.SenderTags) + " → " + tagWords(p.ReceiverTags)
}

func rules(acls []wire.ACL) string {
	words := make([]string, len(acls))
	for i, a := range acls {
		words[i] = a.Proto.String()
		if len(a.Ports) > 0 {
			words[i] += "/" + a.Ports.String()
		}
	}
	return strings.Join(words, " ")
}

func until(p *api.Policy, now time.Time) string {
	at, err := p.Expiry()
	if err != nil || at.IsZero() {
		return "-"
	}
	return at.In(now.Location()).Format("01-02 15:04")
}

// why says what makes the state of a policy.
func why(p *api.Policy, now time.Time) string {
	switch p.State {
	case "active":
		return "enabled, inside its hours, not expired"
	case "disabled":
		return "somebody disabled it; e enables it"
	case "outside hours":
		return "its hours are " + hours(p.ActiveHours)
	case "expired":
		return "it ended at " + until(p, now)
	case "inactive: no rules":
		return "it has no rules, so it introduces nobody"
	}
	return "-"
}

func hours(list wire.Windows) string {
	if len(list) == 0 {
		return "always"
	}
	return theme.Clean(hoursText(list))
}

// ends says when a policy ends, and what is done with it then.
func ends(p *api.Policy) string {
	text := writeExpiry(&p.Policy, nil)
	if text != "" && p.ExpiryAction != "" {
		text += ", then " + string(p.ExpiryAction)
	}
	return theme.Clean(text)
}

func details(s *screen.State, p *api.Policy, w, h int) []string {
	t := s.Theme
	lines := []string{t.Paint(theme.Title, theme.Clean(p.Name)) + "  " + t.State(p.State)}
	add := func(name, value string) {
		if value == "" {
			value = "-"
		}
		for i, part := range theme.Wrap(value, w-14) {
			if i > 0 {
				name = ""
			}
			lines = append(lines, "  "+t.Paint(theme.Dim, theme.Fit(name, 11))+" "+part)
		}
	}
	add("why", why(p, s.Now))
	add("senders", tagWords(p.SenderTags))
	if p.Kind == wire.Gateway {
		for _, g := range p.Gateways {
			add("gateway", theme.Clean(nameOf(s, g.System))+" for "+theme.Clean(strings.Join(g.Subnets, ", ")))
		}
		add("only to", theme.Clean(strings.Join(p.SubnetFilter, ", ")))
		add("priority", p.Priority)
	} else {
		add("receivers", tagWords(p.ReceiverTags))
	}
	add("allow", theme.Clean(ruleText(p.ACLs)))
	add("trust", theme.Clean(strings.Join(p.SenderTrust, ", ")))
	if len(p.RecvTrust) > 0 {
		add("recv trust", theme.Clean(strings.Join(p.RecvTrust, ", ")))
	}
	add("hours", hours(p.ActiveHours))
	add("expires", ends(p))
	for _, text := range p.Warnings {
		add("warning", theme.Clean(text))
	}
	add("id, version", fmt.Sprintf("%s, revision %d", theme.Clean(string(p.ID)), p.Version))
	if p.Notes != "" {
		add("notes", theme.Clean(p.Notes))
	}
	if len(p.ActiveHours) > 0 && h-len(lines) >= 10 {
		on, _ := weekOf(p.ActiveHours)
		lines = append(append(lines, "", "  "+theme.Clean(p.ActiveHours[0].Zone)), on.lines(t, -1, 0)...)
	}
	return lines
}

// Click puts the cursor on a policy, a revision or a field.
func (m *Model) Click(_, y int, s *screen.State) bool {
	switch {
	case m.form != nil:
		f := m.form
		if i := y - 1; f.grid == nil && i >= 0 && f.list.Click(i, len(f.seen())) || f.grid == nil && f.list.At != f.at {
			f.move(f.list.At - f.at)
		}
		return false // enter saves: only a key does
	case m.past != nil:
		return m.past.diff == nil && !m.past.asked && m.past.list.Click(y-2, len(m.past.all))
	}
	return !m.detail && !m.Typing() && m.list.Click(y-2, len(m.seen(s)))
}
