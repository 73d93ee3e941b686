package tunnel

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"enclave/agent/filter"
	"enclave/wire"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// pathSizes is what is known of peers whose direct path carries less than the MTU. TCP
// towards them is cut to that where segments are split anyway (splitter): no connection
// has to know, an open one fits from the next packet on, and IPv6, whose packets nobody may
// ask to be smaller than 1,280 bytes (RFC 8200 section 5), fits as well. Decision 0173.
type pathSizes struct {
	mu    sync.Mutex // guards what follows, and is held for maps alone
	addrs map[wire.WireGuardKey][]netip.Addr
	sizes map[wire.WireGuardKey]int

	// limits is for the data path: sizes by inner address; nil when no peer is narrow.
	limits *atomic.Pointer[map[netip.Addr]int]
}

// cutter is a stack whose TCP can be cut to sizes by destination.
type cutter interface {
	limits() *atomic.Pointer[map[netip.Addr]int]
}

// SetSize tells the largest inner packet that goes straight to a peer, in bytes; 0: all of
// them. TCP is cut to it. Other packets are as large as they are: the bind knows another
// way for them. It may be called before the peer is set, and is forgotten with it.
func (t *Tunnel) SetSize(key wire.WireGuardKey, size int) {
	n := &t.paths
	if n.limits == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	size &^= 15 // WireGuard fills up to that
	if n.sizes[key] == size {
		return
	}
	if size <= 0 {
		delete(n.sizes, key)
	} else {
		n.sizes[key] = size
	}
	n.publish()
}

// set takes the peers that there are now.
func (n *pathSizes) set(peers map[wire.WireGuardKey]Peer) {
	if n.limits == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.addrs)
	for key, p := range peers {
		n.addrs[key] = p.Addrs
	}
	for key := range n.sizes {
		if _, ok := peers[key]; !ok {
			delete(n.sizes, key)
		}
	}
	n.publish()
}

func (n *pathSizes) publish() {
	if len(n.sizes) == 0 {
		n.limits.Store(nil)
		return
	}
	limits := make(map[netip.Addr]int)
	for key, size := range n.sizes {
		for _, a := range n.addrs[key] {
			limits[a] = size
		}
	}
	n.limits.Store(&limits)
}

// limit is the size that a packet of the stack, of which head is the network header, is to
// be cut to; 0: it may be of any. own are a gateway's addresses: what it sends for others is
// wrapped on its way.
func limit(limits map[netip.Addr]int, head []byte, own []netip.Addr) int {
	var src, dst netip.Addr
	switch len(head) {
	case header.IPv4MinimumSize:
		src, dst = netip.AddrFrom4([4]byte(head[12:16])), netip.AddrFrom4([4]byte(head[16:20]))
	case header.IPv6MinimumSize:
		src, dst = netip.AddrFrom16([16]byte(head[8:24])), netip.AddrFrom16([16]byte(head[24:40]))
	}
	size := limits[dst]
	if size > 0 && own != nil && !slices.Contains(own, src) {
		size -= filter.WrapLen
	}
	return size
}
