package relay

import (
	"context"
	"time"

	"enclave/wire/frame"
)

// write sends what the queue holds until the connection ends, and watches over it:
// silence, and the end of the certificate.
func (c *client) write(ctx context.Context) {
	tick := time.NewTicker(c.srv.limits.PingEvery)
	defer tick.Stop()
	end := time.NewTimer(time.Until(c.certEnd))
	defer end.Stop()
	for unheard := 0; ; {
		select {
		case <-c.queue.wake:
		case <-tick.C:
			if unheard = c.tick(unheard); unheard > maxUnheard {
				c.cut(endIdle, "nothing heard from you")
			}
		case <-end.C:
			c.cut(endCertificate, "your certificate has ended; connect with a new one")
		case <-ctx.Done():
			// The server stops, or cut was called: then this is its second call.
			c.cut(endShutdown, "relay shuts down")
			c.hangUp(c.flush())
			return
		}
		if err := c.flush(); err != nil {
			c.cut(endSlow, "")
			c.hangUp(err)
			return
		}
	}
}

// tick returns for how many ticks nothing was heard, and pings while it is silent.
// The wall clock is asked about the certificate too, since the timer runs on the
// monotonic one, which may stand still while the machine sleeps.
func (c *client) tick(unheard int) int {
	if !time.Now().Before(c.certEnd) {
		c.cut(endCertificate, "your certificate has ended; connect with a new one")
		return 0
	}
	if c.heard.Swap(false) {
		return 0
	}
	var b [16]byte
	c.control(frame.AppendPing(b[:0], [8]byte{}))
	return unheard + 1
}

// flush writes everything that waits. A batch is one buffer of many frames.
func (c *client) flush() error {
	for {
		w := c.queue.take()
		if w == nil {
			return nil
		}
		err := c.send(w.b)
		c.queue.free(w)
		if err != nil {
			return err
		}
	}
}

func (c *client) send(b []byte) error {
	for len(b) > 0 {
		chunk := b[:min(len(b), writeChunk)]
		b = b[len(chunk):]
		c.deadline()
		c.bulk.Hold() // the records of a chunk are one system call
		if _, err := c.conn.Write(chunk); err != nil {
			return err
		}
		if err := c.bulk.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// deadline renews the time for one chunk, but never past the end that cut has set.
func (c *client) deadline() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending == 0 {
		c.conn.SetWriteDeadline(time.Now().Add(c.srv.limits.WriteTimeout))
	}
}

// hangUp closes the connection; a healthy one with TLS's close notice, so that the
// agent can tell an end from an attacker's cut.
func (c *client) hangUp(err error) {
	raw := c.conn.NetConn()
	if err != nil {
		raw.Close()
		return
	}
	// Close waits up to five seconds for room for its notice.
	t := time.AfterFunc(lingerFor, func() { raw.Close() })
	defer t.Stop()
	c.conn.Close()
}
