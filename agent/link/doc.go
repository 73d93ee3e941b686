// Package link carries WireGuard's packets between systems. It owns the UDP socket
// and the connections to relays, asks agent/path which way each peer is reached,
// does what path says, and is the conn.Bind of the WireGuard device.
//
// To WireGuard an endpoint is a peer, not an address: the device is given
// "endpoint=<public key>" once, and routes change below it without disturbing the
// session. Every datagram on the socket is a STUN answer, a disco probe
// (wire/disco) or a WireGuard message, told apart by its first bytes.
//
// It refuses to send to, answer, or pass on anything from whoever is not in the
// last SetPeers: probes of unknown keys are dropped before any cryptography, and
// WireGuard messages from addresses that answered for no peer never reach the
// device, nor do those that name no session (decision 0185). What is dropped is counted
// (Drops); a flood of it is dropped by the kernel while it lasts (decision 0095). Relays
// are told apart from peers: one can withhold packets, but what it forges is dropped by
// disco's boxes and by WireGuard.
//
// Order of use: New; SetRelays and SetPeers before the device is told of a peer, for
// ParseEndpoint knows only set peers; Run for as long as the link is to live. Call
// Device.DisableSomeRoamingForBrokenMobileSemantics before adding peers: roaming is
// the link's business, and with it off not even a relay that lies about a sender can
// move a peer's endpoint. Decisions: docs/decisions/0060 to 0064, 0068 where pairs meet, 0074
// for batches, and 0169 for streams by TCP.
package link
