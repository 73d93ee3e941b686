package resolver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"enclave/wire"
	"enclave/wire/names"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func peer(id string, list ...string) wire.Peer {
	return wire.Peer{ID: wire.SystemID(id), Name: id, Names: list,
		IPv4: netip.MustParseAddr("100.64.0.1"), IPv6: netip.MustParseAddr("fd00::1"),
		Grants: []wire.Grant{{From: "asker", To: wire.SystemID(id)}}}
}

// view knows web.enclave and *.corp, and forwards lan.
func view() *names.View {
	gw := peer("ggggg")
	gw.Forwards = []wire.Forward{{Zone: "lan", Resolvers: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.53:53"), netip.MustParseAddrPort("10.0.0.54:53")}}}
	return names.New("enclave", wire.DNS{Zones: []string{"corp"}}, []wire.Peer{peer("aaaaa", "web.enclave", "*.corp"), gw})
}

// question builds a query; change may spoil it.
func question(name string, t dnsmessage.Type, change func(*dnsmessage.Message)) []byte {
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: t, Class: dnsmessage.ClassINET}}}
	if change != nil {
		change(&m)
	}
	raw, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return raw
}

func edns(size int, options ...dnsmessage.Option) func(*dnsmessage.Message) {
	return func(m *dnsmessage.Message) {
		var h dnsmessage.ResourceHeader
		h.SetEDNS0(size, 0, true)
		m.Additionals = append(m.Additionals, dnsmessage.Resource{Header: h, Body: &dnsmessage.OPTResource{Options: options}})
	}
}

// respond is what the pure half answers.
func respond(t *testing.T, v *names.View, msg []byte) *dnsmessage.Message {
	t.Helper()
	var q Query
	buf := make([]byte, 0, udpSize)
	err := q.Parse(msg)
	if errors.Is(err, ErrDrop) {
		return nil
	}
	var out []byte
	if err != nil {
		out = q.Refuse(err, buf)
	} else if out, _ = q.Answer(v, noon, func(int) int { return 0 }, buf); len(out) == 0 {
		return nil
	}
	m := new(dnsmessage.Message)
	if err := m.Unpack(out); err != nil {
		t.Fatalf("an answer that does not read: %v\n%x", err, out)
	}
	return m
}

func TestAnswers(t *testing.T) {
	v := view()
	for _, c := range []struct {
		name  string
		kind  dnsmessage.Type
		rcode dnsmessage.RCode
		want  string // the one record of the answer
	}{
		{"web.enclave.", dnsmessage.TypeA, 0, "100.64.0.1"},
		{"WEB.Enclave.", dnsmessage.TypeAAAA, 0, "fd00::1"},
		{"web.enclave.", dnsmessage.TypeALL, 0, "100.64.0.1"},
		{"web.enclave.", dnsmessage.TypeMX, 0, ""}, // NODATA
		{"x.y.corp.", dnsmessage.TypeA, 0, "100.64.0.1"},
		{"corp.", dnsmessage.TypeA, 0, ""},
		{"corp.", dnsmessage.TypeSOA, 0, "soa"},
		{"no.enclave.", dnsmessage.TypeA, dnsmessage.RCodeNameError, ""},
		{"example.com.", dnsmessage.TypeA, dnsmessage.RCodeServerFailure, ""},
		{".", dnsmessage.TypeNS, dnsmessage.RCodeServerFailure, ""},
	} {
		m := respond(t, v, question(c.name, c.kind, nil))
		got := ""
		if len(m.Answers) == 1 {
			switch b := m.Answers[0].Body.(type) {
			case *dnsmessage.AResource:
				got = netip.AddrFrom4(b.A).String()
			case *dnsmessage.AAAAResource:
				got = netip.AddrFrom16(b.AAAA).String()
			case *dnsmessage.SOAResource:
				got = "soa"
			}
			if m.Answers[0].Header.TTL != 0 || m.Answers[0].Header.Name.String() != c.name {
				t.Errorf("%s: %+v", c.name, m.Answers[0].Header)
			}
		}
		if m.RCode != c.rcode || got != c.want || m.ID != 7 || !m.Response || !m.RecursionDesired || len(m.Additionals) != 0 {
			t.Errorf("%s %s: %v %q, want %v %q", c.name, c.kind, m.RCode, got, c.rcode, c.want)
		}
		ours := c.rcode != dnsmessage.RCodeServerFailure
		if m.Authoritative != ours || (ours && got == "") != (len(m.Authorities) == 1) {
			t.Errorf("%s %s: authoritative %t, %d authorities", c.name, c.kind, m.Authoritative, len(m.Authorities))
		}
	}
}

