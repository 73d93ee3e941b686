package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"enclave/passage"
	"enclave/wire/disco"
	"enclave/wire/stream"
)

const (
	acceptPause = 100 * time.Millisecond // for which accepting rests when it fails
	acceptSoon  = 5 * time.Millisecond   // after somebody was: closing takes a moment
	acceptSaid  = time.Minute            // between two lines of the log that say so
)

// listen opens the listener, where one was asked for.
func (l *Link) listen() error {
	at := l.cfg.Streams.Listen
	if at == "" {
		return nil
	}
	n, ok := l.cfg.Network.(StreamListener)
	if !ok {
		return errors.New("run link: this network takes no TCP connections")
	}
	ln, err := n.ListenTCP(at)
	if err != nil {
		return fmt.Errorf("run link: listen on TCP: %w", err)
	}
	l.mu.Lock()
	l.listener = ln
	l.mu.Unlock()
	return nil
}

// acceptStreams takes callers until the listener is closed.
func (l *Link) acceptStreams(ctx context.Context) {
	if l.listener == nil { // set before any goroutine, and never again
		return
	}
	stop := context.AfterFunc(ctx, func() { l.listener.Close() })
	defer stop()
	said := rate.Sometimes{Interval: acceptSaid} // it may fail for hours
	for ctx.Err() == nil {
		c, err := l.listener.Accept()
		if err != nil {
			if ctx.Err() == nil { // out of descriptors, or aborted by the caller
				said.Do(func() { l.log.Warn("listen on TCP", "err", err) })
				if errors.Is(err, syscall.EMFILE) && l.door.room() {
					sleep(ctx, acceptSoon)
				} else {
					sleep(ctx, acceptPause)
				}
			}
			continue
		}
		from := farOf(c)
		within, cut := context.WithCancel(ctx)
		v := l.door.enter(sourceOf(from.Addr()), cut, time.Now())
		if v == nil {
			cut()
			l.drops.callers.Add(1)
			c.Close()
			continue
		}
		l.group.Go(func() {
			defer cut()
			defer l.door.leave(v)
			if err := l.take(within, c, from); err != nil {
				l.drops.callers.Add(1)
				l.log.Debug("caller turned away", "from", from, "err", err)
				c.Close()
			}
		})
	}
}

// take lets a caller in if it is a peer.
func (l *Link) take(ctx context.Context, raw net.Conn, from netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, streamIn)
	defer cancel()
	end := context.AfterFunc(ctx, func() { raw.Close() })
	defer end()
	var p *peer
	var tx disco.TxID
	// Nothing is shown before the knock, and nothing is believed before the certificate.
	c := tls.Server(passage.NewBulk(raw), &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if p, tx = l.knocked(stream.Knock(h.SupportedProtos)); p == nil {
			return nil, errStranger
		}
		cfg := l.cfg.Streams.Server()
		if cfg == nil {
			return nil, errors.New("no TLS configuration for callers")
		}
		cfg = cfg.Clone()
		cfg.MinVersion, cfg.NextProtos = tls.VersionTLS13, []string{stream.ALPN}
		cfg.DynamicRecordSizingDisabled = true
		verify := cfg.VerifyConnection
		cfg.VerifyConnection = func(cs tls.ConnectionState) error {
			if verify == nil {
				return errStranger
			}
			if err := verify(cs); err != nil {
				return err
			}
			return p.proves(&cs, time.Now())
		}
		return cfg, nil
	}})
	if err := c.HandshakeContext(ctx); err != nil {
		return err
	}
	b, err := stream.Append(nil, p.pair().Seal(nil, disco.Pong{Tx: tx}))
	if err != nil {
		return err
	}
	_ = c.SetWriteDeadline(time.Now().Add(streamIn))
	if _, err := c.Write(b); err != nil {
		return err
	}
	if !end() {
		return ctx.Err()
	}
	if !l.adopt(newStreamConn(p, c, from, false), stream.NewReader(c)) {
		return errReplaced
	}
	return nil
}

// knocked returns the peer that a knock is of, and its transaction; nil: of none, or it was
// heard before.
func (l *Link) knocked(b []byte) (*peer, disco.TxID) {
	p := l.table.sender(b)
	if p == nil {
		return nil, disco.TxID{}
	}
	m, err := p.pair().Open(b)
	ping, ok := m.(disco.Ping)
	if err != nil || !ok || ping.WireGuard != p.wg {
		return nil, disco.TxID{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.gone || p.seen.before(ping.Tx) {
		return nil, disco.TxID{}
	}
	return p, ping.Tx
}
