// Package relay carries sealed packets between systems that cannot reach each other
// directly, and answers STUN so that they learn their own addresses.
//
// A client is an agent on a TLS 1.3 connection, known by its SVID (wire/svid). It
// presents pair tickets (wire/ticket) and sends frames (wire/frame); the relay
// appends each to the receiver's queue and writes the sender's name itself. State is
// the roster of connected clients and, on each, its queue and its open pairs; all of
// it ends with the connection, nothing is stored.
//
// The relay is blind. It holds no key but that of its own TLS identity and the
// public one of control's tickets; a payload is copied once, from the reader's buffer
// to a queue, and no code looks into it. What it does see is who talks to whom, when
// and how much: docs/decisions/0034 says so plainly. It knows no policy: a pair may
// talk while a ticket says so (0030). A full queue slows its senders for a moment and
// then drops (0035), in equal parts (0036); a receiver that takes nothing is cut, and
// neither is felt by others (0031). Strangers have places of their own, and make room for
// each other (0187).
//
// STUN (RFC 8489) serves Enclave's agents only and never sends more than one and a
// half times what it got (0033).
package relay
