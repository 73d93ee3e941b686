package link

import (
	"net/netip"
	"sync"

	"enclave/wire"
	"enclave/wire/disco"
	"enclave/wire/frame"
)

// table answers the questions that each received packet asks. It has its own lock
// because those must never wait for a decision about some other peer.
type table struct {
	mu    sync.RWMutex
	addr  map[netip.AddrPort]owner
	disco map[wire.DiscoKey]*peer
	wg    map[wire.WireGuardKey]*peer
	id    map[frame.ID]*peer
}

// owner is the peer at an address. An address is claimed by a ping from it and
// confirmed by the answer to ours; only a confirmation takes it from another peer,
// for a ping's source can be forged.
type owner struct {
	*peer
	confirmed bool
}

func (t *table) init() {
	t.addr = make(map[netip.AddrPort]owner)
	t.disco = make(map[wire.DiscoKey]*peer)
	t.wg = make(map[wire.WireGuardKey]*peer)
	t.id = make(map[frame.ID]*peer)
}

func (t *table) add(p *peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.disco[p.disco], t.wg[p.wg], t.id[p.fid] = p, p, p
}

func (t *table) remove(p *peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	// Two peers with one key would be a broken map; neither takes the other along.
	if t.disco[p.disco] == p {
		delete(t.disco, p.disco)
	}
	if t.wg[p.wg] == p {
		delete(t.wg, p.wg)
	}
	delete(t.id, p.fid)
	for a, o := range t.addr {
		if o.peer == p {
			delete(t.addr, a)
		}
	}
}

func (t *table) claim(a netip.AddrPort, p *peer, confirmed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o, ok := t.addr[a]; !ok || confirmed && (o.peer != p || !o.confirmed) {
		t.addr[a] = owner{p, confirmed}
	}
}

func (t *table) release(a netip.AddrPort, p *peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.addr[a].peer == p {
		delete(t.addr, a)
	}
}

func (t *table) byAddr(a netip.AddrPort) *peer {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.addr[a].peer
}

func (t *table) byID(id frame.ID) *peer {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.id[id]
}

func (t *table) byWireGuard(k wire.WireGuardKey) *peer {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.wg[k]
}

// sender returns the peer that a disco packet claims to be from.
func (t *table) sender(b []byte) *peer {
	k, ok := disco.Sender(b)
	if !ok {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.disco[k]
}
