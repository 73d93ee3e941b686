package tunnel

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// window keeps the receive buffer of a connection as large as growth says.
type window struct {
	growth *growth
	known  bool // near was asked for
	near   bool
	got    int // bytes since it was looked at last
	since  int // bytes since the buffer was made smaller
}

// carried is told of n more bytes that the program has read. The caller holds t.reading.
func (w *window) carried(t *tcpIO, n int) {
	w.got += n
	if !w.known {
		if w.got < busyAfter {
			return
		}
		w.known, w.near = true, isNear(t.ep)
	} else if w.near && w.got < busyStep {
		return
	}
	if n == 0 {
		return
	}
	size, grow := w.growth.room(t, w.near, time.Now())
	if grow {
		t.ep.ModerateRecvBuf(n)
	}
	w.since += w.got
	w.got = 0
	if size > 0 {
		w.resize(t.ep, size)
	}
}

// isNear reports whether the round trip takes less than nearBy: that of the handshake, if
// nothing was sent since. The side that was called counts whole milliseconds, so that none
// is the nearest of all. None is also what it has where TCP has no timestamps, however far
// the other is; such a connection has its share of nearSum, and loses no more.
func isNear(ep tcpip.Endpoint) bool {
	var info tcpip.TCPInfoOption
	ep.GetSockOpt(&info)
	return info.RTT < nearBy
}

// resize makes the buffer larger at once, and smaller by halves: what was announced is
// half of it, and all of that has come before the next half. So nothing that is under way
// finds the buffer too small, even if the program stops reading now.
func (w *window) resize(ep tcpip.Endpoint, size int) {
	opts := ep.SocketOptions()
	now := int(opts.GetReceiveBufferSize())
	switch {
	case size > now:
	case size > now-now/8: // not worth it
		return
	case w.since < now/2:
		return
	default:
		size = max(size, now/2)
	}
	w.since = 0
	// With notice, which ends the stack's own growth and tells a sender that waits.
	opts.SetReceiveBufferSize(int64(size), true)
}
