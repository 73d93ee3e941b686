package resolver

import (
	"errors"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"enclave/wire/names"
)

const (
	// udpSize is what we say that we take, and the most that we send in a datagram: no
	// path fragments it (DNS flag day 2020).
	udpSize = 1232
	// plainSize is what a client without EDNS takes (RFC 1035, 2.3.4).
	plainSize = 512
	// MaxQuery is how long a question may be. One name, its type and an OPT with a
	// cookie come to less than half of it.
	MaxQuery = 1024
	// MaxAnswer is the most that DNS has room for.
	MaxAnswer = 65535
	// headerLen is the length of a message that holds nothing.
	headerLen = 12
)

// ErrDrop is returned for what gets no answer: it is no question at all, and answering
// it could make two resolvers talk to each other for ever.
var ErrDrop = errors.New("no question of DNS")

// Query is what of a question decides its answer.
type Query struct {
	header   dnsmessage.Header
	question dnsmessage.Question
	asked    bool // question is there
	edns     bool
	version  uint8 // of EDNS
	size     int   // the most that the client takes in a datagram
	name     [255]byte
	nameLen  int
}

// Name is the name asked for: lower case, without a final dot, "" for the root.
func (q *Query) Name() []byte { return q.name[:q.nameLen] }

// Type is the type asked for.
func (q *Query) Type() dnsmessage.Type { return q.question.Type }

// Result says what to do with a question.
type Result struct {
	RCode dnsmessage.RCode
	Kind  names.Kind
	Ways  []names.Way // whom to ask; the answer is not made then
}

// Parse reads a question. With an error other than ErrDrop, Refuse makes the answer.
func (q *Query) Parse(msg []byte) error {
	*q = Query{size: plainSize}
	if len(msg) < headerLen || len(msg) > MaxQuery {
		return ErrDrop
	}
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil || h.Response {
		return ErrDrop
	}
	q.header = h
	if h.OpCode != 0 {
		return errNotImplemented
	}
	if count(msg, 4) != 1 || count(msg, 6) != 0 || count(msg, 8) != 0 {
		return errFormat
	}
	if q.question, err = p.Question(); err != nil {
		return errFormat
	}
	q.asked = true
	if err := errors.Join(p.SkipAllQuestions(), p.SkipAllAnswers(), p.SkipAllAuthorities()); err != nil {
		return errFormat
	}
	if err := q.options(&p); err != nil {
		return err
	}
	q.plain()
	return nil
}

// count reads one of the four counts of a header.
func count(msg []byte, at int) int { return int(msg[at])<<8 | int(msg[at+1]) }

// maxAdditional is how many records may follow a question: an OPT, a TSIG, one to spare.
const maxAdditional = 3

// options reads the OPT record. What is in it is not kept: no option is answered.
func (q *Query) options(p *dnsmessage.Parser) error {
	for range maxAdditional + 1 {
		h, err := p.AdditionalHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return nil
		}
		if err != nil {
			return errFormat
		}
		if h.Type == dnsmessage.TypeOPT {
			if q.edns || h.Name.Length != 1 {
				return errFormat // two of them (RFC 6891, 6.1.1)
			}
			q.edns, q.version = true, uint8(h.TTL>>16)
			q.size = min(max(int(h.Class), plainSize), udpSize)
		}
		if err := p.SkipAdditional(); err != nil {
			return errFormat
		}
	}
	return errFormat
}

// plain brings the name to the form in which names are kept.
func (q *Query) plain() {
	n := &q.question.Name
	q.nameLen = max(int(n.Length)-1, 0)
	for i, c := range n.Data[:q.nameLen] {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		q.name[i] = c
	}
}

var (
	errFormat         = errors.New("malformed")
	errNotImplemented = errors.New("not a query")
)

// Refuse makes the answer to what Parse returned an error for.
func (q *Query) Refuse(err error, buf []byte) []byte {
	rcode := dnsmessage.RCodeFormatError
	if errors.Is(err, errNotImplemented) {
		rcode = dnsmessage.RCodeNotImplemented
	}
	return q.Fail(rcode, buf)
}

// badVersion is BADVERS, of which the header holds the lower four bits: 0.
const badVersion = dnsmessage.RCode(16)

