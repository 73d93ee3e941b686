package link

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"enclave/wire"
	"enclave/wire/frame"
)

// relayConn is the connection to one relay, for as long as somebody wants it: it is
// dialled again whenever it ends.
type relayConn struct {
	l  *Link
	id wire.RelayID

	out   chan *packet  // Send frames; full means dropped
	again chan struct{} // dial or check now: the network changed; capacity 1

	// ctl are frames about the connection. They go before what waits in out, so that
	// an Open is never overtaken by the Send it is for. Its length is bounded by the
	// peers' tickets, and by ctlMax for what the relay makes us say.
	ctlMu  sync.Mutex
	ctl    []byte
	urgent chan struct{} // ctl is not empty; capacity 1

	heard  atomic.Int64  // when a frame last came, like counter.last
	frames atomic.Uint64 // that came; two can come in one instant
	sent   atomic.Int64  // when data was last written

	// Guarded by Link.mu.
	addr    string
	stop    context.CancelFunc // nil: not running
	up      bool
	failing bool // the last attempt to connect failed
	err     error
	drained time.Time // the relay wants nobody before
	used    time.Time // last wanted
	opened  map[wire.SystemID][]byte
}

const (
	relayQueue   = 256              // packets; about 40 ms at 100 Mbit/s
	ctlMax       = 64 << 10         // bytes of answers that a relay may make us hold
	dialIn       = 10 * time.Second // TCP, TLS and Hello together
	writeIn      = 10 * time.Second // one flush; a relay that takes nothing is dead
	flushBytes   = 16 << 10         // one TLS record
	redialMin    = 250 * time.Millisecond
	redialMax    = 30 * time.Second
	steadyAfter  = 30 * time.Second // a connection that lasted forgives earlier failures
	askBusy      = 2 * time.Second  // silence after data was sent, before we ping
	askIdle      = 20 * time.Second // silence otherwise; also keeps NATs' TCP mappings
	answerWithin = 2 * time.Second  // for the pong, or the connection is dead
)

var errRelaySilent = errors.New("relay does not answer")

func newRelayConn(l *Link, id wire.RelayID, addr string) *relayConn {
	return &relayConn{
		l: l, id: id, addr: addr,
		out:    make(chan *packet, relayQueue),
		again:  make(chan struct{}, 1),
		urgent: make(chan struct{}, 1),
		opened: make(map[wire.SystemID][]byte),
	}
}

// send queues b for p. It copies b, never waits, and reports whether there was room.
func (rc *relayConn) send(p *peer, b []byte) bool {
	pkt := packets.Get().(*packet)
	var err error
	pkt.b, err = frame.AppendSend(pkt.b[:0], p.fid, b)
	if err == nil {
		select {
		case rc.out <- pkt:
			return true
		default:
		}
	}
	rc.l.drops.queueFull.Add(1)
	pkt.free()
	return false
}

// run keeps the connection until ctx ends.
func (rc *relayConn) run(ctx context.Context) {
	wait := redialMin
	for ctx.Err() == nil {
		begun := time.Now()
		err := rc.session(ctx)
		if ctx.Err() != nil {
			break
		}
		lasted := rc.down(err)
		if lasted && time.Since(begun) > steadyAfter {
			wait = redialMin
		}
		select {
		case <-ctx.Done():
		case <-rc.again:
			wait = redialMin
		case <-time.After(wait/2 + rand.N(wait)): // all of a dead relay's clients come back: spread them
		}
		wait = min(2*wait, redialMax)
	}
	rc.down(nil)
	rc.drain()
}

// drain drops what waits: it would arrive too late to be of use.
func (rc *relayConn) drain() {
	for {
		select {
		case pkt := <-rc.out:
			pkt.free()
		default:
			return
		}
	}
}

// down records the end of a session or attempt and reports whether it had been up.
func (rc *relayConn) down(err error) (was bool) {
	l := rc.l
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	was, rc.up = rc.up, false
	clear(rc.opened)
	if err != nil {
		l.log.Debug("relay connection ended", "relay", rc.id, "was up", was, "err", err)
	}
	if rc.err = err; err != nil && !was {
		rc.failing = true
		rc.drain()
	}
	l.relays.chooseLocked(l, now)
	l.allDueLocked(now)
	return was
}

