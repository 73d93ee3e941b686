package policies

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"enclave/tui/screen"
	"enclave/wire"
)

// field is one field of a policy as a line of text. What nobody touched is copied and
// not read back, so that a policy is saved as it was, whatever its text leaves out.
type field struct {
	name    string
	example string
	choices []string // the only texts it takes; nil is free text
	kind    wire.PolicyKind
	paths   []string // where the server finds what is wrong with it
	write   func(p *wire.Policy, s *screen.State) string
	read    func(p *wire.Policy, text string, s *screen.State) error
	copy    func(to, from *wire.Policy)
}

// fields are those of a policy, in the order of the form. Its ID is the server's.
var fields = [...]field{
	{name: "name", example: "Web for laptops", paths: []string{"name"}, read: readName,
		write: func(p *wire.Policy, _ *screen.State) string { return p.Name }, copy: func(to, from *wire.Policy) { to.Name = from.Name }},
	{name: "senders", example: "tags: laptops contractors", paths: []string{"sender_tags"},
		write: func(p *wire.Policy, _ *screen.State) string { return tagText(p.SenderTags) }, copy: func(to, from *wire.Policy) { to.SenderTags = from.SenderTags },
		read: func(p *wire.Policy, text string, _ *screen.State) (err error) {
			p.SenderTags, err = tagList(p, text)
			return err
		}},
	{name: "receivers", example: "tags: servers", kind: wire.Direct, paths: []string{"receiver_tags"},
		write: func(p *wire.Policy, _ *screen.State) string { return tagText(p.ReceiverTags) }, copy: func(to, from *wire.Policy) { to.ReceiverTags = from.ReceiverTags },
		read: func(p *wire.Policy, text string, _ *screen.State) (err error) {
			p.ReceiverTags, err = tagList(p, text)
			return err
		}},
	{name: "gateways", example: "office=192.168.1.0/24,10.0.0.0/8; backup, with its routes", kind: wire.Gateway, paths: []string{"gateways"},
		write: writeGateways, read: readGateways, copy: func(to, from *wire.Policy) { to.Gateways = from.Gateways }},
	{name: "only to", example: "192.168.1.7, 10.0.0.1 - 10.0.0.9, db.corp; or nothing", kind: wire.Gateway, paths: []string{"subnet_filter"},
		write: func(p *wire.Policy, _ *screen.State) string { return strings.Join(p.SubnetFilter, ", ") }, copy: func(to, from *wire.Policy) { to.SubnetFilter = from.SubnetFilter },
		read: func(p *wire.Policy, text string, _ *screen.State) error { p.SubnetFilter = commas(text); return nil }},
	{name: "priority", choices: []string{"", "balanced", "ordered", "nearest"}, kind: wire.Gateway, paths: []string{"priority"},
		write: func(p *wire.Policy, _ *screen.State) string { return p.Priority }, copy: func(to, from *wire.Policy) { to.Priority = from.Priority },
		read: func(p *wire.Policy, text string, _ *screen.State) error { p.Priority = text; return nil }},
	{name: "allow", example: `tcp/22,8000-8100 "web" udp/53 icmp any`, paths: []string{"acls"},
		write: func(p *wire.Policy, _ *screen.State) string { return ruleText(p.ACLs) }, read: readRules, copy: func(to, from *wire.Policy) { to.ACLs = from.ACLs }},
	{name: "trust", example: "requirements of senders, or nothing", paths: []string{"trust_requirements"},
		write: func(p *wire.Policy, _ *screen.State) string { return strings.Join(p.SenderTrust, " ") }, copy: func(to, from *wire.Policy) { to.SenderTrust = from.SenderTrust },
		read: func(p *wire.Policy, text string, _ *screen.State) error { p.SenderTrust = words(text); return nil }},
	{name: "recv trust", example: "requirements of receivers, or nothing", paths: []string{"receiver_trust"},
		write: func(p *wire.Policy, _ *screen.State) string { return strings.Join(p.RecvTrust, " ") }, copy: func(to, from *wire.Policy) { to.RecvTrust = from.RecvTrust },
		read: func(p *wire.Policy, text string, _ *screen.State) error { p.RecvTrust = words(text); return nil }},
	{name: hoursName, example: "mon-fri 08:00-18:00 Europe/London; ctrl+o draws them", paths: []string{"active_hours"},
		write: func(p *wire.Policy, _ *screen.State) string { return hoursText(p.ActiveHours) }, read: readHours, copy: func(to, from *wire.Policy) { to.ActiveHours = from.ActiveHours }},
	{name: "expires", example: "8h, 2026-12-24T18:00:00Z, 2026-12-24 18:00 Europe/London", paths: []string{"expires_at", "expires_local"},
		write: writeExpiry, read: readExpiry, copy: func(to, from *wire.Policy) { to.ExpiresAt, to.ExpiresLocal = from.ExpiresAt, from.ExpiresLocal }},
	{name: "and then", choices: []string{"", "disable", "delete"}, paths: []string{"expiry_action"},
		write: func(p *wire.Policy, _ *screen.State) string { return string(p.ExpiryAction) }, copy: func(to, from *wire.Policy) { to.ExpiryAction = from.ExpiryAction },
		read: func(p *wire.Policy, text string, _ *screen.State) error {
			p.ExpiryAction = wire.ExpiryAction(text)
			return nil
		}},
	{name: "notes", example: `free text; \n is a new line`, paths: []string{"notes"},
		write: func(p *wire.Policy, _ *screen.State) string { return escape.Replace(p.Notes) }, copy: func(to, from *wire.Policy) { to.Notes = from.Notes },
		read: func(p *wire.Policy, text string, _ *screen.State) error { p.Notes = unescape.Replace(text); return nil }},
	{name: typeName, choices: []string{"direct", "gateway"}, paths: []string{"type"},
		write: func(p *wire.Policy, _ *screen.State) string { return string(p.Kind) }, copy: func(to, from *wire.Policy) { to.Kind = from.Kind },
		read: func(p *wire.Policy, text string, _ *screen.State) error { p.Kind = wire.PolicyKind(text); return nil }},
	{name: "enabled", choices: []string{"yes", "no"}, paths: []string{"enabled"}, write: writeEnabled,
		read: func(p *wire.Policy, text string, _ *screen.State) error { p.Enabled = text == "yes"; return nil }, copy: func(to, from *wire.Policy) { to.Enabled = from.Enabled }},
}