func TestEDNS(t *testing.T) {
	v := view()
	m := respond(t, v, question("web.enclave.", dnsmessage.TypeA, edns(4096, dnsmessage.Option{Code: 10, Data: []byte("12345678")}, dnsmessage.Option{Code: 8, Data: []byte{0, 1, 24, 0, 192, 0, 2}})))
	if len(m.Additionals) != 1 || len(m.Additionals[0].Body.(*dnsmessage.OPTResource).Options) != 0 || int(m.Additionals[0].Header.Class) != udpSize {
		t.Errorf("additionals %+v", m.Additionals)
	}
	m = respond(t, v, question("web.enclave.", dnsmessage.TypeA, func(m *dnsmessage.Message) {
		edns(512)(m)
		m.Additionals[0].Header.TTL |= 1 << 16
	}))
	if got := m.Additionals[0].Header.ExtendedRCode(m.RCode); got != badVersion || len(m.Answers) != 0 {
		t.Errorf("another version of EDNS: %v", got)
	}
	var q Query
	if err := q.Parse(question("web.enclave.", dnsmessage.TypeA, edns(65535))); err != nil || q.size != udpSize {
		t.Errorf("a client that says it takes everything is sent %d bytes, %v", q.size, err)
	}
	two := func(m *dnsmessage.Message) { edns(512)(m); edns(512)(m) }
	if m := respond(t, v, question("web.enclave.", dnsmessage.TypeA, two)); m.RCode != dnsmessage.RCodeFormatError {
		t.Errorf("two OPTs: %v", m.RCode)
	}
}

func TestBadQuestions(t *testing.T) {
	v := view()
	good := question("web.enclave.", dnsmessage.TypeA, nil)
	spoil := func(f func([]byte) []byte) []byte { return f(bytes.Clone(good)) }
	loop := append(bytes.Clone(good[:12]), 0xc0, 12, 0, 1, 0, 1) // a pointer to itself
	for what, c := range map[string]struct {
		msg  []byte
		want string
	}{
		"empty": {nil, "drop"}, "short": {good[:11], "drop"}, "long": {append(bytes.Clone(good), make([]byte, MaxQuery)...), "drop"},
		"an answer":    {spoil(func(b []byte) []byte { b[2] |= 0x80; return b }), "drop"},
		"an update":    {spoil(func(b []byte) []byte { b[2] |= 5 << 3; return b }), "NotImplemented"},
		"no question":  {spoil(func(b []byte) []byte { b[5] = 0; return b }), "FormatError"},
		"two":          {spoil(func(b []byte) []byte { b[5] = 2; return b }), "FormatError"},
		"65,535":       {spoil(func(b []byte) []byte { b[4], b[5] = 255, 255; return b }), "FormatError"},
		"with answers": {spoil(func(b []byte) []byte { b[7] = 1; return b }), "FormatError"},
		"many more":    {spoil(func(b []byte) []byte { b[10], b[11] = 255, 255; return b }), "FormatError"},
		"cut":          {good[:20], "FormatError"},
		"pointer loop": {loop, "FormatError"},
		"chaos":        {spoil(func(b []byte) []byte { b[len(b)-1] = 3; return b }), "Refused"},
	} {
		m := respond(t, v, c.msg)
		got := "drop"
		if m != nil {
			got = strings.TrimPrefix(m.RCode.String(), "RCode")
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", what, got, c.want)
		}
	}
}

// dialer is resolvers behind a gateway, each a function of the question's bytes.
type dialer func(network, addr string) (func([]byte) []byte, error)

