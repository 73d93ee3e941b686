// Package disco is the format of the probes with which two systems find a path to
// each other: a ping, its pong, and a request, sent through a relay, to be pinged.
//
// A packet carries the sender's public disco key in the clear, because a receiver
// must know which key to try, and everything else in a NaCl box (X25519,
// XSalsa20-Poly1305) between the two disco keys that the map introduced:
//
//	 0      6                 38       62                      n
//	┌───────┬─────────────────┬────────┬───────────────────────┐
//	│ magic │ sender's key 32 │ nonce  │ box (16 tag + body)   │
//	└───────┴─────────────────┴────────┴───────────────────────┘
//
// The first byte of the magic is above 191, which RFC 7983 leaves to nobody and
// which neither WireGuard (1 to 4) nor STUN (0 to 3) starts with, so that all
// three share one UDP socket. A box alone does not say who of the two sealed it;
// the lowest bit of the nonce does, and a packet that is thrown back at its sender
// does not open.
//
// The package refuses anything longer than MaxPacket, message types it does not
// know and candidates beyond wire.MaxCandidates. It keeps no state: replays are the
// business of its user, who sees the transaction ID of every message. The page is
// docs/format/disco.md.
package disco
