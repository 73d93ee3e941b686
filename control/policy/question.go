package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strconv"
	"time"

	"enclave/wire"
)

// Options of Answer.
type Options struct {
	Timeline bool // the lines are timelines
}

// answer is one line of output; either Error or the rest is set.
type answer struct {
	ID        string              `json:"id"`
	Connected *[][2]wire.SystemID `json:"connected,omitempty"`
	Verdicts  *[]verdict          `json:"verdicts,omitempty"`
	Error     *refusal            `json:"error,omitempty"`
}

type refusal struct {
	Problems []wire.Problem `json:"problems"`
}

// verdict is a Verdict in the words of the format; a denial names no policy.
type verdict struct {
	Allow  bool          `json:"allow"`
	Policy wire.PolicyID `json:"policy,omitempty"`
	Rule   *int          `json:"rule,omitempty"`
	Why    string        `json:"why"`
}

func (v Verdict) words() verdict {
	out := verdict{Allow: v.Allow, Policy: v.Policy, Why: v.Why}
	if v.Allow {
		out.Rule = &v.Rule
	}
	return out
}

// Answer reads questions, one JSON object or JSON lines, and writes one answer a line,
// in order. A question that is refused does not stop the others; refused counts them.
// The error is of reading or writing.
func Answer(r io.Reader, w io.Writer, opts Options) (refused int, err error) {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	docs := newDocuments(r)
	for {
		doc, bad, err := docs.next()
		if err == io.EOF {
			return refused, nil
		}
		if err != nil {
			return refused, fmt.Errorf("read questions: %w", err)
		}
		var a answer
		switch {
		case bad != nil:
			a = refuse(peekID(doc), problems{*bad})
		case opts.Timeline:
			a = answerTimeline(doc)
		default:
			a = answerQuestion(doc)
		}
		if a.Error != nil {
			refused++
		}
		if err := out.Encode(a); err != nil {
			return refused, fmt.Errorf("write answers: %w", err)
		}
	}
}

func refuse(id string, l problems) answer { return answer{ID: id, Error: &refusal{l}} }

// peekID finds the ID of a question that is no JSON as a whole, as far as it can be
// read, so that a refusal can say which one it is about.
func peekID(doc []byte) string {
	d := json.NewDecoder(bytes.NewReader(doc))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return ""
	}
	for d.More() {
		key, err := d.Token()
		var value json.RawMessage
		if err != nil || d.Decode(&value) != nil {
			return ""
		}
		if id := ""; key == "id" && json.Unmarshal(value, &id) == nil {
			return id
		}
	}
	return ""
}

func answerQuestion(doc []byte) answer {
	if l := checkJSON(doc, ""); l != nil {
		return refuse(peekID(doc), l)
	}
	var l problems
	o := l.object(doc, "")
	id := o.str("id")
	at := o.instant(o.need("instant"))
	snap := l.snapshot(o)
	items, path := o.list("packets")
	packets := make([]question, len(items))
	for i, raw := range items {
		packets[i] = l.packet(raw, index(path, i))
	}
	o.done()
	if len(l) > 0 {
		return refuse(id, l)
	}
	e := snap.engine(at)
	connected, verdicts := e.Connected(at), make([]verdict, len(packets))
	for i, q := range packets {
		verdicts[i] = e.Evaluate(q.Packet, at).words()
	}
	return answer{ID: id, Connected: &connected, Verdicts: &verdicts}
}

// snapshot is a world as a question states it.
type snapshot struct {
	systems  []System
	policies []wire.Policy
}

func (l *problems) snapshot(o *object) (s snapshot) {
	items, path := o.list("systems")
	ids, addrs := make(map[wire.SystemID]bool), make(map[netip.Addr]bool)
	for i, raw := range items {
		at := index(path, i)
		sys := l.system(raw, at)
		if ids[sys.ID] && sys.ID != "" {
			l.add(field(at, "id"), "system %q is given twice", sys.ID)
		}
		ids[sys.ID] = true
		for _, a := range sys.IPs {
			if addrs[a] {
				l.add(field(at, "ip"), "address %s is given twice", a)
			}
			addrs[a] = true
		}
		s.systems = append(s.systems, sys)
	}
	items, path = o.list("policies")
	policies := make(map[wire.PolicyID]bool)
	for i, raw := range items {
		at := index(path, i)
		p := l.policy(raw, at)
		switch {
		case p.ID == "" || len(p.ID) > MaxPolicyIDLen:
			l.add(field(at, "id"), "a policy ID has 1 to %d bytes", MaxPolicyIDLen)
		case policies[p.ID]:
			l.add(field(at, "id"), "policy %q is given twice", p.ID)
		}
		policies[p.ID] = true
		s.policies = append(s.policies, p)
	}
	return s
}

