package link

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// errNoQuestion leaves a resolver to what this host's files say.
var errNoQuestion = errors.New("only files are asked")

// Lookup returns the addresses of a name and how long they hold, 0 where that is not
// said, as by a hosts file. It asks as this host does (resolv.conf, nsswitch.conf, hosts;
// on Windows its adapters), through the resolver of the standard library, which keeps the
// TTLs to itself: they are read from the answers on their way in. A name without an
// address is no error.
func (system) Lookup(ctx context.Context, name string) ([]netip.Addr, time.Duration, error) {
	var seen ttls
	files := net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errNoQuestion }}
	if addrs, err := files.LookupNetIP(ctx, "ip", name); err == nil {
		return addrs, 0, nil
	}
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, addr)
		if u, ok := c.(*net.UDPConn); ok && err == nil {
			return &heard{u, &seen}, nil
		}
		return c, err // an answer too long for a datagram; its TTL was in the one that was cut
	}}
	addrs, err := r.LookupNetIP(ctx, "ip", name+".") // the dot keeps search domains out, and hosts files
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return nil, seen.least(), nil
	}
	return addrs, seen.least(), err
}

// ttls is the least TTL of the records that were seen.
type ttls struct {
	mu   sync.Mutex // guards what follows: A and AAAA are asked for at once
	any  bool
	secs uint32
}

func (t *ttls) least() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Duration(t.secs) * time.Second
}

// note reads the answers of a message; what cannot be read is left to the resolver.
func (t *ttls) note(msg []byte) {
	var p dnsmessage.Parser
	if _, err := p.Start(msg); err != nil || p.SkipAllQuestions() != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		h, err := p.AnswerHeader()
		if err != nil {
			return
		}
		if !t.any || h.TTL < t.secs {
			t.any, t.secs = true, h.TTL
		}
		if p.SkipAnswer() != nil {
			return
		}
	}
}

// heard is a socket to a resolver. It stays a net.PacketConn, by which the resolver tells
// datagrams from a stream.
type heard struct {
	*net.UDPConn
	seen *ttls
}

func (c *heard) Read(b []byte) (int, error) {
	n, err := c.UDPConn.Read(b)
	if err == nil {
		c.seen.note(b[:n])
	}
	return n, err
}
