package tools

import "io"

// counted tells how much of an answer has come: at 64 KiB, at each doubling, and at the
// end. A service that answers in single bytes is not to fill a session's events.
type counted struct {
	from io.Reader
	told func(Phase, int64)
	n    int64
	next int64 // when to tell again
	done bool
}

const firstTold = 64 << 10

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.from.Read(b)
	c.n += int64(n)
	switch {
	case err == io.EOF:
		if !c.done {
			c.done = true
			c.told(Receiving, c.n)
		}
	case c.n >= max(c.next, firstTold):
		c.next = 2 * c.n
		c.told(Receiving, c.n)
	}
	return n, err
}
