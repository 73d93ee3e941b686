package bench

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"enclave/agent/filter"
	"enclave/agent/link"
	"enclave/agent/tunnel"
	"enclave/wire"
	"enclave/wire/disco"
)

// bare is the data path of an agent alone: link, filter, tunnel, with no control plane
// that would say whom it may meet. It is told here.
type bare struct {
	id     wire.SystemID
	addr   netip.Addr
	link   *link.Link
	filter *filter.Table
	tunnel *tunnel.Tunnel
	wg     wire.WireGuardKey
	disco  wire.DiscoKey
	at     []wire.Candidate
	relay  *tls.Config // to the relay; nil without one
	ticket []byte      // for the pair with the other
	leaf   []byte      // of its SVID; nil: it has none
	done   sync.WaitGroup
	cancel context.CancelFunc
}

// newBare makes a system on a network; at are the addresses at which others reach it.
func newBare(ctx context.Context, id wire.SystemID, addr netip.Addr, on link.Network, udp uint16, at ...netip.Addr) (*bare, error) {
	return newBareWith(ctx, id, addr, on, udp, func(*link.Config) {}, at...)
}

// newBareWith is newBare with a link that edit has changed.
func newBareWith(ctx context.Context, id wire.SystemID, addr netip.Addr, on link.Network, udp uint16, edit func(*link.Config), at ...netip.Addr) (*bare, error) {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	d := disco.NewPrivateKey()
	b := &bare{id: id, addr: addr, wg: wire.WireGuardKey(private.PublicKey().Bytes()), disco: d.Public()}
	for _, a := range at {
		b.at = append(b.at, wire.Candidate{Kind: wire.HostCandidate, Addr: netip.AddrPortFrom(a, udp)})
	}
	cfg := link.Config{Network: on, Self: id, WireGuard: b.wg, Disco: d, Port: udp,
		TLS: func(wire.RelayID) *tls.Config { return b.relay }}
	edit(&cfg)
	if b.link, err = link.New(cfg); err != nil {
		return nil, err
	}
	b.filter = filter.New(filter.Config{Self: id, Addrs: []netip.Addr{addr}})
	b.tunnel, err = tunnel.New(tunnel.Config{Addrs: []netip.Addr{addr}, MTU: mtu, PrivateKey: [32]byte(private.Bytes()), Bind: b.link, Filter: b.filter,
		Lazy: true}) // as agents have it
	if err != nil {
		return nil, err
	}
	if err := b.tunnel.Up(); err != nil {
		return nil, errors.Join(err, b.tunnel.Close())
	}
	ctx, b.cancel = context.WithCancel(ctx)
	b.done.Go(func() { _ = b.link.Run(ctx) }) // what it ended with shows in every measurement
	return b, nil
}

func (b *bare) close() {
	b.tunnel.Close()
	b.cancel()
	b.done.Wait()
}

// greet tells b of o and of what may pass between them.
func (b *bare) greet(o *bare, grants []wire.Grant) error {
	reach := wire.Reach{Candidates: o.at}
	if o.relay != nil {
		reach.Relay = benchRelay
	}
	b.link.SetPeers([]link.Peer{{ID: o.id, WireGuard: o.wg, Disco: o.disco, Reach: reach, Ticket: b.ticket, SVID: o.leaf}})
	b.filter.Update([]filter.Peer{{ID: o.id, Addrs: []netip.Addr{o.addr}, Grants: grants}}, "", time.Now())
	return b.tunnel.SetPeers([]tunnel.Peer{{Key: o.wg, Addrs: []netip.Addr{o.addr}}})
}

// grantsFor lets a reach the service of b, and with n more than that one, others.
func grantsFor(a, b *bare, n int) []wire.Grant {
	grants := []wire.Grant{{From: a.id, To: b.id, Proto: wire.Any, Policy: "bench"}}
	if n > 0 {
		grants[0] = wire.Grant{From: a.id, To: b.id, Proto: wire.TCP, Ports: wire.Ports{{Lo: port, Hi: port}}, Policy: "bench"}
		grants = append(grants, wire.Grant{From: a.id, To: b.id, Proto: wire.UDP, Ports: wire.Ports{{Lo: port, Hi: port}}, Policy: "bench"})
	}
	for i := range max(0, n-2) {
		p := uint16(100 + i)
		grants = append(grants, wire.Grant{From: a.id, To: b.id, Proto: wire.TCP, Ports: wire.Ports{{Lo: p, Hi: p}}, Policy: wire.PolicyID(fmt.Sprint("more", i/10)), Rule: i % 10})
	}
	return grants
}

// barePair is two bare systems over loopback with n grants, that serve, and flows
// between them beside the one that is measured.
func barePair(ctx context.Context, n, flows int) (p *pair, stop func(), err error) {
	a, b, err := bares(ctx, n)
	if err != nil {
		return nil, nil, err
	}
	stop = func() { a.close(); b.close() }
	for range flows {
		c, err := a.to(b)(ctx, "udp")
		if err == nil {
			_, err = c.Write([]byte{count}) // it stays open until the stack ends
		}
		if err != nil {
			stop()
			return nil, nil, err
		}
	}
	return &pair{a: &local{a.to(b)}, b: new(here)}, stop, nil
}

func bares(ctx context.Context, n int) (a, b *bare, err error) {
	home := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	free := func() uint16 {
		c, err := net.ListenUDP("udp", nil)
		if err != nil {
			return 0
		}
		defer c.Close()
		return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	}
	if a, err = newBare(ctx, "aaaaa", netip.AddrFrom4([4]byte{100, 64, 0, 1}), link.System(), free(), home); err != nil {
		return nil, nil, err
	}
	if b, err = newBare(ctx, "bbbbb", netip.AddrFrom4([4]byte{100, 64, 0, 2}), link.System(), free(), home); err != nil {
		a.close()
		return nil, nil, err
	}
	if err := join(a, b, n); err != nil {
		a.close()
		b.close()
		return nil, nil, err
	}
	return a, b, nil
}

// join introduces two systems and serves on the second.
func join(a, b *bare, n int) error {
	grants := grantsFor(a, b, n)
	if err := errors.Join(a.greet(b, grants), b.greet(a, grants)); err != nil {
		return err
	}
	l, err := b.tunnel.ListenTCP(netip.AddrPortFrom(b.addr, port))
	if err != nil {
		return err
	}
	pc, err := b.tunnel.ListenUDP(netip.AddrPortFrom(b.addr, port))
	if err != nil {
		return err
	}
	go serve(l)
	go servePackets(pc)
	return nil
}

// to returns a dialer from b to the service of o.
func (b *bare) to(o *bare) dialer {
	return func(ctx context.Context, network string) (net.Conn, error) {
		at := netip.AddrPortFrom(o.addr, port)
		if network == "udp" {
			return b.tunnel.DialUDP(at)
		}
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		return b.tunnel.DialTCP(ctx, at)
	}
}

// local is a host whose node is there already.
type local struct{ dial dialer }

func (l *local) do(ctx context.Context, j *job) (*answer, error) {
	vs, err := measure(ctx, j, l.dial)
	return &answer{Values: vs}, err
}

func (*local) close() error { return nil }