// session dials, says hello, opens the pairs and carries frames until something ends.
func (rc *relayConn) session(ctx context.Context) error {
	dial, cancel := context.WithTimeout(ctx, dialIn)
	defer cancel()
	c, err := rc.dial(dial)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(dialIn))
	if _, err := c.Write(frame.AppendHello(nil, frame.Version)); err != nil {
		return fmt.Errorf("relay hello: %w", err)
	}
	r := frame.NewReader(c)
	t, body, err := r.Next()
	if err != nil {
		return fmt.Errorf("relay hello: %w", err)
	}
	if _, err := frame.ParseHello(body); t != frame.Hello || err != nil {
		return fmt.Errorf("relay hello: got %v first", t)
	}
	_ = c.SetDeadline(time.Time{})
	rc.heard.Store(rc.l.sinceBase())
	rc.ctlMu.Lock()
	rc.ctl = nil
	rc.ctlMu.Unlock()
	rc.nowUp()

	done := make(chan struct{})
	var writer sync.WaitGroup
	var writeErr error
	writer.Go(func() {
		writeErr = rc.writeFrames(c, done)
		c.Close() // the reader notices
	})
	err = rc.readFrames(r)
	close(done)
	writer.Wait()
	return cmpErr(writeErr, err)
}

// cmpErr prefers the writer's reason: the reader's is then only that it was closed.
func cmpErr(writer, reader error) error {
	if writer != nil {
		return writer
	}
	return reader
}

func (rc *relayConn) dial(ctx context.Context) (net.Conn, error) {
	rc.l.mu.Lock()
	addr := rc.addr
	rc.l.mu.Unlock()
	base := rc.l.cfg.TLS(rc.id)
	if base == nil {
		return nil, errors.New("no TLS configuration for the relay")
	}
	cfg := base.Clone()
	cfg.MinVersion, cfg.NextProtos = tls.VersionTLS13, []string{frame.ALPN}
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(addr)
	}
	raw, err := rc.l.cfg.Network.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := tls.Client(raw, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("relay TLS: %w", err)
	}
	if got := c.ConnectionState().NegotiatedProtocol; got != frame.ALPN {
		raw.Close()
		return nil, fmt.Errorf("relay TLS: speaks %.40q, not %s", got, frame.ALPN)
	}
	return c, nil
}

// nowUp publishes the connection and presents the tickets of the peers met there.
func (rc *relayConn) nowUp() {
	l := rc.l
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	rc.up, rc.failing, rc.err = true, false, nil
	l.log.Debug("relay connected", "relay", rc.id)
	l.relays.chooseLocked(l, now)
	for _, p := range l.peers {
		p.setHere(rc.id)
		if p.path.Active(now) && l.relayForLocked(p, now, true) == rc {
			rc.openLocked(p)
		}
	}
	l.allDueLocked(now)
}

// openLocked presents the ticket of p unless that was done.
func (rc *relayConn) openLocked(p *peer) {
	if old, ok := rc.opened[p.id]; !rc.up || len(p.ticket) == 0 || ok && string(old) == string(p.ticket) {
		return
	}
	rc.opened[p.id] = p.ticket
	b, err := frame.AppendOpen(nil, p.ticket)
	if err != nil {
		rc.l.log.Warn("ticket does not fit a frame", "peer", p.id)
		return
	}
	rc.say(b)
}

// say queues frames about the connection.
func (rc *relayConn) say(b []byte) {
	rc.ctlMu.Lock()
	rc.ctl = append(rc.ctl, b...)
	rc.ctlMu.Unlock()
	select {
	case rc.urgent <- struct{}{}:
	default:
	}
}