func (d dialer) DialContext(_ context.Context, network, addr string) (net.Conn, error) {
	answer, err := d(network, addr)
	if err != nil {
		return nil, err
	}
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		if network == "tcp" {
			msg, err := readTCP(there, MaxAnswer)
			if err == nil {
				out := answer(msg)
				there.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...))
			}
			return
		}
		buf := make([]byte, MaxAnswer)
		if n, err := there.Read(buf); err == nil {
			there.Write(answer(buf[:n]))
			io.Copy(io.Discard, there)
		}
	}()
	return here, nil
}

// answering is a resolver that knows n addresses of every name.
func answering(n int, change func(*dnsmessage.Message)) func([]byte) []byte {
	return func(raw []byte) []byte {
		var m dnsmessage.Message
		if err := m.Unpack(raw); err != nil {
			panic(err)
		}
		for _, r := range m.Additionals {
			if o, ok := r.Body.(*dnsmessage.OPTResource); ok && len(o.Options) > 0 {
				panic("an option of the client's went on")
			}
		}
		m.Response, m.Additionals = true, nil
		for i := range n {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60},
				Body: &dnsmessage.AResource{A: [4]byte{192, 168, byte(i >> 8), byte(i)}}})
		}
		if change != nil {
			change(&m)
		}
		out, err := m.Pack()
		if err != nil {
			panic(err)
		}
		return out
	}
}

func forwarded(t *testing.T, d dialer, limit int, msg []byte) (*dnsmessage.Message, error) {
	t.Helper()
	var q Query
	if err := q.Parse(msg); err != nil {
		t.Fatal(err)
	}
	_, r := q.Answer(view(), noon, nil, nil)
	if len(r.Ways) == 0 {
		t.Fatal("not forwarded")
	}
	if limit == 0 {
		limit = q.size
	}
	raw, err := q.Forward(t.Context(), d, r.Ways, limit)
	if err != nil {
		return nil, err
	}
	if len(raw) > limit {
		t.Errorf("%d bytes for a client that takes %d", len(raw), limit)
	}
	m := new(dnsmessage.Message)
	return m, m.Unpack(raw)
}

func TestForward(t *testing.T) {
	nas := question("nas.lan.", dnsmessage.TypeA, edns(1232, dnsmessage.Option{Code: 8, Data: []byte{0, 1, 0, 0}}))
	always := func(f func([]byte) []byte) dialer {
		return func(string, string) (func([]byte) []byte, error) { return f, nil }
	}
	m, err := forwarded(t, always(answering(1, nil)), 0, nas)
	if err != nil || len(m.Answers) != 1 || m.Answers[0].Header.TTL != 60 || m.ID != 7 || m.Authoritative || len(m.Additionals) != 1 {
		t.Errorf("%+v, %v", m, err)
	}
	if m, err := forwarded(t, always(answering(0, func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeNameError })), 0, nas); err != nil || m.RCode != dnsmessage.RCodeNameError {
		t.Errorf("a name that is not there: %+v, %v", m, err)
	}
	// More than a datagram takes: cut for UDP, whole for TCP.
	big := func(network, _ string) (func([]byte) []byte, error) {
		if network == "tcp" {
			return answering(500, nil), nil
		}
		return answering(0, func(m *dnsmessage.Message) { m.Truncated = true }), nil
	}
	if m, err := forwarded(t, big, 0, nas); err != nil || !m.Truncated || len(m.Answers) != 0 || len(m.Additionals) != 1 {
		t.Errorf("UDP: %v, %v", m, err)
	}
	if m, err := forwarded(t, big, MaxAnswer, nas); err != nil || m.Truncated || len(m.Answers) != 500 {
		t.Errorf("TCP: %v", err)
	}
	// The first resolver is down, refuses, or answers something else: the next one counts.
	for what, bad := range map[string]func([]byte) []byte{
		"down": nil, "refuses": answering(0, func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeRefused }),
	} {
		asked := 0
		m, err := forwarded(t, func(_, addr string) (func([]byte) []byte, error) {
			if asked++; addr == "10.0.0.53:53" {
				if bad == nil {
					return nil, errors.New("no path")
				}
				return bad, nil
			}
			return answering(1, nil), nil
		}, 0, nas)
		if err != nil || len(m.Answers) != 1 || asked != 2 {
			t.Errorf("%s: %v, %v, asked %d", what, m, err, asked)
		}
	}
	if _, err := forwarded(t, func(string, string) (func([]byte) []byte, error) { return nil, errors.New("denied by policy") }, 0, nas); err == nil || !strings.Contains(err.Error(), "denied by policy") {
		t.Errorf("nobody answers: %v", err)
	}
}

