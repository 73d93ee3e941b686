package tunnel

import (
	"net/netip"
	"time"

	"enclave/wire"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
)

// A peer costs WireGuard two goroutines and two queues of 1,024 places, also when nobody
// has talked to it for weeks. A lazy tunnel gives WireGuard only the peers that talk: one
// is roused by the first packet to it or by a handshake that it begins, and dropped when
// it has been silent for longer than any key of its sessions lives.

// Keyed is an endpoint that knows whose it is.
type Keyed interface {
	conn.Endpoint
	WireGuard() wire.WireGuardKey
}

const (
	// silence is after how long without a packet a peer is dropped. Its newest key is at
	// least as old, and WireGuard neither sends nor takes with one of more than 180 s
	// (RejectAfterTime), so no session is lost.
	silence = device.RejectAfterTime + 20*time.Second
	// rouseWithin is how long a packet waits for its peer to be roused, which takes well below
	// a millisecond. After that it is lost, and its sender repeats it.
	rouseWithin = 100 * time.Millisecond
	// sweepEvery is how often silence is looked for.
	sweepEvery = time.Minute
)

// directory is what the data path looks peers up in. It is never changed, only replaced.
type directory struct {
	addr map[netip.Addr]*entry
	key  map[wire.WireGuardKey]*entry
}

// publish makes the peers known to the data path. The caller holds mu.
func (t *Tunnel) publish() {
	if !t.lazy {
		return
	}
	d := &directory{make(map[netip.Addr]*entry, 2*len(t.peers)), make(map[wire.WireGuardKey]*entry, len(t.peers))}
	for key, e := range t.peers {
		d.key[key] = e
		for _, a := range e.Addrs {
			d.addr[a] = e
		}
	}
	t.directory.Store(d)
}

// wish asks the keeper to rouse a peer; done is closed when it has tried.
type wish struct {
	*entry
	done chan struct{}
}

// rouse returns when WireGuard has the peer or cannot have it, or after rouseWithin. It may
// block a goroutine of WireGuard, for which the device waits when it closes, holding the
// lock that giving it a peer takes. So another goroutine gives, and Close lets go of who
// waits here. That bound ends a circle: who removes a peer holds mu until what that peer
// sent has been delivered, and delivering waits for room in the queue that is read here.
func (t *Tunnel) rouse(e *entry) {
	if e == nil || e.awake.Load() {
		return
	}
	enough := time.NewTimer(rouseWithin)
	defer enough.Stop()
	w := wish{e, make(chan struct{})}
	select {
	case t.wishes <- w:
	case <-enough.C:
		return
	case <-t.closing:
		return
	}
	select {
	case <-w.done:
	case <-enough.C:
	case <-t.closing:
	}
}

func (t *Tunnel) rouseKey(key wire.WireGuardKey) {
	if d := t.directory.Load(); d != nil {
		t.rouse(d.key[key])
	}
}

// rouseFor rouses the receivers of packets that are about to be encrypted.
func (t *Tunnel) rouseFor(bufs [][]byte, sizes []int, offset int) {
	d := t.directory.Load()
	if d == nil {
		return
	}
	var last netip.Addr // a batch is mostly of one flow
	for i, size := range sizes {
		to := destination(bufs[i][offset : offset+size])
		if to != last {
			t.rouse(d.addr[to])
			last = to
		}
	}
}

// rouseFrom rouses the senders of handshakes. Whoever forges one has to send it from an
// address that answered for the peer, or be a relay, and gains that a peer is awake.
func (t *Tunnel) rouseFrom(bufs [][]byte, sizes []int, eps []conn.Endpoint) {
	for i, size := range sizes {
		if size != device.MessageInitiationSize || bufs[i][0] != device.MessageInitiationType {
			continue
		}
		if ep, ok := eps[i].(Keyed); ok {
			t.rouseKey(ep.WireGuard())
		}
	}
}

// keep rouses and drops peers until the tunnel closes.
func (t *Tunnel) keep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case w := <-t.wishes:
			t.grant(w)
		case <-tick.C:
			t.sweep(time.Now())
		case <-t.closing:
			return
		}
	}
}

func (t *Tunnel) grant(w wish) {
	defer close(w.done)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.peers[w.Key] != w.entry || w.awake.Load() {
		return // forgotten meanwhile, or roused by another
	}
	if err := t.give(w.entry); err != nil {
		t.log.Warn("a peer could not be given to WireGuard", "err", err)
	}
	w.seen, w.since = Stats{}, time.Now()
}

// sweep drops the peers whose counters have stood still for longer than silence.
func (t *Tunnel) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	stats := t.deviceStats()
	for key, e := range t.peers {
		switch s := stats[key]; {
		case !e.awake.Load():
		case s != e.seen:
			e.seen, e.since = s, now
		case now.Sub(e.since) > silence:
			// A packet that was looked up a moment ago may be lost: it is the first in
			// minutes, and its sender repeats it.
			if err := t.drop(e); err != nil {
				t.log.Warn("a silent peer could not be taken from WireGuard", "err", err)
				continue
			}
			e.spent = e.spent.plus(s)
		}
	}
}
