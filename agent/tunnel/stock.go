package tunnel

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/tun"
	"golang.zx2c4.com/wireguard/tun/netstack"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// wakePort is where a packet goes that is to call back a blocked Read: the discard
// service (RFC 863) at addresses that belong to nobody (RFC 5737, RFC 6666). Read only.
const wakePort = 9

var (
	wake4 = netip.AddrFrom4([4]byte{192, 0, 2, 1})
	wake6 = netip.AddrFrom16([16]byte{0x01, 0x00, 15: 1}) // 100::1
)

const (
	// abortFor bounds how long Abort waits for its resets to leave.
	abortFor = 100 * time.Millisecond
	// quietFor is how long the stack must have sent nothing before its device is
	// closed; quietWithin bounds the wait for that.
	quietFor    = 20 * time.Millisecond
	quietWithin = time.Second
)

// stock is wireguard-go's tun/netstack as an ipStack. The stack and its endpoints are
// private there, so what a tunnel needs beyond it is done from outside, with packets:
// see resets, Wake and stockUDP, and decision 0070 for what remains different.
type stock struct {
	tun.Device // the stock one; Read, Write, Events and Close are below
	net        *netstack.Net
	addrs      []netip.Addr
	events     chan tun.Event
	resets     resets
	sockets    sockets
	gate       gate

	wake    chan struct{}  // capacity 1: a wake-up is never lost
	waker   *gonet.UDPConn // talks to wake4 or wake6
	done    chan struct{}  // ends the waking goroutine
	woken   sync.WaitGroup // that goroutine
	sent    atomic.Uint64  // packets that the stack has sent
	aborted sync.Once
	closed  sync.Once
}

func newStock(addrs []netip.Addr, mtu int) (*stock, error) {
	dev, net, err := netstack.CreateNetTUN(addrs, nil, mtu)
	if err != nil {
		return nil, err
	}
	s := &stock{
		Device: dev, net: net, addrs: slices.Clone(addrs),
		events: make(chan tun.Event),
		wake:   make(chan struct{}, 1), done: make(chan struct{}),
	}
	to := wake6
	if addrs[0].Is4() {
		to = wake4
	}
	s.waker, err = net.DialUDPAddrPort(netip.AddrPort{}, netip.AddrPortFrom(to, wakePort))
	if err != nil {
		dev.Close()
		return nil, err
	}
	s.woken.Go(s.wakeReaders)
	return s, nil
}

// Wake calls back a blocked Read.
func (s *stock) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// wakeReaders sends the packets behind Wake. A write lasts until somebody reads.
func (s *stock) wakeReaders() {
	for {
		select {
		case <-s.wake:
			s.waker.Write(nil)
		case <-s.done:
			return
		}
	}
}

func isWake(pkt []byte) bool {
	proto, _, dst, b, ok := transport(pkt)
	if !ok || proto != uint8(header.UDPProtocolNumber) || (dst != wake4 && dst != wake6) || len(b) < header.UDPMinimumSize {
		return false
	}
	_, port := ports(b)
	return port == wakePort
}

// Read reads as the stock device, a packet at a time, without what is not meant for
// the network.
func (s *stock) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	n, err := s.Device.Read(bufs, sizes, offset)
	if n == 0 || err != nil {
		return 0, err
	}
	s.sent.Add(1)
	pkt := bufs[0][offset:]
	if isWake(pkt[:sizes[0]]) {
		return 0, nil
	}
	size, up := s.resets.out(pkt, sizes[0])
	if up != nil && s.gate.enter() {
		// Nothing answers a reset, so this goroutine does not wait for itself.
		s.Device.Write([][]byte{up}, 0)
		s.gate.leave()
	}
	if size == 0 {
		return 0, nil
	}
	sizes[0] = size
	return 1, nil
}

// Write hands packets to the stack.
func (s *stock) Write(bufs [][]byte, offset int) (int, error) {
	if !s.gate.enter() {
		return 0, os.ErrClosed
	}
	defer s.gate.leave()
	for i := range bufs {
		if len(bufs[i]) <= offset || !s.resets.in(bufs[i][offset:]) {
			continue
		}
		if _, err := s.Device.Write(bufs[i:i+1], offset); err != nil {
			return i, err
		}
		if sender, ok := quotedUDP(bufs[i][offset:]); ok {
			s.sockets.refused(sender)
		}
	}
	return len(bufs), nil
}

// reset makes both ends of f give up. A connection of a system to itself crosses no
// device and cannot be reset.
func (s *stock) reset(f tcpFlow) {
	if !f.local.IsValid() || !f.remote.IsValid() || slices.Contains(s.addrs, f.remote.Addr()) {
		return
	}
	r, probes := s.resets.begin(f)
	s.sockets.leaving(r)
	if s.gate.enter() {
		s.Device.Write(probes, 0)
		s.gate.leave()
	}
}

// Abort resets every connection and closes every listener and socket.
func (s *stock) Abort() {
	s.aborted.Do(func() {
		late := time.After(abortFor)
		resets := s.sockets.close()
		for _, r := range resets {
			select {
			case <-r.told:
			case <-late:
				return
			}
		}
		if len(resets) > 0 {
			time.Sleep(quietFor) // they were read; WireGuard has yet to encrypt and send them
		}
	})
}

// Close ends the stack. The stock Close closes the channel that senders write to, and
// one that is under way panics the whole process. So first everything that makes the
// stack send is stopped: sockets, packets from the network, dials. What had begun is
// read away, until nothing has come for quietFor. TCP senders hold their endpoint's
// lock, which the stack takes before that channel is closed, so no timer of theirs is
// left over.
func (s *stock) Close() error {
	s.closed.Do(func() {
		s.Abort()
		s.gate.close()
		var drained sync.WaitGroup
		drained.Go(s.drain)
		s.gate.inside.Wait()
		close(s.done)
		s.woken.Wait()
		s.waker.Close()
		s.awaitQuiet()
		s.Device.Close()
		drained.Wait()
		s.resets.clear()
		close(s.events)
	})
	return nil
}

// drain reads beside WireGuard, which may have stopped to.
func (s *stock) drain() {
	bufs, sizes := [][]byte{make([]byte, maxMTU)}, []int{0}
	for {
		if _, err := s.Device.Read(bufs, sizes, 0); errors.Is(err, os.ErrClosed) {
			return
		}
		s.sent.Add(1)
	}
}

func (s *stock) awaitQuiet() {
	tick := time.NewTicker(quietFor)
	defer tick.Stop()
	late := time.After(quietWithin)
	for before := s.sent.Load(); ; {
		select {
		case <-late:
			return
		case <-tick.C:
		}
		now := s.sent.Load()
		if now == before {
			return
		}
		before = now
	}
}

// Events is our own channel: the stock one brings WireGuard up by itself.
func (s *stock) Events() <-chan tun.Event { return s.events }

// gate counts who is inside the stack and lets nobody in once it is closed.
type gate struct {
	mu     sync.Mutex // guards shut, and orders inside.Add before inside.Wait
	shut   bool
	inside sync.WaitGroup
}

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	g.inside.Add(1)
	return true
}

func (g *gate) leave() { g.inside.Done() }

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
}
