package world

import (
	"net/netip"

	"golang.org/x/net/dns/dnsmessage"
)

// AnswerDNS is what a resolver of a network without agents says to a query when it knows
// one name (with its final dot), which stands for an IPv4 address. It is nil for what is no
// query.
func AnswerDNS(query []byte, name string, at netip.Addr) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m = dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true}, Questions: m.Questions}
	switch {
	case q.Name.String() != name:
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}
		m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AResource{A: at.As4()}}}
	}
	raw, err := m.Pack()
	if err != nil {
		return nil
	}
	return raw
}
