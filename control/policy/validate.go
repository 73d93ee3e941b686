package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"enclave/wire"
)

// Maximum sizes of a policy that package wire has no name for.
const (
	MaxTrust       = 64  // trust requirements on one side of a policy, on one tag or system
	MaxTrustLen    = 64  // bytes of the name of a requirement
	MaxGateways    = 64  // gateway entries of one policy
	MaxSubnets     = 64  // subnets of one gateway entry
	MaxFilter      = 256 // entries of one subnet filter
	MaxPolicyIDLen = 64  // bytes of a policy's ID
)

// problems gathers the mistakes of a document.
type problems []wire.Problem

func (l *problems) add(path, format string, args ...any) {
	*l = append(*l, wire.Problem{Path: path, Message: fmt.Sprintf(format, args...)})
}

func field(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// Validate returns every mistake of p, each with its place under path. It does not ask
// for an ID, which the server gives, and not for instants in the future, which is a
// matter of the moment a policy is written and not of what it means.
func Validate(p *wire.Policy, path string) []wire.Problem {
	var l problems
	l.text(field(path, "name"), p.Name, wire.MaxNameLen, false)
	l.text(field(path, "notes"), p.Notes, wire.MaxNotesLen, true)
	l.tags(field(path, "sender_tags"), p.SenderTags, wire.MaxTagsPerSide)
	l.tags(field(path, "receiver_tags"), p.ReceiverTags, wire.MaxTagsPerSide)
	l.trust(field(path, "trust_requirements"), p.SenderTrust)
	l.trust(field(path, "receiver_trust"), p.RecvTrust)
	l.acls(field(path, "acls"), p.ACLs)
	l.windows(field(path, "active_hours"), p.ActiveHours)
	if p.ExpiresLocal != nil {
		l.local(field(path, "expires_local"), *p.ExpiresLocal, p.ExpiresAt != nil)
	}
	if p.ExpiresAt != nil && p.ExpiresAt.IsZero() {
		l.add(field(path, "expires_at"), "the zero time is no instant: write null for never")
	}
	switch p.ExpiryAction {
	case "", wire.DisableOnExpiry, wire.DeleteOnExpiry:
	default:
		l.add(field(path, "expiry_action"), "want disable or delete")
	}
	switch p.Kind {
	case wire.Direct:
		l.noGateway(path, p)
	case wire.Gateway:
		if len(p.ReceiverTags) > 0 {
			l.add(field(path, "receiver_tags"), "a gateway policy has no receiver tags")
		}
		l.gateways(path, p)
	default:
		l.add(field(path, "type"), "want direct or gateway")
	}
	return l
}

// ValidateLocal returns every mistake of a wall-clock expiry; both says that an instant
// is given beside it.
func ValidateLocal(t wire.LocalTime, both bool, path string) []wire.Problem {
	var l problems
	l.local(path, t, both)
	return l
}

func (l *problems) local(path string, t wire.LocalTime, both bool) {
	if both {
		l.add(path, "stands beside expires_at: give one of the two")
	}
	if !isZone(t.Zone) {
		l.add(field(path, "tz"), "%.60q is no IANA zone name", t.Zone)
	}
	if _, err := t.In(time.UTC); err != nil {
		l.add(field(path, "time"), "%v", err)
	}
}

func (l *problems) noGateway(path string, p *wire.Policy) {
	if len(p.Gateways) > 0 {
		l.add(field(path, "gateways"), "a direct policy has no gateways")
	}
	if len(p.SubnetFilter) > 0 {
		l.add(field(path, "subnet_filter"), "a direct policy has no subnet filter")
	}
	if p.Priority != "" {
		l.add(field(path, "priority"), "a direct policy has no gateway priority")
	}
}

func (l *problems) gateways(path string, p *wire.Policy) {
	at := field(path, "gateways")
	l.atMost(at, len(p.Gateways), MaxGateways, "gateways")
	for i, g := range p.Gateways {
		if g.System == "" || len(g.System) > MaxPolicyIDLen {
			l.add(field(index(at, i), "system"), "names no system")
		}
		subnets := field(index(at, i), "subnets")
		l.atMost(subnets, len(g.Subnets), MaxSubnets, "subnets")
		for j, s := range g.Subnets {
			if _, err := parseSubnet(s); err != nil {
				l.add(index(subnets, j), "%v", err)
			}
		}
	}
	at = field(path, "subnet_filter")
	l.atMost(at, len(p.SubnetFilter), MaxFilter, "entries")
	for i, f := range p.SubnetFilter {
		if _, _, err := parseFilter(f); err != nil {
			l.add(index(at, i), "%v", err)
		}
	}
	if !slices.Contains([]string{"", "balanced", "ordered", "nearest"}, p.Priority) {
		l.add(field(path, "priority"), "want balanced, ordered or nearest")
	}
}

func (l *problems) acls(path string, acls []wire.ACL) {
	l.atMost(path, len(acls), wire.MaxACLs, "rules")
	for i, a := range acls {
		at := index(path, i)
		l.text(field(at, "description"), a.Description, wire.MaxNameLen, false)
		ports := field(at, "ports")
		switch a.Proto {
		case wire.TCP, wire.UDP:
			if a.Ports != nil && len(a.Ports) == 0 {
				l.add(ports, "no port at all: leave ports out for every port")
			}
		case wire.Any, wire.ICMP:
			if a.Ports != nil {
				l.add(ports, "%s has no ports", a.Proto)
			}
		default:
			l.add(field(at, "protocol"), "want any, tcp, udp or icmp")
		}
		l.atMost(ports, len(a.Ports), wire.MaxPortRanges, "port ranges")
		for _, r := range a.Ports {
			if r.Lo == 0 || r.Lo > r.Hi {
				l.add(ports, "range %s: want ports from 1 to 65535, the lower one first", r)
			}
		}
	}
}

func (l *problems) windows(path string, ws wire.Windows) {
	l.atMost(path, len(ws), wire.MaxWindows, "windows")
	for i, w := range ws {
		at := path
		if len(ws) > 1 {
			at = index(path, i)
		}
		l.window(at, w)
	}
}

func (l *problems) window(path string, w wire.Window) {
	if !isZone(w.Zone) {
		l.add(field(path, "tz"), "%.60q is no IANA zone name", w.Zone)
	}
	if w.Days == nil {
		l.add(field(path, "days"), "is missing")
	}
	l.atMost(field(path, "days"), len(w.Days), len(dayNames), "days")
	for i, d := range w.Days {
		if !slices.Contains(dayNames[:], d) {
			l.add(index(field(path, "days"), i), "%.20q: want one of %s", d, strings.Join(dayNames[:], " "))
		}
	}
	start, errStart := parseClock(w.Start)
	end, errEnd := parseClock(w.End)
	if errStart == nil && start == daySeconds {
		errStart = fmt.Errorf("24:00 is an end only")
	}
	switch {
	case errStart != nil || errEnd != nil:
		if errStart != nil {
			l.add(field(path, "start"), "%v", errStart)
		}
		if errEnd != nil {
			l.add(field(path, "end"), "%v", errEnd)
		}
	case start == end:
		l.add(path, "start equals end")
	}
}

func (l *problems) tags(path string, tags []wire.Tag, limit int) {
	l.atMost(path, len(tags), limit, "tags")
	for i, t := range tags {
		if _, err := wire.ParseTag(string(t)); err != nil {
			l.add(index(path, i), "%v", err)
		} else if slices.Contains(tags[:i], t) {
			l.add(index(path, i), "tag %q is given twice", t)
		}
	}
}

func (l *problems) trust(path string, trust []string) {
	l.atMost(path, len(trust), MaxTrust, "requirements")
	for i, r := range trust {
		if r == "" || len(r) > MaxTrustLen {
			l.add(index(path, i), "a trust requirement has 1 to %d bytes", MaxTrustLen)
		} else if slices.Contains(trust[:i], r) {
			l.add(index(path, i), "trust requirement %q is given twice", r)
		}
	}
}

func (l *problems) atMost(path string, n, limit int, what string) {
	if n > limit {
		l.add(path, "%d %s, at most %d", n, what, limit)
	}
}

// text refuses what CheckText does.
func (l *problems) text(path, s string, limit int, lines bool) {
	*l = append(*l, CheckText(path, s, limit, lines)...)
}

// CheckText refuses what would garble a terminal or a log: a name is one line, and reads in
// the order in which it is written (Unicode TR 36, section 2.8). Notes may have lines.
func CheckText(path, s string, limit int, lines bool) (bad []wire.Problem) {
	add := func(format string, args ...any) {
		bad = append(bad, wire.Problem{Path: path, Message: fmt.Sprintf(format, args...)})
	}
	if len(s) > limit {
		add("%d bytes, at most %d", len(s), limit)
	}
	control := func(r rune) bool { return unicode.IsControl(r) && (!lines || (r != '\n' && r != '\t')) }
	turns := func(r rune) bool { return r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 }
	switch {
	case !utf8.ValidString(s) || strings.ContainsFunc(s, control):
		add("contains control characters")
	case strings.ContainsFunc(s, turns):
		add("contains characters that turn the direction of text, or end a line")
	case s != "" && strings.TrimSpace(s) == "":
		add("is blank")
	}
	return bad
}
