package policies

import (
	"errors"
	"fmt"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/screen"
	"enclave/tui/theme"
	"enclave/wire"
)

// form makes a policy. What is wrong with a field stands beside it while it is typed;
// what only the server knows comes with the dry run, and the form stays as it was.
type form struct {
	at     int
	fields []field
}

type field struct {
	name  string
	input screen.Input
	// read puts the text into the policy.
	read func(p *wire.Policy, text string, now time.Time) error
}

func newForm() *form {
	f := &form{fields: []field{
		{"name", screen.NewInput("Web for laptops"), readName},
		{"senders", screen.NewInput("tags: laptops contractors"), readSenders},
		{"receivers", screen.NewInput("tags: servers"), readReceivers},
		{"allow", screen.NewInput("tcp/22,8000-8100 udp/53 icmp any"), readRules},
		{"trust", screen.NewInput("requirements of senders, or nothing"), readTrust},
		{"hours", screen.NewInput("mon-fri 08:00-18:00 Europe/London, or nothing"), readHours},
		{"expires", screen.NewInput("8h, 7d, 2026-12-24T18:00:00Z, or nothing"), readExpiry},
	}}
	f.fields[0].input.Focus()
	return f
}

func (f *form) update(k tea.KeyMsg, s *screen.State) tea.Cmd {
	switch {
	case next.Is(k):
		f.move(1)
	case prev.Is(k):
		f.move(-1)
	case save.Is(k):
		p, wrong := f.policy(s.Now)
		for i, err := range wrong {
			if err != nil {
				f.move(i - f.at)
				return screen.Tell("", fmt.Errorf("%s: %w", f.fields[i].name, err))
			}
		}
		return creation(s, p)
	default:
		f.fields[f.at].input.Update(k)
	}
	return nil
}

func (f *form) move(by int) {
	f.fields[f.at].input.Blur()
	f.at = (f.at + by + len(f.fields)) % len(f.fields)
	f.fields[f.at].input.Focus()
}

// policy reads every field and returns what is wrong with each.
func (f *form) policy(now time.Time) (wire.Policy, []error) {
	p := wire.Policy{Kind: wire.Direct, Enabled: true}
	wrong := make([]error, len(f.fields))
	for i := range f.fields {
		wrong[i] = f.fields[i].read(&p, f.fields[i].input.Value(), now)
	}
	return p, wrong
}

func (f *form) view(s *screen.State, w, h int) []string {
	t := s.Theme
	p, wrong := f.policy(s.Now)
	lines := []string{t.Paint(theme.Title, "New policy")}
	for i := range f.fields {
		cursor := "  "
		if i == f.at {
			cursor = "▸ "
		}
		room := w - 13
		note := ""
		if err := wrong[i]; err != nil && f.fields[i].input.Value() != "" {
			note = " " + t.Paint(theme.Bad, "✗ "+theme.Clean(err.Error()))
			room = min(room, max(10, len(f.fields[i].input.Value())+1))
		}
		lines = append(lines, theme.Fit(cursor+t.Paint(theme.Dim, theme.Fit(f.fields[i].name, 10))+" "+f.fields[i].input.View(t, room)+note, w))
	}
	if len(p.ActiveHours) > 0 && h-len(lines) >= 9 {
		lines = append(append(lines, ""), week(p.ActiveHours)...)
	}
	return lines
}

func readName(p *wire.Policy, text string, _ time.Time) error {
	if text == "" {
		return errors.New("every policy has a name")
	}
	p.Name = text
	return nil
}

func readSenders(p *wire.Policy, text string, _ time.Time) (err error) {
	p.SenderTags, err = tagList(text)
	return err
}

func readReceivers(p *wire.Policy, text string, _ time.Time) (err error) {
	p.ReceiverTags, err = tagList(text)
	return err
}

func tagList(text string) ([]wire.Tag, error) {
	var out []wire.Tag
	for _, word := range words(text) {
		t, err := wire.ParseTag(word)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	if len(out) == 0 {
		return nil, errors.New("name at least one tag")
	}
	return out, nil
}

func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' })
}

func readRules(p *wire.Policy, text string, _ time.Time) error {
	for word := range strings.FieldsSeq(text) {
		acl, err := rule(word)
		if err != nil {
			return err
		}
		p.ACLs = append(p.ACLs, acl)
	}
	if len(p.ACLs) == 0 {
		return errors.New("name at least one rule: tcp/443")
	}
	return nil
}

func rule(word string) (acl wire.ACL, err error) {
	proto, ports, has := strings.Cut(word, "/")
	if acl.Proto, err = wire.ParseProto(proto); err != nil || !has {
		return acl, err
	}
	if acl.Proto != wire.TCP && acl.Proto != wire.UDP {
		return acl, fmt.Errorf("%s has no ports", proto)
	}
	acl.Ports, err = wire.ParsePorts(ports)
	return acl, err
}

func readTrust(p *wire.Policy, text string, _ time.Time) error {
	p.SenderTrust = words(text)
	return nil
}

func readExpiry(p *wire.Policy, text string, now time.Time) error {
	if text == "" {
		return nil
	}
	at, err := screen.Instant(text, now)
	p.ExpiresAt = &at
	return err
}
