package tunnel

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// supply keeps the send buffer of a connection to a near system as large as growth says.
// The stack lets it grow with the congestion window, which nothing bounds on a way that
// loses nothing: each of sixteen streams had 4 MB waiting, for the 200 KB that it had
// under way.
type supply struct {
	growth *growth
	known  bool // near was asked for
	near   bool
	put    int // bytes since it was looked at last
	busy   bool
	set    bool // the size is ours, not the stack's
}

// begin is told that the first bytes are about to be sent. The caller holds t.writing.
func (s *supply) begin(ep tcpip.Endpoint) {
	s.known, s.near = true, isNear(ep)
}

// carried is told of n more bytes that the stack took. The caller holds t.writing.
func (s *supply) carried(t *tcpIO, n int) {
	if !s.near {
		return
	}
	s.put += n
	if s.busy && s.put < busyStep || !s.busy && s.put < busyAfter {
		return
	}
	s.busy, s.put = true, 0
	s.resize(t.ep, s.growth.store(t, time.Now()))
}

// resize leaves the buffer to the stack until it is to be smaller than the largest. One that
// holds more than it is to takes nothing until it holds less.
func (s *supply) resize(ep tcpip.Endpoint, size int) {
	opts := ep.SocketOptions()
	now := int(opts.GetSendBufferSize())
	if !s.set && size == maxWindow || size > now-now/8 && size < now+now/8 {
		return
	}
	s.set = true
	opts.SetSendBufferSize(int64(size), true) // with notice, which ends the stack's own growth
}