func (l *problems) system(raw json.RawMessage, path string) System {
	o := l.object(raw, path)
	s := System{
		ID: wire.SystemID(o.ident("id")), Tags: o.tags("tags"),
		Approved: o.boolean("approved", true), Enabled: o.boolean("enabled", true), Revoked: o.boolean("revoked", false),
		ExpiresAt: o.instant(o.take("expires_at")), Trust: make(map[string]time.Time),
	}
	before := len(*l)
	if t := o.local("expires_local"); t != nil && len(*l) == before {
		l.local(field(path, "expires_local"), *t, !s.ExpiresAt.IsZero())
		if end, err := t.Instant(); err == nil {
			s.ExpiresAt = end
		}
	}
	if a := o.addr(o.need("ip")); a.IsValid() {
		s.IPs = append(s.IPs, a)
	}
	if a := o.addr(o.take("ipv6")); a.IsValid() {
		s.IPs = append(s.IPs, a)
	}
	l.tags(field(path, "tags"), s.Tags, wire.MaxTagsPerSystem)
	trust := o.strings("trust")
	l.trust(field(path, "trust"), trust)
	for _, r := range trust {
		s.Trust[r] = time.Time{}
	}
	o.done()
	return s
}

// engine builds the world. Of the unique local addresses only the /48 of the systems'
// own count as overlay (RFC 4193 gives each site one): others may lie behind a gateway.
func (s snapshot) engine(now time.Time) *Engine {
	e := New()
	overlay := DefaultOverlay()
	ranges, unique := overlay[:1], overlay[1]
	for _, sys := range s.systems {
		for _, a := range sys.IPs {
			if site := netip.PrefixFrom(a, 48).Masked(); unique.Contains(a) {
				ranges = tidy(append(ranges, site))
			}
		}
	}
	e.SetOverlay(ranges...)
	for _, p := range s.policies {
		if _, bad := e.PutPolicy(p, now); bad != nil {
			panic(fmt.Sprintf("policy %s passed Validate and was refused: %v", p.ID, bad))
		}
	}
	for _, sys := range s.systems {
		e.PutSystem(sys, now)
	}
	return e
}

// question is a packet and the name of its protocol, which tells apart the ones that
// the filter cannot parse.
type question struct {
	Packet
	proto string
}

func (l *problems) packet(raw json.RawMessage, path string) (q question) {
	o := l.object(raw, path)
	defer o.done()
	q.Src, q.Dst = o.addr(o.need("src_ip")), o.addr(o.need("dst_ip"))
	raw, at := o.need("proto")
	if name, ok := l.text1(raw, at); ok {
		if q.Proto, q.proto, ok = protocol(name); !ok {
			l.add(at, "protocol %.20q: want tcp, udp, icmp, or another protocol's name or number", name)
		}
	}
	sport, _ := o.number("sport", 65535)
	dport, _ := o.number("dport", 65535)
	q.SrcPort, q.DstPort = uint16(sport), uint16(dport)
	q.Reply = o.boolean("is_reply", false)
	kind, hasType := o.number("icmp_type", 255)
	id, hasID := o.number("icmp_id", 65535)
	q.ICMPType, q.HasType, q.ICMPID = uint8(kind), hasType, uint16(id)
	if q.Proto == wire.ICMP && (sport != 0 || dport != 0) {
		l.add(path, "an ICMP packet has no ports")
	}
	if q.Proto != wire.ICMP && (hasType || hasID) {
		l.add(path, "only an ICMP packet has a type or an identifier")
	}
	return q
}

var protocolPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,19}$`)

// protocol reads the protocol of a packet: its name, or its number in an IP header. What
// the filter cannot parse has the zero Proto and keeps its name.
func protocol(s string) (p wire.Proto, name string, ok bool) {
	switch s {
	case "icmp", "icmpv6", "ipv6-icmp", "1", "58":
		return wire.ICMP, "icmp", true
	case "tcp", "6":
		return wire.TCP, "tcp", true
	case "udp", "17":
		return wire.UDP, "udp", true
	}
	if isDigits(s) {
		if n, err := strconv.ParseUint(s, 10, 8); err != nil || strconv.FormatUint(n, 10) != s {
			return 0, "", false
		}
	}
	return 0, s, s != "any" && protocolPattern.MatchString(s)
}
