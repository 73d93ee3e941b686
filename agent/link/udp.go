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

	"golang.zx2c4.com/wireguard/conn"
)

// udp is the socket and whoever reads it: the device's receive function while the
// bind is open, the link's pump otherwise. Reading where the packet is needed saves
// a copy and a hand-over for each; between the two, the token read is passed on. It
// is a channel and no mutex because a reader holds it while it waits for a packet,
// and whoever waits for the token must be able to leave.
type udp struct {
	sock atomic.Pointer[socket]
	bind atomic.Pointer[binding]

	read    chan struct{} // capacity 1; full: there is a reader
	held    held          // what the reader before left; belongs to who has the token
	changed chan struct{} // tells pump that bind has changed; capacity 1

	// mu guards opening, replacing and closing the socket, and its deadline.
	mu    sync.Mutex
	asked int  // how many want the reader to let go
	kept  bool // Run owns the socket; before, an Open of the bind does
	done  bool
}

// socket makes the interface a pointer, so that it can be swapped atomically.
type socket struct {
	PacketConn
	port  uint16
	batch *batcher // nil: one packet at a time
}

func newSocket(c PacketConn) *socket { return &socket{c, portOf(c), newBatcher(c)} }

// portOf is the port of a socket. It is parsed, since the type of the address is the
// network's own.
func portOf(c PacketConn) uint16 {
	_, s, _ := net.SplitHostPort(c.LocalAddr().String())
	port, _ := strconv.ParseUint(s, 10, 16)
	return uint16(port)
}

// binding is one Open of the bind.
type binding struct{ closed chan struct{} }

func (u *udp) init() { u.read, u.changed = make(chan struct{}, 1), make(chan struct{}, 1) }

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
	u.deadlineLocked()
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

// interrupt makes the reader return from its wait and let go of the token. What it is
// to see then must be stored before. The token is handed on in order, so no reader
// takes it again before whoever asked has had it.
func (u *udp) interrupt() {
	u.ask(1)
	u.read <- struct{}{}
	u.ask(-1)
	<-u.read
}

func (u *udp) ask(n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked += n
	u.deadlineLocked()
}

// deadlineLocked ends the reader's wait while somebody asks for the token.
func (u *udp) deadlineLocked() {
	s := u.sock.Load()
	if s == nil {
		return
	}
	var at time.Time
	if u.asked > 0 {
		at = time.Unix(1, 0)
	}
	_ = s.SetReadDeadline(at) // fails on a closed socket, which nobody waits for
}

func (u *udp) port() uint16 {
	if s := u.sock.Load(); s != nil {
		return s.port
	}
	return 0
}

// socketOf is the socket by which a direct route leaves; nil: there is none.
func (l *Link) socketOf(r *route) *socket {
	if r.side != nil {
		return r.side.sock
	}
	return l.udp.sock.Load()
}

// write sends bufs straight to where r leads, in order, and returns how many were; the
// error is about the next one and was counted.
func (l *Link) write(bufs [][]byte, r *route) (n int, err error) {
	s, to := l.socketOf(r), r.direct
	if s == nil {
		l.drops.noRoute.Add(1)
		return 0, net.ErrClosed
	}
	if s.batch != nil && len(bufs) > 1 {
		n, err = s.batch.send(bufs, to)
	} else { // one alone goes faster as it is
		for n < len(bufs) && err == nil {
			if _, err = s.WriteToUDPAddrPort(bufs[n], to); err == nil {
				n++
			}
		}
	}
	if err != nil {
		l.drops.writeFailed.Add(1)
	}
	return n, err
}

// writeOne sends a packet that is no part of a batch.
func (l *Link) writeOne(b []byte, r *route) error {
	s := l.socketOf(r)
	if s == nil {
		l.drops.noRoute.Add(1)
		return net.ErrClosed
	}
	_, err := s.WriteToUDPAddrPort(b, r.direct)
	if err != nil {
		l.drops.writeFailed.Add(1)
	}
	return err
}

// readUDP waits for datagrams, sorts them and returns how many are WireGuard messages
// for the device: those are in bufs. It may be none. The caller has the token.
func (l *Link) readUDP(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	s := l.udp.sock.Load()
	if s == nil {
		return 0, net.ErrClosed
	}
	var n int
	var err error
	if s.batch != nil {
		n, err = l.readBatch(s.batch, bufs, sizes, eps)
	} else {
		var size int
		var from netip.AddrPort
		if size, from, err = s.ReadFromUDPAddrPort(bufs[0]); err == nil {
			if p := l.sort(bufs[0][:size], netip.AddrPortFrom(from.Addr().Unmap(), from.Port())); p != nil {
				sizes[0], eps[0], n = size, p, 1
			}
		}
	}
	if err == nil {
		return n, nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || l.udp.sock.Load() != s {
		return n, nil
	}
	if l.udp.isShut() {
		return n, net.ErrClosed
	}
	// Closed by somebody else is broken, not closed: no %w, or the device would stop.
	return n, fmt.Errorf("read UDP: %v", err)
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
	bufs, sizes, eps := [][]byte{make([]byte, 1<<16)}, make([]int, 1), make([]conn.Endpoint, 1)
	for ctx.Err() == nil {
		if l.udp.bind.Load() != nil {
			select {
			case <-ctx.Done():
			case <-l.udp.changed:
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case l.udp.read <- struct{}{}:
		}
		if l.udp.bind.Load() != nil { // Open stored it and then had the token, so this is certain
			<-l.udp.read
			continue
		}
		_, err := l.readUDP(bufs, sizes, eps)
		<-l.udp.read
		if err != nil && !errors.Is(err, net.ErrClosed) {
			l.mend(ctx.Done(), err)
		}
	}
}
