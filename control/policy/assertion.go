package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// Maximum sizes of tests.
const (
	MaxTests       = 10_000
	MaxAssertLen   = 512 // bytes of one line
	maxTestSystems = 64  // systems of one side of an assertion; a tag may have more
)

// ParseAssertions reads tests as people write them, one a line, # for comments:
//
//	laptop -> web tcp/8080 allow
//	night shift: tag:ops → db tcp/5432 allow; at 2026-01-03T10:00:00Z deny
//
// A name may stand before the first colon that a blank follows; clauses after a
// semicolon ask the same at another instant.
func ParseAssertions(text string) (out []wire.Assertion, bad []wire.Problem) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		path := "line " + strconv.Itoa(n)
		if len(out) >= MaxTests {
			return out, append(bad, wire.Problem{Path: path, Message: fmt.Sprintf("more than %d tests", MaxTests)})
		}
		tests, err := parseAssertion(line)
		if err != nil {
			bad = append(bad, wire.Problem{Path: path, Message: err.Error()})
		}
		out = append(out, tests...)
	}
	return out, bad
}

func parseAssertion(line string) ([]wire.Assertion, error) {
	if len(line) > MaxAssertLen {
		return nil, fmt.Errorf("longer than %d bytes", MaxAssertLen)
	}
	name, rest, named := strings.Cut(line, ": ")
	if !named {
		name, rest = "", line
	}
	var out []wire.Assertion
	for i, clause := range strings.Split(rest, ";") {
		a, err := parseClause(strings.Fields(clause), i, out)
		if err != nil {
			return nil, err
		}
		a.Name = strings.TrimSpace(name)
		if i > 0 && a.Name != "" {
			a.Name += " (" + strconv.Itoa(i+1) + ")"
		}
		out = append(out, a)
	}
	return out, nil
}

// parseClause reads FROM -> TO PROTO[/PORT] [at TIME] VERDICT; later clauses begin
// with "at".
func parseClause(f []string, i int, before []wire.Assertion) (a wire.Assertion, err error) {
	const want = "want FROM -> TO PROTO/PORT allow|deny, and after a semicolon at TIME allow|deny"
	if i > 0 {
		a = before[0]
		a.At = ""
	} else {
		if len(f) < 5 || (f[1] != "->" && f[1] != "→") {
			return a, errors.New(want)
		}
		a.From, a.To = f[0], f[2]
		if a.Proto, a.Port, err = parseProtoPort(f[3]); err != nil {
			return a, err
		}
		f = f[4:]
	}
	if len(f) == 3 && f[0] == "at" {
		if _, err := time.Parse(time.RFC3339, f[1]); err != nil {
			return a, fmt.Errorf("time %.40q: want RFC 3339, like 2026-01-03T10:00:00Z", f[1])
		}
		a.At = f[1]
		f = f[2:]
	}
	if len(f) != 1 || (f[0] != "allow" && f[0] != "deny") {
		return a, errors.New(want)
	}
	a.Allow = f[0] == "allow"
	return a, nil
}

func parseProtoPort(s string) (proto wire.Proto, port uint16, err error) {
	name, text, has := strings.Cut(s, "/")
	if proto, err = wire.ParseProto(name); err != nil || !has {
		return proto, 0, err
	}
	ports, err := wire.ParsePorts(text)
	if err != nil || len(ports) != 1 || ports[0].Lo != ports[0].Hi {
		return proto, 0, fmt.Errorf("port %.20q: want one port", text)
	}
	return proto, ports[0].Lo, nil
}

// FormatAssertion writes a test as ParseAssertions reads it, without its name.
func FormatAssertion(a *wire.Assertion) string {
	s := a.From + " -> " + a.To + " " + a.Proto.String()
	if a.Port != 0 {
		s += "/" + strconv.Itoa(int(a.Port))
	}
	if a.At != "" {
		s += " at " + a.At
	}
	if a.Allow {
		return s + " allow"
	}
	return s + " deny"
}

