// Package freeport finds ports for processes that tests start.
package freeport

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// Where ports are drawn from: above those of services that a machine may run, and below
// those that Linux (from 32768), macOS and Windows (both from 49152) give to sockets that
// ask for none. A port of the upper kind is free when it is found, and may be the source of
// some connection a moment later, when the process that was told to listen there begins.
const first, last = 12000, 32767

// drawn is what this process has handed out: never twice.
var drawn sync.Map

// Loopback is an address of this machine alone at which nobody listens with TCP or UDP.
func Loopback(t testing.TB) netip.AddrPort {
	t.Helper()
	for range 1000 {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(first+rand.N(last-first+1)))
		if _, before := drawn.LoadOrStore(at.Port(), true); !before && free(at) {
			return at
		}
	}
	t.Fatal("no port is free")
	return netip.AddrPort{}
}

func free(at netip.AddrPort) bool {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return false
	}
	defer l.Close()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return false
	}
	return c.Close() == nil
}
