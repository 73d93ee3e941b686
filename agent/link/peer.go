package link

import (
	"context"
	"encoding/hex"
	"net/netip"
	"sync/atomic"
	"time"

	"enclave/agent/path"
	"enclave/wire"
	"enclave/wire/disco"
	"enclave/wire/frame"
)

// peer is a system that may be reached, and to WireGuard an endpoint. The pointer is
// the identity: a peer that is removed and set again is another one, so whoever
// holds the old one reaches nobody.
type peer struct {
	link  *Link
	id    wire.SystemID
	fid   frame.ID
	wg    wire.WireGuardKey
	disco wire.DiscoKey
	pair  func() *disco.Pair // computed when first needed: a big map would wait for it

	// route is nil when there is no way, and for ever once the peer is gone.
	route atomic.Pointer[route]
	// quiet asks the data path to tell of the next packet: path slept meanwhile.
	quiet atomic.Bool
	// absent says that some relay calls the peer away: what comes from the peer may correct it.
	absent atomic.Bool

	tx, rx   counter
	shake    handshake
	sessions sessions

	// Guarded by Link.mu.
	reach    wire.Reach
	ticket   []byte
	leaf     []byte      // of its SVID
	stream   *streamConn // straight to it by TCP; nil: none
	calling  bool        // one is sought
	path     *path.Peer
	gone     bool
	due      time.Time // of the next step
	index    int       // in Link.timers
	seen     seen
	observed netip.AddrPort            // our address, as this peer sees it
	where    map[wire.RelayID]presence // what relays have said
	waiting  map[disco.TxID]*question  // of Ping
	stepped  bool                      // had its first step
	changed  bool                      // is in Link.moved
	arrived  bool                      // at the relay that it is sent to, just now: what was sent before is lost
	sides    []*side                   // of a spray; nil: none is under way
	won      *won                      // the one of them that is the way; nil: none
}

// route is what the data path needs to know. It is never changed, only replaced.
type route struct {
	direct netip.AddrPort // invalid: not by UDP
	stream *streamConn    // for what does not go by UDP; nil: none
	relay  *relayConn     // for the rest; nil: none
	size   int            // of the largest message that goes directly; 0: of any size
	side   *side          // the socket for direct; nil: the main one
}

// counter counts one direction of a peer's data.
type counter struct {
	bytes, packets atomic.Uint64
	last           atomic.Int64 // nanoseconds since Link.base; 0: never
}

func (c *counter) countAll(l *Link, bufs [][]byte) {
	n := 0
	for _, b := range bufs {
		n += len(b)
	}
	c.add(l, len(bufs), n)
}

// add does once for a batch what costs as much for one packet.
func (c *counter) add(l *Link, packets, bytes int) {
	if packets == 0 {
		return
	}
	c.bytes.Add(uint64(bytes))
	c.packets.Add(uint64(packets))
	c.last.Store(int64(time.Since(l.base)))
}

// seen holds the last transaction IDs of a peer. A replay older than it costs a
// pong to somewhere, which is shorter than the replayed ping.
type seen struct {
	ring [128]disco.TxID
	n    int
}

func (s *seen) before(tx disco.TxID) bool {
	for _, t := range s.ring[:min(s.n, len(s.ring))] {
		if t == tx {
			return true
		}
	}
	s.ring[s.n%len(s.ring)] = tx
	s.n++
	return false
}

// lastData is when data last went either way; false: never.
func (p *peer) lastData() (time.Time, bool) {
	ns := max(p.tx.last.Load(), p.rx.last.Load())
	return p.link.base.Add(time.Duration(ns)), ns != 0
}

// The rest is conn.Endpoint. WireGuard asks for addresses to bind cookies and rate
// limits to; here both belong to the peer, whatever its address is.

func (p *peer) ClearSrc()           {}
func (p *peer) SrcToString() string { return "" }
func (p *peer) SrcIP() netip.Addr   { return netip.Addr{} }

// WireGuard is the key of the peer.
func (p *peer) WireGuard() wire.WireGuardKey { return p.wg }

func (p *peer) DstToString() string { return hex.EncodeToString(p.wg[:]) }
func (p *peer) DstToBytes() []byte  { return p.wg[:] }

// DstIP is an address that no two peers share: fd, and 15 bytes of the key.
func (p *peer) DstIP() netip.Addr {
	ip := [16]byte{0xfd}
	copy(ip[1:], p.wg[:])
	return netip.AddrFrom16(ip)
}

// question is a Ping that waits for its pong.
type question struct {
	at     time.Time
	route  Route
	answer chan Result // capacity 1: one pong answers it
}

// Ping measures the round trip to a peer by its current route, and asks again every
// second until ctx ends.
func (l *Link) Ping(ctx context.Context, id wire.SystemID) (Result, error) {
	answer := make(chan Result, 1)
	var asked []disco.TxID
	var p *peer
	defer func() {
		l.mu.Lock()
		for _, tx := range asked {
			delete(p.waiting, tx)
		}
		l.mu.Unlock()
	}()
	for {
		l.mu.Lock()
		q := &question{at: time.Now(), answer: answer}
		known := l.peers[id]
		if known == nil {
			l.mu.Unlock()
			return Result{}, ErrUnknownPeer
		}
		p = known
		tx := disco.NewTxID()
		l.touchLocked(p, q.at)
		r := p.route.Load()
		if r != nil {
			q.route = r.words()
			p.waiting[tx] = q
			asked = append(asked, tx)
		}
		todo := l.takeLocked()
		l.mu.Unlock()
		l.do(todo)
		wait := 100 * time.Millisecond // a way may open any moment
		if r != nil {
			l.sendDisco(p, disco.Ping{Tx: tx, WireGuard: l.cfg.WireGuard}, r)
			wait = time.Second
		}
		select {
		case a := <-answer:
			return a, nil
		case <-time.After(wait):
		case <-ctx.Done():
			return Result{}, ctx.Err()
		}
	}
}

// cameBy reports whether an answer came the way that was asked.
func (q *question) cameBy(by *route) bool {
	w := by.words()
	return w.Direct == q.route.Direct && w.Stream == q.route.Stream && (by.relay != nil) == !q.route.IsDirect()
}

func (r *route) words() (w Route) {
	if w.Direct = r.direct; !r.direct.IsValid() {
		w.Stream = r.stream.words()
	}
	if r.relay != nil {
		w.Relay = r.relay.id
	}
	return w
}