// ValidateAssertion returns every mistake of a, each with its place under path.
func ValidateAssertion(a *wire.Assertion, path string) []wire.Problem {
	var l problems
	l.text(field(path, "name"), a.Name, wire.MaxNameLen, false)
	for name, s := range map[string]string{"from": a.From, "to": a.To} {
		if s == "" || len(s) > wire.MaxNameLen || strings.ContainsAny(s, " \t\r\n;#") {
			l.add(field(path, name), "want a system's ID or name, or tag:NAME")
		} else if tag, ok := strings.CutPrefix(s, "tag:"); ok {
			if _, err := wire.ParseTag(tag); err != nil {
				l.add(field(path, name), "%v", err)
			}
		}
	}
	switch a.Proto {
	case wire.TCP, wire.UDP:
		if a.Port == 0 {
			l.add(field(path, "port"), "want a port: a test asks about one flow")
		}
	case wire.ICMP, wire.Any:
		if a.Port != 0 {
			l.add(field(path, "port"), "%s has no ports", a.Proto)
		}
	default:
		l.add(field(path, "protocol"), "want any, tcp, udp or icmp")
	}
	if a.At != "" {
		if _, err := time.Parse(time.RFC3339, a.At); err != nil {
			l.add(field(path, "at"), "want RFC 3339, like 2026-01-03T10:00:00Z")
		}
	}
	return l
}

// Resolve turns a name of a test into systems.
type Resolve func(name string) ([]wire.SystemID, error)

// Check judges a test at its instant, or at now. A tag stands for every system that
// carries it: allow means that each of the senders reaches each of the receivers, deny
// that none does. Whom nobody is, fails: a test about nothing protects nothing.
func (e *Engine) Check(a *wire.Assertion, resolve Resolve, now time.Time) api.TestResult {
	r := api.TestResult{Assertion: *a}
	if a.At != "" {
		at, err := time.Parse(time.RFC3339, a.At)
		if err != nil {
			r.Why = "its instant is not RFC 3339"
			return r
		}
		now = at
	}
	from, err := resolveSide(resolve, a.From)
	if err == nil {
		var to []wire.SystemID
		if to, err = resolveSide(resolve, a.To); err == nil {
			r.Passed, r.Why = e.checkAll(a, from, to, now)
			return r
		}
	}
	r.Why = err.Error()
	return r
}

func resolveSide(resolve Resolve, name string) ([]wire.SystemID, error) {
	ids, err := resolve(name)
	if err == nil && len(ids) == 0 {
		err = fmt.Errorf("%s stands for no system", name)
	}
	return ids, err
}

func (e *Engine) checkAll(a *wire.Assertion, from, to []wire.SystemID, now time.Time) (bool, string) {
	asked := 0
	for _, f := range from {
		for _, t := range to {
			if f == t {
				continue
			}
			asked++
			v := e.Evaluate(e.Probe(f, t, a.Proto, a.Port), now)
			if v.Allow != a.Allow {
				return false, fmt.Sprintf("%s → %s: %s", f, t, v.Why)
			}
		}
	}
	if asked == 0 {
		return false, "both sides are the same system"
	}
	if asked == 1 {
		v := e.Evaluate(e.Probe(from[0], to[0], a.Proto, a.Port), now)
		return true, v.Why
	}
	return true, fmt.Sprintf("holds for all %d pairs", asked)
}

// Probe is the packet that would open a flow between two systems of the engine; the
// zero Packet when one of them is not there.
func (e *Engine) Probe(from, to wire.SystemID, proto wire.Proto, port uint16) Packet {
	f, t := e.systems[from], e.systems[to]
	if f == nil || t == nil || len(f.IPs) == 0 || len(t.IPs) == 0 {
		return Packet{}
	}
	return Packet{Src: f.IPs[0], Dst: t.IPs[0], Proto: proto, SrcPort: 49152, DstPort: port}
}
