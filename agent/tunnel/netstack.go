package tunnel

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Netstack names a user-space TCP/IP stack.
type Netstack string

// The stacks that a tunnel can stand on. Both are gVisor; they differ in how it is put
// together and what of it can be reached (decision 0070).
const (
	Enclave Netstack = "enclave" // assembled in this package
	Stock   Netstack = "stock"   // golang.zx2c4.com/wireguard/tun/netstack as it comes
)

// Netstacks lists the names, the preferred one first.
func Netstacks() []Netstack { return []Netstack{Enclave, Stock} }

// Check returns an error for a name that no stack has. The empty one is Enclave.
func (n Netstack) Check() error {
	switch n {
	case "", Enclave, Stock:
		return nil
	}
	return fmt.Errorf("netstack %q: want %s or %s", string(n), Enclave, Stock)
}

func (n Netstack) open(addrs []netip.Addr, mtu int) (ipStack, error) {
	if n == Stock {
		return newStock(addrs, mtu)
	}
	return newNIC(addrs, mtu)
}

// ipStack is the TCP/IP stack of a tunnel: a device to WireGuard, sockets to programs.
// The methods that Tunnel has too mean the same here.
type ipStack interface {
	link
	DialTCP(ctx context.Context, dst netip.AddrPort) (net.Conn, error)
	ListenTCP(at netip.AddrPort) (net.Listener, error)
	DialUDP(dst netip.AddrPort) (net.Conn, error)
	ListenUDP(at netip.AddrPort) (net.PacketConn, error)
	Ping(ctx context.Context, addr netip.Addr) (time.Duration, error)
	// Abort resets every connection. It comes before Close and needs somebody who
	// still reads from the device.
	Abort()
}

// DialTCP opens a connection to an overlay address; the result is a *TCPConn. A flow
// that the filter denies fails at once with syscall.ECONNREFUSED. One to a peer that
// does not answer waits as long as ctx lets it.
func (t *Tunnel) DialTCP(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
	return t.stack.DialTCP(ctx, dst)
}

// ListenTCP listens on one of the tunnel's addresses; port 0 picks one. Accept
// returns *TCPConn.
func (t *Tunnel) ListenTCP(at netip.AddrPort) (net.Listener, error) {
	return t.stack.ListenTCP(at)
}

// DialUDP returns a socket that talks to dst alone. Nothing is sent yet. A flow that
// the filter denies, and a closed port, make a later Read or Write return
// syscall.ECONNREFUSED.
func (t *Tunnel) DialUDP(dst netip.AddrPort) (net.Conn, error) {
	return t.stack.DialUDP(dst)
}

// ListenUDP returns a socket on one of the tunnel's addresses; port 0 picks one.
func (t *Tunnel) ListenUDP(at netip.AddrPort) (net.PacketConn, error) {
	return t.stack.ListenUDP(at)
}

// Ping sends ICMP echoes (RFC 792, RFC 4443) to an overlay address until one is
// answered or ctx ends, and returns the round trip of the answered one.
func (t *Tunnel) Ping(ctx context.Context, addr netip.Addr) (time.Duration, error) {
	rtt, err := t.stack.Ping(ctx, addr)
	if err != nil {
		return 0, fmt.Errorf("ping %s: %w", addr, err)
	}
	return rtt, nil
}
