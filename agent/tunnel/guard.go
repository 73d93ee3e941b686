package tunnel

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"enclave/agent/filter"

	"golang.zx2c4.com/wireguard/tun"
)

// maxUrgent bounds what Inject may have waiting, in packets. A cut makes one packet
// per flow; a thousand flows that end in one instant are served in full.
const maxUrgent = 1024

// link is what guard stands on: a tun.Device whose blocked Read can be called back.
type link interface {
	tun.Device
	// Wake makes a Read that blocks, or else the next one, return no packet.
	Wake()
}

// guard is the tun.Device that WireGuard sees. It adds no copy and no allocation to
// a packet that is accepted.
type guard struct {
	link
	filter Filter
	out    [batchLen]filter.Verdict // of Read, which is for one goroutine
	flight flight                   // from Read to the bind
	inward flight                   // from the bind to Write
	via    [batchLen]netip.Addr     // the same
	self   netip.Addr               // our IPv4 address, the source of what is wrapped
	rouse  func(bufs [][]byte, sizes []int, offset int)

	// beyond takes packets that are neither to us nor TCP or UDP, when this system is a
	// gateway; nil otherwise.
	beyond atomic.Pointer[func(pkt []byte)]
	addrs  []netip.Addr

	// waiting spares Read the lock while urgent is empty, which is nearly always.
	waiting atomic.Bool
	mu      sync.Mutex // guards urgent
	urgent  [][]byte   // packets that pass unfiltered, oldest first
}

func newGuard(l link, f Filter, addrs []netip.Addr) *guard {
	g := &guard{link: l, filter: f, addrs: addrs}
	if i := slices.IndexFunc(addrs, netip.Addr.Is4); i >= 0 {
		g.self = addrs[i]
	}
	g.flight.init()
	g.inward.init()
	return g
}

// Read returns the packets to encrypt: what was injected first, then what the stack
// sends and the filter accepts. The order of accepted packets is kept.
func (g *guard) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	g.flight.wait()
	n, err := g.read(bufs, sizes, offset)
	if g.rouse != nil {
		g.rouse(bufs[:n], sizes[:n], offset)
	}
	g.flight.enter(n)
	return n, err
}

func (g *guard) read(bufs [][]byte, sizes []int, offset int) (int, error) {
	for {
		if g.waiting.Load() {
			if n := g.takeUrgent(bufs, sizes, offset); n > 0 {
				return n, nil
			}
		}
		n, err := g.link.Read(bufs, sizes, offset)
		kept := 0
		if n > 0 {
			now := time.Now()
			out := g.out[:min(n, len(g.out))]
			for i := range n {
				if i%len(g.out) == 0 {
					out = g.out[:min(n-i, len(g.out))]
					g.filter.OutBatch(bufs[i:], sizes[i:], offset, now, out, g.via[:len(out)])
				}
				pkt := bufs[i][offset : offset+sizes[i]]
				if v := out[i%len(g.out)]; v != filter.Accept {
					g.rejectOut(pkt, v, now)
					continue
				}
				if kept != i {
					// Copy, never swap: WireGuard seals into the buffer that had this
					// index before. A swapped one would be sent while the next batch
					// is read into it, in the clear.
					sizes[kept] = copy(bufs[kept][offset:], pkt)
				}
				if via := g.via[i%len(g.out)]; via.IsValid() {
					if sizes[kept] = filter.Wrap(bufs[kept][offset:], sizes[kept], g.self, via); sizes[kept] == 0 {
						continue
					}
				}
				kept++
			}
		}
		if kept > 0 || err != nil {
			return kept, err
		}
	}
}

// rejectOut lets a program that may not connect know at once, instead of after
// minutes of retransmission. It runs on the goroutine that drains the stack and may
// therefore hand up only packets that the stack never answers by itself, or it would
// wait for itself; resets and ICMP errors are such (RFC 9293 section 3.10.7, RFC 1122
// section 3.2.2).
func (g *guard) rejectOut(pkt []byte, v filter.Verdict, now time.Time) {
	if answer := g.filter.RejectOut(pkt, v, now); answer != nil {
		g.inject([][]byte{answer}, nil)
	}
}