// The fields that others ask for.
const (
	hoursName = "hours"
	typeName  = "type"
)

// Notes have lines, a line of a form has none.
var (
	escape   = strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\t", `\t`)
	unescape = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\t`, "\t")
)

func readName(p *wire.Policy, text string, _ *screen.State) error {
	switch {
	case text == "":
		return errors.New("every policy has a name")
	case len(text) > wire.MaxNameLen:
		return fmt.Errorf("%d bytes, at most %d", len(text), wire.MaxNameLen)
	}
	p.Name = text
	return nil
}

func writeEnabled(p *wire.Policy, _ *screen.State) string {
	if p.Enabled {
		return "yes"
	}
	return "no"
}

func tagText(tags []wire.Tag) string {
	list := make([]string, len(tags))
	for i, t := range tags {
		list[i] = string(t)
	}
	return strings.Join(list, " ")
}

// tagList reads tags. A new policy needs some; one that stands may have none.
func tagList(p *wire.Policy, text string) ([]wire.Tag, error) {
	out := []wire.Tag{}
	for _, word := range words(text) {
		t, err := wire.ParseTag(word)
		switch {
		case err != nil:
			return nil, err
		case slices.Contains(out, t):
			return nil, fmt.Errorf("%s stands there twice", t)
		}
		out = append(out, t)
	}
	if len(out) == 0 && p.ID == "" {
		return nil, errors.New("name at least one tag")
	}
	return out, nil
}

func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' })
}

// commas splits at commas; what is between may hold blanks.
func commas(text string) (out []string) {
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// ruleText writes rules as readRules reads them, descriptions in quotes.
func ruleText(acls []wire.ACL) string {
	list := make([]string, len(acls))
	for i, a := range acls {
		list[i] = a.Proto.String()
		if len(a.Ports) > 0 {
			list[i] += "/" + a.Ports.String()
		}
		if a.Description != "" {
			list[i] += " " + strconv.Quote(a.Description)
		}
	}
	return strings.Join(list, " ")
}

func readRules(p *wire.Policy, text string, _ *screen.State) error {
	p.ACLs = []wire.ACL{}
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		if text[0] == '"' {
			quoted, err := strconv.QuotedPrefix(text)
			if err != nil {
				return errors.New("a description ends with a quote")
			}
			said, err := strconv.Unquote(quoted)
			if n := len(p.ACLs); err != nil || n == 0 || p.ACLs[n-1].Description != "" {
				return errors.New("a description follows its rule")
			}
			p.ACLs[len(p.ACLs)-1].Description, text = said, text[len(quoted):]
			continue
		}
		end := strings.IndexAny(text, " \"")
		if end < 0 {
			end = len(text)
		}
		acl, err := rule(text[:end])
		if err != nil {
			return err
		}
		p.ACLs, text = append(p.ACLs, acl), text[end:]
	}
	if len(p.ACLs) == 0 && p.ID == "" {
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

// readExpiry reads an instant, a duration from now, or a time on the clock of a zone.
func readExpiry(p *wire.Policy, text string, s *screen.State) error {
	p.ExpiresAt, p.ExpiresLocal = nil, nil
	if text == "" {
		return nil
	}
	if f := strings.Fields(text); len(f) == 3 {
		local := wire.LocalTime{Time: f[0] + "T" + f[1], Zone: f[2]}
		if !zone(f[2]) {
			return errZone
		}
		at, err := local.Instant()
		if err == nil && !at.After(s.Now) {
			err = fmt.Errorf("%s is in the past", text)
		}
		p.ExpiresLocal = &local
		return err
	}
	at, err := screen.Instant(text, s.Now)
	p.ExpiresAt = &at
	return err
}

func writeExpiry(p *wire.Policy, _ *screen.State) string {
	switch {
	case p.ExpiresLocal != nil:
		return p.ExpiresLocal.String()
	case p.ExpiresAt != nil:
		return p.ExpiresAt.UTC().Format("2006-01-02T15:04:05Z")
	}
	return ""
}
