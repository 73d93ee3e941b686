package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"

	"enclave/agent/link"
	"enclave/wire"
	"enclave/wire/svid"
)

// streamedPair is two systems without UDP and without a relay, of which the second takes
// the first by TCP.
func streamedPair(ctx context.Context, o *organisation) (p *pair, stop func(), err error) {
	var ends [2]*bare
	stop = func() {
		for _, b := range ends {
			if b != nil {
				b.close()
			}
		}
	}
	for i, id := range []wire.SystemID{"ssssa", "ssssb"} {
		cert, err := o.certificate(svid.System(o.id, id))
		if err != nil {
			stop()
			return nil, nil, err
		}
		mine := func() (*tls.Certificate, error) { return cert, nil }
		ends[i], err = newBareWith(ctx, id, netip.AddrFrom4([4]byte{100, 64, 2, byte(i + 1)}), noUDP{link.System()}, 0, func(c *link.Config) {
			c.LoopbackCandidates = true
			c.Streams = link.Streams{
				Server: func() *tls.Config { return svid.ServerConfig(o.trust(), mine, svid.ClientRequired) },
				Client: func(peer wire.SystemID) *tls.Config {
					return svid.ClientConfig(o.trust(), mine, svid.System(o.id, peer))
				},
			}
			if i == 1 {
				c.Streams.Listen = "127.0.0.1:0"
			}
		})
		if err != nil {
			stop()
			return nil, nil, err
		}
		ends[i].leaf = cert.Leaf.Raw
	}
	if err := ends[1].listens(ctx); err != nil {
		stop()
		return nil, nil, err
	}
	if err := join(ends[0], ends[1], 0); err != nil {
		stop()
		return nil, nil, err
	}
	return &pair{a: &local{ends[0].to(ends[1])}, b: new(here)}, stop, nil
}

// listens waits for b's listener and names it.
func (b *bare) listens(ctx context.Context) error {
	for begun := time.Now(); time.Since(begun) < 5*time.Second; {
		if at, err := netip.ParseAddrPort(b.link.NetInfo().Listen); err == nil {
			b.at = []wire.Candidate{{Kind: wire.TCPCandidate, Addr: at}}
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return errors.New("bench: no listener")
}

// ListenTCP implements link.StreamListener.
func (noUDP) ListenTCP(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }
