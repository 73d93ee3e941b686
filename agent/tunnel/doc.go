// Package tunnel is the data plane of one agent: WireGuard over a bind that agent/link
// provides, a user-space TCP/IP stack (gVisor) above it, and the policy filter between
// decryption and that stack. It needs no privilege and no device of the host.
//
//	local programs           Dial, Listen, Ping
//	      |                        |
//	      |                  ipStack: gVisor            tun.Device, the upper seam
//	      |                        |
//	      |                  guard: Filter.In / Out     every packet, both directions
//	      |                        |
//	      |                  wireguard/device           Noise IK, allowed addresses
//	      |                        |
//	   (path)                conn.Bind                  the lower seam
//
// Both seams are the interfaces of wireguard-go, so that another device or bind can
// replace ours without touching the rest. The package knows neither policies nor maps:
// a peer here is a key, its addresses and nothing else. It refuses to run without a
// filter, and a packet that the filter does not accept is delivered to nobody.
//
// Specifications: the WireGuard paper (Donenfeld, NDSS 2017), RFC 9293 for the resets.
// There are two ipStacks, chosen by Config.Netstack: nic, which is assembled here, and
// stock, which is wireguard-go's own tun/netstack. Why, and how they differ:
// docs/decisions/0070. How nic and guard work on batches: docs/decisions/0074; what TCP is
// set to: docs/decisions/0073; what passes gVisor by, and how sockets wait: docs/decisions/0181
// and 0182.
package tunnel
