package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// udp is the socket and whoever reads it: the device's receive function while the
// bind is open, the link's pump otherwise. Reading where the packet is needed saves
// a copy and a hand-over for each; between the two, the lock read is passed on.
type udp struct {
	sock atomic.Pointer[socket]
	bind atomic.Pointer[binding]

	read    sync.Mutex    // held by the reader, also while it waits for a packet; see acquire
	asked   atomic.Int32  // how many want the reader to let go for a moment
	changed chan struct{} // tells pump that bind has changed; capacity 1

	mu   sync.Mutex // guards opening, replacing and closing the socket
	kept bool       // Run owns the socket; before, an Open of the bind does
	done bool
}

// socket makes the interface a pointer, so that it can be swapped atomically.
type socket struct {
	PacketConn
	port uint16
}

func newSocket(c PacketConn) *socket {
	// Parsed, since the type of the address is the network's own.
	_, s, _ := net.SplitHostPort(c.LocalAddr().String())
	port, _ := strconv.ParseUint(s, 10, 16)
	return &socket{c, uint16(port)}
}

// binding is one Open of the bind.
type binding struct{ closed chan struct{} }

func (u *udp) init() { u.changed = make(chan struct{}, 1) }

// open opens the socket if there is none. With keep it stays until shut.
func (u *udp) open(l *Link, port uint16, keep bool) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.kept = u.kept || keep
	if u.done {
		return net.ErrClosed
	}
	if u.sock.Load() != nil {
		return nil
	}
	c, err := l.cfg.Network.ListenUDP(port)
	if err != nil {
		return err
	}
	u.sock.Store(newSocket(c))
	return nil
}

// replace puts a new socket in the place of a broken one, on its port if possible:
// that keeps the candidates that peers know, and most NAT mappings.
func (u *udp) replace(l *Link, broken *socket) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.done || u.sock.Load() != broken {
		return nil
	}
	port := broken.port
	broken.Close()
	c, err := l.cfg.Network.ListenUDP(port)
	if err != nil && port != l.cfg.Port {
		c, err = l.cfg.Network.ListenUDP(l.cfg.Port)
	}
	if err != nil {
		return err
	}
	u.sock.Store(newSocket(c))
	return nil
}

// release closes a socket that only the bind needed.
func (u *udp) release() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.sock.Load()
	if u.kept || s == nil {
		return nil
	}
	u.sock.Store(nil)
	return s.Close()
}

// shut closes the socket for good.
func (u *udp) shut() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if s := u.sock.Load(); s != nil && !u.done {
		s.Close()
	}
	u.done = true
}

func (u *udp) isShut() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.done
}

// interrupt makes the reader return from its wait and let go of the lock. What it is
// to see then must be stored before.
func (u *udp) interrupt() {
	u.asked.Add(1)
	defer u.asked.Add(-1)
	for !u.read.TryLock() {
		// Told again each time: the socket may just have been replaced.
		if s := u.sock.Load(); s != nil {
			_ = s.SetReadDeadline(time.Unix(1, 0))
		}
		time.Sleep(interruptPause)
	}
	defer u.read.Unlock()
	if s := u.sock.Load(); s != nil {
		_ = s.SetReadDeadline(time.Time{})
	}
}

// acquire makes the caller the reader, unless and until stop says that it is none. It
// does not queue for the lock: whoever holds it may hold it until a packet comes. stop
// is asked once more under the lock, and interrupt has the lock after what it tells
// was stored; so nobody reads who should not.
func (u *udp) acquire(stop func() bool) bool {
	for !stop() {
		if u.asked.Load() == 0 && u.read.TryLock() {
			if !stop() {
				return true
			}
			u.read.Unlock()
			return false
		}
		time.Sleep(interruptPause)
	}
	return false
}

const interruptPause = 200 * time.Microsecond

func (u *udp) port() uint16 {
	if s := u.sock.Load(); s != nil {
		return s.port
	}
	return 0
}

// write sends b; an error was counted.
func (l *Link) write(b []byte, to netip.AddrPort) error {
	s := l.udp.sock.Load()
	if s == nil {
		l.drops.noRoute.Add(1)
		return net.ErrClosed
	}
	_, err := s.WriteToUDPAddrPort(b, to)
	if err != nil {
		l.drops.writeFailed.Add(1)
	}
	return err
}

// readUDP waits for one datagram and sorts it. It returns the peer when the
// datagram is a WireGuard message for the device. The caller holds udp.read.
func (l *Link) readUDP(b []byte) (int, *peer, error) {
	s := l.udp.sock.Load()
	if s == nil {
		return 0, nil, net.ErrClosed
	}
	n, from, err := s.ReadFromUDPAddrPort(b)
	if err == nil {
		return n, l.sort(b[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port())), nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || l.udp.sock.Load() != s {
		return 0, nil, nil
	}
	if l.udp.isShut() {
		return 0, nil, net.ErrClosed
	}
	// Closed by somebody else is broken, not closed: no %w, or the device would stop.
	return 0, nil, fmt.Errorf("read UDP: %v", err)
}

// mend replaces a socket that cannot be read, after a pause that keeps a machine
// without any network from spinning.
func (l *Link) mend(stop <-chan struct{}, cause error) {
	select {
	case <-stop:
		return
	case <-time.After(mendPause):
	}
	if err := l.udp.replace(l, l.udp.sock.Load()); err != nil {
		l.log.Warn("UDP socket broken", "cause", cause, "err", err)
		return
	}
	l.log.Info("UDP socket replaced", "cause", cause, "port", l.udp.port())
	l.networkChanged()
}

const mendPause = 500 * time.Millisecond

// pump reads while no device does, so that paths are found and NATs known before
// WireGuard is up.
func (l *Link) pump(ctx context.Context) {
	buf := make([]byte, 1<<16)
	for ctx.Err() == nil {
		if l.udp.bind.Load() != nil {
			select {
			case <-ctx.Done():
			case <-l.udp.changed:
			}
			continue
		}
		if !l.udp.acquire(func() bool { return ctx.Err() != nil || l.udp.bind.Load() != nil }) {
			continue
		}
		_, _, err := l.readUDP(buf)
		l.udp.read.Unlock()
		if err != nil && !errors.Is(err, net.ErrClosed) {
			l.mend(ctx.Done(), err)
		}
	}
}
