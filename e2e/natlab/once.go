package natlab

import "sync/atomic"

// closeOnce tells the first Close from the others.
type closeOnce struct{ state atomic.Bool }

func (c *closeOnce) first() bool { return c.state.CompareAndSwap(false, true) }
func (c *closeOnce) done() bool  { return c.state.Load() }
