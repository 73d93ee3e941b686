package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"enclave/passage"
	"enclave/wire"
	"enclave/wire/frame"
)

// relayConn is the connection to one relay, for as long as somebody wants it: it is
// dialled again whenever it ends.
type relayConn struct {
	l  *Link
	id wire.RelayID

	out   backlog       // Send frames; full means dropped
	again chan struct{} // dial or check now: the network changed; capacity 1

	// ctl are frames about the connection. They go before what waits in out, so that
	// an Open is never overtaken by the Send it is for. Its length is bounded by the
	// peers' tickets, each as often as control renews it while the writer is stuck, at
	// most writeIn, and by ctlMax for what the relay makes us say.
	ctlMu  sync.Mutex
	ctl    []byte
	taken  uint64        // times that ctl was taken
	urgent chan struct{} // ctl is not empty; capacity 1

	way passage.Way // the shape in which it is reached

	words  *rate.Limiter // lines of the log that are the relay's to cause
	unsaid int           // left out since the last; the reader's

	lag    atomic.Int64  // round trip, as far as known; nanoseconds
	heard  atomic.Int64  // when a frame last came, like counter.last
	frames atomic.Uint64 // that came; two can come in one instant
	sent   atomic.Int64  // when data was last written
	got    atomic.Int64  // when data last came

	// Guarded by Link.mu.
	addr    string
	stop    context.CancelFunc // nil: not running
	up      bool
	failing bool // the last attempt to connect failed
	suspect bool // an answer is overdue
	late    bool // not up although dialGrace is over
	third   bool // some pair was to meet here, see thirdLocked
	met     bool // has been up
	told    bool // others were to hear that it is out of reach
	err     error
	since   time.Time // of not being up
	failed  time.Time // when failing began
	drains  time.Time // when it said that it drains
	drained time.Time // the relay wants nobody before
	used    time.Time // last wanted
	opened  map[wire.SystemID]opening
}

// opening is a ticket that was presented.
type opening struct {
	ticket []byte
	after  uint64 // relayConn.taken when it was queued: while that is so, nobody can have read it
}

const (
	ctlMax      = 64 << 10         // bytes of answers that a relay may make us hold
	wordsEvery  = 10 * time.Second // a line of the log about what a relay says, and wordsBurst at once
	wordsBurst  = 20
	dialIn      = 10 * time.Second // TCP, TLS and Hello together
	writeIn     = 10 * time.Second // one flush; a relay that takes nothing is dead
	flushBytes  = 64 << 10         // of a write, which is one system call and has one deadline
	redialMin   = 250 * time.Millisecond
	redialMax   = 30 * time.Second
	steadyAfter = 30 * time.Second // a connection that lasted forgives earlier failures

	// The rhythm by which a relay that died without a word is found out while it is in
	// use: asked after askBusy; others are made ready at suspectAfter, and pairs that meet
	// there move; the connection is given up at answerWithin. The first two, with busyTick,
	// leave time to be back before TCP inside sends for the fourth time, three seconds
	// after the first.
	busyFor      = 15 * time.Second // after data it counts as in use
	askBusy      = time.Second
	askIdle      = 20 * time.Second       // silence otherwise; also keeps NATs' TCP mappings
	suspectAfter = 500 * time.Millisecond // and two round trips
	answerWithin = 2 * time.Second        // for the pong, or the connection is dead
	busyTick     = 250 * time.Millisecond
	idleTick     = time.Second
)

var (
	errRelaySilent = errors.New("relay does not answer")
	errAddressGone = errors.New("this system has lost the address of the connection")
)

func newRelayConn(l *Link, id wire.RelayID, addr string) *relayConn {
	return &relayConn{
		l: l, id: id, addr: addr,
		out:    newBacklog(outLimit),
		again:  make(chan struct{}, 1),
		urgent: make(chan struct{}, 1),
		words:  rate.NewLimiter(rate.Every(wordsEvery), wordsBurst),
		opened: make(map[wire.SystemID]opening),
	}
}

// send queues b for p. It copies b, never waits, and reports whether there was room.
func (rc *relayConn) send(p *peer, b []byte) bool {
	one := [1][]byte{b}
	if rc.out.frames(p.fid, one[:], false) == 1 {
		return true
	}
	rc.l.drops.queueFull.Add(1)
	return false
}