func (g *guard) rejectIn(pkt []byte, v filter.Verdict, now time.Time) {
	if answer := g.filter.RejectIn(pkt, v, now); answer != nil {
		g.inject(nil, [][]byte{answer})
	}
}

// Write hands decrypted packets to the stack, in runs of accepted ones so that the
// batch of the caller stays as it is.
func (g *guard) Write(bufs [][]byte, offset int) (int, error) {
	defer g.inward.leave(len(bufs))
	now := time.Now()
	vs := verdicts.Get().(*[batchLen]filter.Verdict)
	defer verdicts.Put(vs)
	for done := 0; done < len(bufs); done += len(vs) {
		some := bufs[done:min(len(bufs), done+len(vs))]
		if n, err := g.write(some, offset, now, vs[:len(some)]); err != nil {
			return done + n, err
		}
	}
	return len(bufs), nil
}

// verdicts are shared: every peer has a goroutine that delivers.
var verdicts = sync.Pool{New: func() any { return new([batchLen]filter.Verdict) }}

func (g *guard) write(bufs [][]byte, offset int, now time.Time, vs []filter.Verdict) (int, error) {
	g.filter.InBatch(bufs, offset, now, vs)
	start := 0
	for i, v := range vs {
		if v == filter.Accept && !g.unwrap(bufs, i, offset) {
			continue
		}
		if v != filter.Accept {
			g.rejectIn(bufs[i][offset:], v, now)
		}
		if err := g.deliver(bufs[start:i], offset); err != nil {
			return start, err
		}
		start = i + 1
	}
	return start, g.deliver(bufs[start:], offset)
}

// unwrap takes off what an accepted packet has around it, in place, and reports whether
// the packet is not for the stack.
func (g *guard) unwrap(bufs [][]byte, i, offset int) (taken bool) {
	pkt := bufs[i][offset:]
	inner, ok := filter.Unwrap(pkt)
	if !ok {
		return false
	}
	bufs[i] = bufs[i][:offset+copy(pkt, inner)]
	if take := g.beyond.Load(); take != nil && isOther(bufs[i][offset:]) && !slices.Contains(g.addrs, destination(bufs[i][offset:])) {
		(*take)(bufs[i][offset:])
		return true
	}
	return false
}

func (g *guard) deliver(bufs [][]byte, offset int) error {
	if len(bufs) == 0 {
		return nil
	}
	_, err := g.link.Write(bufs, offset)
	return err
}

func (g *guard) inject(local, remote [][]byte) {
	for _, pkt := range local {
		if len(pkt) > 0 {
			g.link.Write([][]byte{pkt}, 0)
		}
	}
	if len(remote) == 0 {
		return
	}
	g.mu.Lock()
	for _, pkt := range remote {
		if len(pkt) > 0 && len(g.urgent) < maxUrgent {
			g.urgent = append(g.urgent, slices.Clone(pkt))
		}
	}
	g.waiting.Store(len(g.urgent) > 0)
	g.mu.Unlock()
	g.Wake()
}

// takeUrgent fills the batch with what Inject left. A packet that does not fit the
// caller's buffer is larger than any MTU and is dropped.
func (g *guard) takeUrgent(bufs [][]byte, sizes []int, offset int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for n < len(bufs) && len(g.urgent) > 0 {
		pkt := g.urgent[0]
		g.urgent = g.urgent[1:]
		if len(pkt) <= len(bufs[n])-offset {
			sizes[n] = copy(bufs[n][offset:], pkt)
			n++
		}
	}
	if len(g.urgent) == 0 {
		g.urgent = nil // lets go of the array that append grew
		g.waiting.Store(false)
	}
	return n
}
