// Package netcheck looks at the network that a machine stands on and says what paths
// it allows.
//
// Run asks: STUN servers by UDP over IPv4 and IPv6 from one socket, and a second one
// for hairpinning; relays by TCP and TLS, through the HTTP proxy of the environment
// where the way is shut; a plain page where a captive portal would answer. What came
// back is a Report, which is data alone. Findings and Summary are pure: they turn a
// Report into sentences, so that what a network means can be tested without having it.
//
// It trusts nobody it asks: answers count when they were asked for, certificates are
// looked at and never believed without the fingerprint of the organisation's root, and
// nothing secret is sent. It needs no identity: a relay's STUN answers whoever asks in
// the form that decision 0033 gives. It does not claim what it cannot know: with one
// STUN server the mapping is unknown, and how a NAT filters is not asked at all (RFC 5780
// needs servers that answer from other addresses, and ours never do).
//
// Terms are those of RFC 4787. Why not a public service for any of it: docs/decisions/0094.
package netcheck
