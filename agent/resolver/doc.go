// Package resolver is the stub resolver of an agent: it answers questions of DNS about
// the overlay for the programs of its own system, and for nobody else.
//
// The pure half is Answer: a question's bytes, a view of names (wire/names) and the time
// give the answer's bytes, or the resolvers to ask. It does not allocate. The other half
// is Server, which listens, and Forwarder, which asks resolvers through a dialer that
// knows the gateways.
//
// Answers are of one asker, with TTL 0: whoever keeps one has kept something that policy
// may have ended. Outside our zones the answer is SERVFAIL and never NXDOMAIN, so that a
// client asks its next resolver (docs/decisions/0147). It never touches the host's own
// resolver, never repeats a client's options to somebody else, and refuses senders that
// are not of its own system.
//
// Specifications: RFC 1035; RFC 2308 for negative answers; RFC 6891 (EDNS); RFC 7766
// (TCP); RFC 8020. The parser is golang.org/x/net/dns/dnsmessage, which follows no
// compression pointer that does not point back (docs/decisions/0148).
package resolver