func (rc *relayConn) writeFrames(c net.Conn, done <-chan struct{}) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var pinged int64  // when the ping that waits was sent; 0: none waits
	var before uint64 // frames that had come by then
	buf := make([]byte, 0, flushBytes+packetCap)
	for {
		var pkt *packet
		check := false
		select {
		case <-done:
			return nil
		case pkt = <-rc.out:
		case <-rc.urgent:
		case <-rc.again:
			check = true
		case <-tick.C:
		}
		buf = buf[:0]
		rc.ctlMu.Lock()
		buf, rc.ctl = append(buf, rc.ctl...), rc.ctl[:0]
		rc.ctlMu.Unlock()
		for ; pkt != nil; pkt = rc.nextPacket(buf) {
			buf = append(buf, pkt.b...)
			pkt.free()
			rc.sent.Store(rc.l.sinceBase())
		}
		now, heard, sent := rc.l.sinceBase(), rc.heard.Load(), rc.sent.Load()
		quiet := time.Duration(now - heard)
		switch {
		case pinged != 0 && rc.frames.Load() != before:
			pinged = 0
		case pinged != 0 && time.Duration(now-pinged) > answerWithin:
			return errRelaySilent
		case pinged == 0 && (check || quiet > askIdle || sent > heard && quiet > askBusy):
			pinged, before = now, rc.frames.Load()
			buf = frame.AppendPing(buf, [8]byte(binary.BigEndian.AppendUint64(nil, uint64(now))))
		}
		if len(buf) == 0 {
			continue
		}
		_ = c.SetWriteDeadline(time.Now().Add(writeIn))
		if _, err := c.Write(buf); err != nil {
			return err
		}
		if cap(buf) > 4*flushBytes {
			buf = make([]byte, 0, flushBytes+packetCap)
		}
	}
}

// nextPacket returns another packet for the same flush, nil when it is full or none
// waits.
func (rc *relayConn) nextPacket(buf []byte) *packet {
	if len(buf) >= flushBytes {
		return nil
	}
	select {
	case pkt := <-rc.out:
		return pkt
	default:
		return nil
	}
}

func (rc *relayConn) readFrames(r *frame.Reader) error {
	for {
		t, body, err := r.Next()
		if err != nil {
			return err
		}
		rc.heard.Store(rc.l.sinceBase())
		rc.frames.Add(1)
		if t == frame.Recv {
			from, payload, err := frame.ParsePacket(body)
			if err != nil {
				return err
			}
			rc.l.hearRelayed(rc, from, payload)
			continue
		}
		if err := rc.hear(t, body); err != nil {
			return err
		}
	}
}

// hear takes the frames that are about the connection and not through it.
func (rc *relayConn) hear(t frame.Type, body []byte) error {
	switch t {
	case frame.Ping:
		data, err := frame.ParsePing(body)
		if err != nil {
			return err
		}
		rc.ctlMu.Lock()
		room := len(rc.ctl) < ctlMax
		rc.ctlMu.Unlock()
		if room {
			rc.say(frame.AppendPong(nil, data))
		}
	case frame.Pong:
	case frame.Opened:
		id, here, err := frame.ParseOpened(body)
		if err != nil {
			return err
		}
		rc.hearPresence(id, here)
	case frame.PeerGone:
		id, err := frame.ParsePeer(body)
		if err != nil {
			return err
		}
		rc.hearPresence(id, false)
	case frame.Refused:
		id, code, err := frame.ParseRefused(body)
		if err != nil {
			return err
		}
		rc.hearRefused(id, code)
	case frame.Drain:
		grace, err := frame.ParseDrain(body)
		if err != nil {
			return err
		}
		rc.hearDrain(grace)
	case frame.Note:
		rc.l.log.Info("relay says", "relay", rc.id, "note", string(body))
	default:
		return fmt.Errorf("relay sent %v", t)
	}
	return nil
}

func (rc *relayConn) hearPresence(id frame.ID, here bool) {
	p := rc.l.table.byID(id)
	if p == nil {
		return
	}
	now := time.Now()
	l := rc.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if here {
		p.setHere(rc.id)
	} else {
		p.setAway(rc.id, now)
	}
	if !p.gone {
		l.dueLocked(p, now)
	}
}

func (rc *relayConn) hearRefused(id frame.ID, code frame.Code) {
	p := rc.l.table.byID(id)
	if p == nil {
		return
	}
	now := time.Now()
	l := rc.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if code == frame.NoTicket {
		delete(rc.opened, p.id) // presented again by the next step
	} else {
		l.log.Warn("relay refuses the pair", "relay", rc.id, "peer", p.id, "why", code)
		p.setAway(rc.id, now)
	}
	if !p.gone {
		l.dueLocked(p, now)
	}
}

func (rc *relayConn) hearDrain(grace time.Duration) {
	l := rc.l
	l.log.Info("relay drains", "relay", rc.id, "grace", grace)
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	rc.drained = now.Add(grace + drainHold)
	l.relays.chooseLocked(l, now)
}

// drainHold is how long after its end a drained relay is no choice for a home.
const drainHold = time.Minute

func (l *Link) sinceBase() int64 { return int64(time.Since(l.base)) }
