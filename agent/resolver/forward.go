package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"enclave/wire/names"
)

// Dialer opens flows to resolvers behind gateways: the agent's own dialer, which knows
// the gateways and asks the policy.
type Dialer interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

const (
	// forwardTry is how long one resolver has, forwardAll all of them together: clients
	// ask again after 5 s.
	forwardTry = 1500 * time.Millisecond
	forwardAll = 4 * time.Second
)

var errMismatch = errors.New("the answer is to another question")

// Forward asks the resolvers of ways, in random order of the ways, and returns the first
// answer that is one, for a client that takes at most limit bytes. A resolver that
// refuses or fails is no answer: the next is asked.
func (q *Query) Forward(ctx context.Context, d Dialer, ways []names.Way, limit int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, forwardAll)
	defer cancel()
	var errs []error
	for _, i := range rand.Perm(len(ways)) {
		for _, at := range ways[i].Resolvers {
			m, err := q.ask(ctx, d, at)
			if err == nil {
				return q.relay(m, limit), nil
			}
			if errs = append(errs, fmt.Errorf("resolver %s: %w", at, err)); ctx.Err() != nil {
				return nil, errors.Join(errs...)
			}
		}
	}
	return nil, errors.Join(errs...)
}

// ask asks one resolver, by TCP where a datagram is too small for what it says.
func (q *Query) ask(ctx context.Context, d Dialer, at netip.AddrPort) (*dnsmessage.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, forwardTry)
	defer cancel()
	id := uint16(rand.Uint32())
	msg, err := q.fresh(id)
	if err != nil {
		return nil, err
	}
	m, err := exchange(ctx, d, "udp", at, msg, id, q)
	if err == nil && m.Truncated {
		m, err = exchange(ctx, d, "tcp", at, msg, id, q)
	}
	if err == nil && m.RCode != dnsmessage.RCodeSuccess && m.RCode != dnsmessage.RCodeNameError {
		return nil, fmt.Errorf("answers %s", m.RCode)
	}
	return m, err
}

// fresh is the question as a resolver gets it: ours, with an ID of ours and no option
// of the client's.
func (q *Query) fresh(id uint16) ([]byte, error) {
	b := dnsmessage.NewBuilder(make([]byte, 0, plainSize), dnsmessage.Header{ID: id, RecursionDesired: true})
	var opt dnsmessage.ResourceHeader
	err := errors.Join(b.StartQuestions(), b.Question(q.question), opt.SetEDNS0(udpSize, 0, false), b.StartAdditionals(), b.OPTResource(opt, dnsmessage.OPTResource{}))
	if err != nil {
		return nil, err
	}
	return b.Finish()
}

// maxStray is how many datagrams that are no answer are looked past.
const maxStray = 16

func exchange(ctx context.Context, d Dialer, network string, at netip.AddrPort, msg []byte, id uint16, q *Query) (*dnsmessage.Message, error) {
	c, err := d.DialContext(ctx, network, at.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	if network == "tcp" {
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)); err != nil {
			return nil, err
		}
		raw, err := readTCP(c, MaxAnswer)
		if err != nil {
			return nil, err
		}
		return q.accept(raw, id)
	}
	if _, err := c.Write(msg); err != nil {
		return nil, err
	}
	buf := make([]byte, MaxAnswer)
	for range maxStray {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		if m, err := q.accept(buf[:n], id); err == nil {
			return m, nil
		}
	}
	return nil, errMismatch
}

// accept reads the answer of a resolver, and refuses one to another question.
func (q *Query) accept(raw []byte, id uint16) (*dnsmessage.Message, error) {
	m := new(dnsmessage.Message)
	if err := m.Unpack(raw); err != nil {
		// What was cut in the middle of a record still says that it was.
		var p dnsmessage.Parser
		h, e := p.Start(raw)
		if e != nil || !h.Truncated || !h.Response || h.ID != id {
			return nil, err
		}
		return &dnsmessage.Message{Header: h}, nil
	}
	if !m.Response || m.ID != id || len(m.Questions) != 1 || !sameQuestion(&m.Questions[0], &q.question) {
		return nil, errMismatch
	}
	return m, nil
}

func sameQuestion(a, b *dnsmessage.Question) bool {
	if a.Type != b.Type || a.Class != b.Class || a.Name.Length != b.Name.Length {
		return false
	}
	lower := func(c byte) byte {
		if 'A' <= c && c <= 'Z' {
			return c + 'a' - 'A'
		}
		return c
	}
	for i := range a.Name.Length {
		if lower(a.Name.Data[i]) != lower(b.Name.Data[i]) {
			return false
		}
	}
	return true
}

// relay makes a resolver's answer ours: to the client's question, without the resolver's
// options, and empty with the mark of truncation where the client takes no more.
func (q *Query) relay(m *dnsmessage.Message, limit int) []byte {
	out := dnsmessage.Message{Header: dnsmessage.Header{
		ID: q.header.ID, Response: true, RecursionDesired: q.header.RecursionDesired, RecursionAvailable: true, RCode: m.RCode,
	}, Questions: []dnsmessage.Question{q.question}, Answers: m.Answers, Authorities: m.Authorities}
	for _, r := range m.Additionals {
		if r.Header.Type != dnsmessage.TypeOPT {
			out.Additionals = append(out.Additionals, r)
		}
	}
	if q.edns {
		var h dnsmessage.ResourceHeader
		_ = h.SetEDNS0(udpSize, m.RCode, false)
		out.Additionals = append(out.Additionals, dnsmessage.Resource{Header: h, Body: &dnsmessage.OPTResource{}})
	}
	raw, err := out.Pack()
	if err == nil && len(raw) <= limit {
		return raw
	}
	if err != nil {
		return q.Fail(dnsmessage.RCodeServerFailure, nil)
	}
	out.Truncated, out.Answers, out.Authorities, out.Additionals = true, nil, nil, out.Additionals[:0]
	if q.edns {
		var h dnsmessage.ResourceHeader
		_ = h.SetEDNS0(udpSize, m.RCode, false)
		out.Additionals = append(out.Additionals, dnsmessage.Resource{Header: h, Body: &dnsmessage.OPTResource{}})
	}
	if raw, err = out.Pack(); err != nil {
		return q.Fail(dnsmessage.RCodeServerFailure, nil)
	}
	return raw
}

// readTCP reads one message of a TCP connection (RFC 7766, section 8).
func readTCP(r io.Reader, most int) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n > most || n < headerLen {
		return nil, fmt.Errorf("a message of %d bytes, at most %d are taken", n, most)
	}
	buf := make([]byte, n)
	_, err := io.ReadFull(r, buf)
	return buf, err
}