// sendData queues a batch of the data path, which waits a moment for room: then the stack
// slows down where a loss would have it start again (decision 0035). It returns how many
// there was room for.
func (rc *relayConn) sendData(p *peer, bufs [][]byte) int {
	n := rc.out.frames(p.fid, bufs, true)
	if lost := len(bufs) - n; lost > 0 {
		rc.l.drops.queueFull.Add(uint64(lost))
	}
	return n
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
	rc.out.drop()
}

// down records the end of a session or attempt and reports whether it had been up.
func (rc *relayConn) down(err error) (was bool) {
	l := rc.l
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	was, rc.up = rc.up, false
	rc.suspect, rc.since = false, now
	rc.late = was && errors.Is(err, errRelaySilent) // who was silent is not waited for
	clear(rc.opened)
	for _, p := range l.peers {
		p.setUnknown(rc.id)
	}
	if err != nil {
		l.log.Debug("relay connection ended", "relay", rc.id, "was up", was, "err", err)
	}
	if rc.err = err; err != nil && !was {
		if !rc.failing {
			rc.failing, rc.failed, rc.told = true, now, false
			l.wake()
		}
		rc.out.drop()
	}
	l.relays.chooseLocked(l, now)
	l.allDueLocked(now)
	return was
}

// session dials, says hello, opens the pairs and carries frames until something ends.
func (rc *relayConn) session(ctx context.Context) error {
	dial, cancel := context.WithTimeout(ctx, dialIn)
	defer cancel()
	c, err := rc.dialNow(dial)
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
	err = rc.readFrames(r, passage.BulkOf(c))
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

// dialNow dials, and gives an attempt up when the network changes meanwhile: its packets
// may have gone where nobody is, and TCP would wait long before it tries again.
func (rc *relayConn) dialNow(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-rc.again:
			cancel()
			select {
			case rc.again <- struct{}{}: // for run, which then does not pause
			default:
			}
		case <-ctx.Done():
		}
	})
	c, err := rc.dial(ctx)
	cancel()
	watch.Wait()
	return c, err
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
	cfg.DynamicRecordSizingDisabled = true // many packets a record from the start
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(addr)
	}
	c, err := passage.DialTLS(ctx, rc.l.dialTCP(), addr, cfg, &rc.way)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	return c, nil
}

// nowUp publishes the connection and presents the tickets of the peers met there.
func (rc *relayConn) nowUp() {
	l := rc.l
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	rc.lag.Store(int64(l.relays.rtt[rc.id]))
	rc.up, rc.met, rc.late, rc.drained, rc.err = true, true, false, time.Time{}, nil
	if rc.failing || rc.told {
		rc.failing, rc.third, rc.told, l.tell = false, false, false, true
	}
	l.log.Debug("relay connected", "relay", rc.id)
	l.relays.chooseLocked(l, now)
	for _, p := range l.peers {
		p.setUnknown(rc.id)
		if p.path.Active(now) && l.relayForLocked(p, now, true) == rc {
			rc.openLocked(p)
		}
	}
	l.allDueLocked(now)
}

// openLocked presents the ticket of p unless that was done.
func (rc *relayConn) openLocked(p *peer) {
	if old, ok := rc.opened[p.id]; !rc.up || len(p.ticket) == 0 || ok && string(old.ticket) == string(p.ticket) {
		return
	}
	b, err := frame.AppendOpen(nil, p.ticket)
	if err != nil {
		rc.l.log.Warn("ticket does not fit a frame", "peer", p.id)
		rc.opened[p.id] = opening{ticket: p.ticket}
		return
	}
	rc.opened[p.id] = opening{p.ticket, rc.say(b)}
}

// say queues frames about the connection, and returns how often the queue was taken before.
func (rc *relayConn) say(b []byte) (after uint64) {
	rc.ctlMu.Lock()
	rc.ctl = append(rc.ctl, b...)
	after = rc.taken
	rc.ctlMu.Unlock()
	select {
	case rc.urgent <- struct{}{}:
	default:
	}
	return after
}

// unread reports whether what was queued then still waits to be taken.
func (rc *relayConn) unread(after uint64) bool {
	rc.ctlMu.Lock()
	defer rc.ctlMu.Unlock()
	return rc.taken == after
}

func (l *Link) sinceBase() int64 { return int64(time.Since(l.base)) }
