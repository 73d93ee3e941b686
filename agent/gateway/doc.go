// Package gateway carries flows of the overlay on to networks that have no agent, from
// user space: TCP and UDP through sockets of this host, ICMP echo through its ping
// sockets. It needs no capability, no packet filter of the host and no route in it.
//
// Data flow. The filter has let a packet through under a grant for what lies behind this
// system; agent/tunnel answers for the address it is for and hands the flow over here.
// The address is translated by the routes of this system (control gives them), judged
// once more, and dialled. What may start a flow, and when it ends, is the filter's: a cut
// resets the overlay's end, and this package then resets the network's.
//
// For a DNS name that a policy's subnet filter names, the overlay knows a stand-in alone.
// The gateway resolves the name as its host does, believes an answer for its TTL, and ends
// flows to addresses that are no longer among the answers (docs/decisions/0143).
//
// It refuses, whatever control says: addresses of this host, of the overlay, loopback,
// link-local, multicast, and the metadata services of clouds. Nothing behind it can start
// a flow, since it only dials. Why addresses are judged twice: docs/decisions/0141.
package gateway
