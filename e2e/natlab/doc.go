// Package natlab is an internet in one process: hosts, routers, NATs and links
// that carry real IPv4 and IPv6 packets, without root and without a network card.
//
// It exists so that control, relay and agents can be rehearsed on the topologies
// that break them: two symmetric NATs, a carrier NAT behind a home NAT, a hotel
// that lets out tcp/443 alone, a laptop that roams in mid-session. UDP sockets are
// part of the switch and block on nothing but sync.Cond, channels and package time,
// so a UDP-only lab runs in a testing/synctest bubble where hours pass in
// milliseconds. TCP is a gVisor netstack that a host creates when it first needs
// it; it wants the wall clock.
//
// The data is a tree: one Internet, networks behind routers, hosts at the leaves.
// Every host and every router hangs on its network by one link with two directions.
// A packet is a byte slice with a valid IP header; it walks the tree, and each
// router rewrites it in place. Links with a delay park it in a heap, links without
// one hand it on in the caller's goroutine.
//
// Randomness (loss, jitter, reordering, NAT ports) comes from the printed seed: the
// n-th packet over one direction of a link meets the same fate in every run.
//
// What it refuses: it never fragments (every packet counts as DF, as RFC 8085
// advises for UDP), it does no name service over the wire, no ARP or neighbour
// discovery, no multicast, and routers speak no routing protocol.
//
// NAT behaviour follows RFC 4787 (UDP), RFC 5382 (TCP) and RFC 5508 (ICMP);
// decisions 0010 (a switch under one lock), 0011 (NAT behaviour as data) and 0012
// (when two NATs can be crossed) record the choices.
package natlab
