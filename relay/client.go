package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"enclave/passage"
	"enclave/wire/frame"
	"enclave/wire/ticket"
)

// client is one authenticated connection. Two goroutines serve it: the reader, which
// is ServeConn's, and the writer.
type client struct {
	srv     *Server
	id      frame.ID
	conn    *tls.Conn
	bulk    *passage.Bulk // below conn; nil when a listener that others share has none
	certEnd time.Time     // of the certificate it came with; the connection ends then
	queue   queue
	sending *rate.Limiter // bytes; the reader waits for it, so the client's own TCP slows down
	notices *rate.Limiter // refusals and departures; beyond it they are left out
	heard   atomic.Bool   // something was read since the last tick
	slot    uint8         // its share of others' queues
	room    chan struct{} // a queue that it waits for was taken; capacity 1
	batch   batch         // the reader's

	pairs map[frame.ID]time.Time // peer to end of the ticket; guarded by roster.mu

	// mu guards what follows and the order of setting write deadlines.
	mu     sync.Mutex
	ending event     // why it was cut, 0 while it lives
	linger time.Time // until then the rest of the queue may be written
	stop   context.CancelFunc
}

const (
	// writeChunk is what one write deadline is for, so that a full queue on a thin
	// line shows progress: at the default timeout, 6 kB a second keep a client.
	writeChunk = 64 << 10

	// lingerFor is how long a client that is cut gets to read the rest and the reason.
	lingerFor = time.Second

	// openPrice is what an Open costs of the sender's rate: checking a signature
	// takes about as long as forwarding this many bytes.
	openPrice = 64 << 10

	// framePrice is the least any frame costs: small ones are as much work as large.
	framePrice = 128

	minBurst = openPrice // and the largest frame, which is a little smaller

	maxUnheard = 3
)

// cut ends the connection, once. It never blocks: it is called with the roster's and
// other clients' work waiting.
func (c *client) cut(why event, note string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending != 0 {
		return
	}
	c.ending, c.linger = why, time.Now().Add(lingerFor)
	if note != "" {
		c.queue.control(frame.AppendNote(nil, note))
	}
	c.queue.close()
	c.conn.SetReadDeadline(time.Unix(1, 0)) // from here on it may be told things, not say any
	c.conn.SetWriteDeadline(c.linger)
	c.stop()
}

// run serves the connection until it ends and returns why it did.
func (c *client) run(ctx context.Context, r *frame.Reader) event {
	var writer sync.WaitGroup
	writer.Go(func() { c.write(ctx) })
	why, err := c.read(ctx, r)
	note := ""
	if why == endProtocol {
		note = err.Error()
	}
	c.cut(why, note)
	writer.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// read handles frames until the connection ends. What one read of the kernel brought is
// one batch; without a Bulk, what one record did.
func (c *client) read(ctx context.Context, r *frame.Reader) (event, error) {
	defer c.settle()
	if c.bulk != nil {
		c.bulk.BeforeRead = c.settle
	}
	for {
		if c.bulk == nil && !r.Ready() {
			c.settle()
		}
		t, body, err := r.Next()
		switch {
		case err == nil:
		case err == io.EOF:
			return endLeft, err
		case errors.Is(err, frame.ErrType), errors.Is(err, frame.ErrLength):
			return endProtocol, err
		default:
			return endLost, err
		}
		if c.batch.now.IsZero() {
			c.batch.now = time.Now()
			c.heard.Store(true)
		}
		now := c.batch.now
		price := max(frame.HeaderLen+len(body), framePrice)
		if t == frame.Open {
			price = openPrice
		}
		if !c.sending.AllowN(now, price) {
			c.srv.count(throttled, 1)
			c.settle()
			if err := c.sending.WaitN(ctx, price); err != nil {
				return endLost, err
			}
			now = time.Now()
		}
		if err := c.handle(ctx, t, body, now); err != nil {
			return endProtocol, err
		}
	}
}

// errUnasked is a type that only a relay sends.
var errUnasked = errors.New("relay frame: not for an agent to send")

func (c *client) handle(ctx context.Context, t frame.Type, body []byte, now time.Time) error {
	switch t {
	case frame.Send:
		to, payload, err := frame.ParsePacket(body)
		if err != nil {
			return err
		}
		c.forward(ctx, to, payload, now)
	case frame.Open:
		c.open(body, now)
	case frame.Ping:
		data, err := frame.ParsePing(body)
		if err != nil {
			return err
		}
		var b [16]byte
		c.control(frame.AppendPong(b[:0], data))
	case frame.Pong: // being heard was all that mattered
	default:
		return errUnasked
	}
	return nil
}

// open takes a ticket. It counts only when this client is one of the two it names.
func (c *client) open(raw []byte, now time.Time) {
	tk, err := ticket.Verify(c.srv.cfg.TicketKey, raw, c.srv.org(), now)
	if err != nil {
		ev, code := ticketBad, frame.BadTicket
		if errors.Is(err, ticket.ErrExpired) {
			ev, code = ticketExpired, frame.Expired
		}
		c.srv.count(ev, 1)
		c.refuse(frame.NoPeer, code)
		return
	}
	other, _ := tk.Other(c.id.System()) // "" when the ticket is for two others
	peer, ok := frame.IDOf(other)
	if !ok {
		c.srv.count(ticketNotYours, 1)
		c.refuse(frame.NoPeer, frame.NotYours)
		return
	}
	here, ok := c.srv.roster.open(c, peer, tk.NotAfter, c.srv.limits.Pairs, now)
	if !ok {
		c.srv.count(ticketTooMany, 1)
		c.refuse(peer, frame.TooMany)
		return
	}
	c.srv.count(ticketAccepted, 1)
	c.opened(peer, here)
}

// opened, refuse and peerGone build on the stack: queue.control copies.

func (c *client) opened(peer frame.ID, here bool) {
	var b [16]byte
	c.control(frame.AppendOpened(b[:0], peer, here))
}

func (c *client) refuse(peer frame.ID, code frame.Code) {
	if c.notices.Allow() {
		var b [16]byte
		c.control(frame.AppendRefused(b[:0], peer, code))
	}
}

func (c *client) peerGone(peer frame.ID) {
	if c.notices.Allow() {
		var b [16]byte
		c.control(frame.AppendPeerGone(b[:0], peer))
	}
}

func (c *client) control(b []byte) {
	if !c.queue.control(b) {
		c.srv.count(dropControl, 1)
	}
}
