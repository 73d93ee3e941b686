package tunnel

import (
	"net/netip"
	"sync"
)

// sockets is what is open on a stock stack, so that its end can be the end of all.
type sockets struct {
	mu      sync.Mutex // guards the fields below; never held while one of them is ended
	closed  bool
	open    map[*socket]bool
	resets  []*reset // of the connections that close has ended
	closing bool
}

// socket is a connection, a listener, a UDP socket, a ping or a dial.
type socket struct {
	end func()    // what to do when the stack ends
	udp *stockUDP // of a UDP socket
}

// add reports whether the stack is still there; if not, the caller ends x itself.
func (ss *sockets) add(x *socket) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.closed {
		return false
	}
	if ss.open == nil {
		ss.open = make(map[*socket]bool)
	}
	ss.open[x] = true
	return true
}

func (ss *sockets) remove(x *socket) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.open, x)
}

// close ends every socket and returns the resets that were begun for it.
func (ss *sockets) close() []*reset {
	ss.mu.Lock()
	ss.closed, ss.closing = true, true
	open := ss.open
	ss.open = nil
	ss.mu.Unlock()
	for x := range open {
		x.end()
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.closing = false
	return ss.resets
}

// leaving notes a reset that close waits for.
func (ss *sockets) leaving(r *reset) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.closing {
		ss.resets = append(ss.resets, r)
	}
}

// refused tells the UDP sockets that sent from there that an error waits for them.
func (ss *sockets) refused(sender netip.AddrPort) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for x := range ss.open {
		if x.udp != nil && x.udp.port == sender.Port() {
			x.udp.poke()
		}
	}
}