// TestForeignAnswers: an answer counts with its ID and its question alone.
func TestForeignAnswers(t *testing.T) {
	var q Query
	if err := q.Parse(question("nas.lan.", dnsmessage.TypeA, nil)); err != nil {
		t.Fatal(err)
	}
	base := answering(1, nil)(question("NAS.lan.", dnsmessage.TypeA, nil))
	if _, err := q.accept(base, 7); err != nil {
		t.Errorf("case does not matter: %v", err)
	}
	for what, raw := range map[string][]byte{
		"another ID":       append([]byte{1, 1}, base[2:]...),
		"no answer":        question("nas.lan.", dnsmessage.TypeA, nil),
		"another name":     answering(1, nil)(question("nas.lab.", dnsmessage.TypeA, nil)),
		"another type":     answering(1, nil)(question("nas.lan.", dnsmessage.TypeAAAA, nil)),
		"cut":              base[:len(base)-3],
		"a pointer beyond": append(bytes.Clone(base[:12]), 0xc0, 0xff, 0, 1, 0, 1),
	} {
		if _, err := q.accept(raw, 7); err == nil {
			t.Errorf("%s is accepted", what)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(question("web.enclave.", dnsmessage.TypeA, nil))
	f.Add(question("x.corp.", dnsmessage.TypeAAAA, edns(1232, dnsmessage.Option{Code: 10, Data: make([]byte, 8)})))
	f.Add(append(question(".", dnsmessage.TypeNS, nil)[:12], 0xc0, 12, 0, 1, 0, 1))
	v := view()
	f.Fuzz(func(t *testing.T, msg []byte) {
		m := respond(t, v, msg)
		if m == nil {
			return
		}
		if !m.Response || m.ID != binary.BigEndian.Uint16(msg) || len(m.Answers) > 1 || len(m.Questions) > 1 {
			t.Fatalf("%+v", m)
		}
		for _, r := range m.Answers {
			if r.Header.TTL != 0 {
				t.Fatal("an answer that may be kept")
			}
		}
	})
}

func FuzzForwarded(f *testing.F) {
	f.Add(answering(2, nil)(question("nas.lan.", dnsmessage.TypeA, nil)), 512)
	f.Add(answering(2, edns(4096))(question("nas.lan.", dnsmessage.TypeA, nil)), 1232)
	f.Fuzz(func(t *testing.T, raw []byte, limit int) {
		var q Query
		if err := q.Parse(question("nas.lan.", dnsmessage.TypeA, edns(1232))); err != nil {
			t.Fatal(err)
		}
		m, err := q.accept(raw, 7)
		if err != nil {
			return
		}
		limit = min(max(limit, plainSize), MaxAnswer)
		out := q.relay(m, limit)
		if err := new(dnsmessage.Message).Unpack(out); err != nil || len(out) > limit {
			t.Fatalf("%d bytes of %d: %v", len(out), limit, err)
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	var peers []wire.Peer
	for i := range 1000 {
		peers = append(peers, peer(fmt.Sprintf("a%04d", i), fmt.Sprintf("h%d.enclave", i)))
	}
	v := names.New("enclave", wire.DNS{Zones: []string{"corp"}}, peers)
	for what, name := range map[string]string{"found": "h500.enclave.", "missing": "nobody.enclave.", "outside": "www.example.com."} {
		b.Run(what, func(b *testing.B) {
			msg, buf, q := question(name, dnsmessage.TypeA, edns(1232)), make([]byte, 0, udpSize), new(Query)
			b.ReportAllocs()
			for b.Loop() {
				if q.Parse(msg) != nil {
					b.Fatal("does not parse")
				}
				q.Answer(v, noon, func(int) int { return 0 }, buf)
			}
		})
	}
}