// Answer answers a question from a view at now, into buf, whose length is kept. When
// Result has ways, nothing was written: they are to be asked. draw picks one of several
// systems.
func (q *Query) Answer(v *names.View, now time.Time, draw func(int) int, buf []byte) ([]byte, Result) {
	switch {
	case q.version != 0:
		return q.Fail(badVersion, buf), Result{RCode: badVersion}
	case q.question.Class != dnsmessage.ClassINET && q.question.Class != dnsmessage.ClassANY:
		return q.Fail(dnsmessage.RCodeRefused, buf), Result{RCode: dnsmessage.RCodeRefused}
	}
	a := v.Lookup(q.Name(), now)
	switch a.Kind {
	case names.Forwarded:
		return buf, Result{Kind: a.Kind, Ways: a.Ways}
	case names.Outside:
		return q.Fail(dnsmessage.RCodeServerFailure, buf), Result{RCode: dnsmessage.RCodeServerFailure}
	}
	r := Result{Kind: a.Kind}
	if a.Kind == names.Behind {
		b := q.begin(r.RCode, true, buf)
		q.standIn(&b)
		return q.end(&b, r.RCode), r
	}
	if a.Kind == names.Missing {
		r.RCode = dnsmessage.RCodeNameError
	}
	b := q.begin(r.RCode, true, buf)
	if a.Kind == names.Found && !q.address(&b, &a, now, draw) || a.Kind != names.Found {
		q.negative(&b, a.Zone)
	}
	return q.end(&b, r.RCode), r
}

// ttl is that of everything that we say.
const ttl = 0

// address adds the address that was asked for; false is that there is none of its
// family.
func (q *Query) address(b *dnsmessage.Builder, a *names.Answer, now time.Time, draw func(int) int) bool {
	p := a.Pick(now, draw)
	if p == nil {
		return false
	}
	h := dnsmessage.ResourceHeader{Name: q.question.Name, Class: dnsmessage.ClassINET, TTL: ttl}
	_ = b.StartAnswers() // the order of sections is right
	switch q.question.Type {
	case dnsmessage.TypeA, dnsmessage.TypeALL:
		return p.IPv4.Is4() && b.AResource(h, dnsmessage.AResource{A: p.IPv4.As4()}) == nil
	case dnsmessage.TypeAAAA:
		return p.IPv6.Is6() && b.AAAAResource(h, dnsmessage.AAAAResource{AAAA: p.IPv6.As16()}) == nil
	}
	return false
}

// standIn adds the address that stands for a name behind a gateway, which has one for
// IPv6 alone; of any other type the name has nothing.
func (q *Query) standIn(b *dnsmessage.Builder) {
	if t := q.question.Type; t != dnsmessage.TypeAAAA && t != dnsmessage.TypeALL {
		q.negative(b, string(q.Name()))
		return
	}
	_ = b.StartAnswers()
	h := dnsmessage.ResourceHeader{Name: q.question.Name, Class: dnsmessage.ClassINET, TTL: ttl}
	_ = b.AAAAResource(h, dnsmessage.AAAAResource{AAAA: names.StandIn(string(q.Name())).As16()})
}

// negative adds the SOA that goes with a name or a type that is not there (RFC 2308,
// section 3). Its times are 0: nobody keeps it, either.
func (q *Query) negative(b *dnsmessage.Builder, zone string) {
	name, ok := wireName(zone)
	if !ok {
		return
	}
	own := q.question.Type == dnsmessage.TypeSOA && string(q.Name()) == zone
	if own {
		_ = b.StartAnswers()
	} else {
		_ = b.StartAuthorities()
	}
	_ = b.SOAResource(dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: ttl},
		dnsmessage.SOAResource{NS: name, MBox: name, Serial: 1, Refresh: 1, Retry: 1, Expire: 1})
}

// wireName is dnsmessage.NewName without an allocation for the dot.
func wireName(zone string) (n dnsmessage.Name, ok bool) {
	if len(zone)+1 > len(n.Data) {
		return n, false
	}
	n.Length = uint8(copy(n.Data[:], zone) + 1)
	n.Data[len(zone)] = '.'
	return n, true
}

// Fail answers that there is no answer, and why.
func (q *Query) Fail(rcode dnsmessage.RCode, buf []byte) []byte {
	b := q.begin(rcode, false, buf)
	return q.end(&b, rcode)
}

func (q *Query) begin(rcode dnsmessage.RCode, ours bool, buf []byte) dnsmessage.Builder {
	b := dnsmessage.NewBuilder(buf, dnsmessage.Header{
		ID: q.header.ID, Response: true, OpCode: q.header.OpCode, Authoritative: ours,
		RecursionDesired: q.header.RecursionDesired, RecursionAvailable: true, RCode: rcode & 0xf,
	})
	// Without compression: the builder's table of names would be allocated, and what we
	// say is short.
	if q.asked {
		_ = b.StartQuestions()
		_ = b.Question(q.question)
	}
	return b
}

// end adds our OPT where the client sent one (RFC 6891, 7), without any option.
func (q *Query) end(b *dnsmessage.Builder, rcode dnsmessage.RCode) []byte {
	if q.edns {
		_ = b.StartAdditionals()
		var h dnsmessage.ResourceHeader
		_ = h.SetEDNS0(udpSize, rcode, false)
		_ = b.OPTResource(h, dnsmessage.OPTResource{})
	}
	out, err := b.Finish()
	if err != nil {
		return nil // no message of ours is larger than a message may be
	}
	return out
}
