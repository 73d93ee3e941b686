package tunnel

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"enclave/wire"

	"golang.zx2c4.com/wireguard/device"
)

// Peer is a system that the tunnel talks to.
type Peer struct {
	Key   wire.WireGuardKey
	Addrs []netip.Addr // inner addresses that are its own; nothing else from it is accepted
	// KeepAlive sends an empty packet after that long without another, so that a NAT
	// keeps its mapping. 0 is off; WireGuard counts whole seconds, at most 65535.
	KeepAlive time.Duration
}

// Stats is what WireGuard counts of one peer.
type Stats struct {
	LastHandshake time.Time // zero before the first
	Rx, Tx        uint64    // bytes on the wire since the peer was added
}

// maxPeers is wireguard-go's own limit (device.MaxPeers).
const maxPeers = 1 << 16

// SetPeers makes peers the set that the tunnel talks to and leaves alone what is in
// it already: sessions survive. A removed peer's keys are forgotten before SetPeers
// returns, and nothing of it is decrypted any more.
//
// A list that contradicts itself is refused whole and changes nothing. When WireGuard
// refuses single peers the others are in effect and the error names the refused.
func (t *Tunnel) SetPeers(peers []Peer) error {
	want := make(map[wire.WireGuardKey]Peer, len(peers))
	for _, p := range peers {
		p.Addrs = slices.Clone(p.Addrs)
		slices.SortFunc(p.Addrs, netip.Addr.Compare)
		want[p.Key] = p
	}
	if err := t.checkPeers(peers); err != nil {
		return fmt.Errorf("set peers: %w", err)
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	failed := func(err error) bool {
		errs = append(errs, err)
		return err != nil
	}
	// What goes, goes first: an address may move from one peer to another.
	for key, e := range t.peers {
		p, stays := want[key]
		if !stays {
			if !failed(t.drop(e)) {
				delete(t.peers, key)
			}
			continue
		}
		if gone := allowed("-", without(e.Addrs, p.Addrs)); gone != "" && e.awake.Load() && failed(t.set(key, "update_only=true\n"+gone)) {
			continue
		}
		e.Addrs = without(e.Addrs, without(e.Addrs, p.Addrs))
	}
	for key, p := range want {
		e := t.peers[key]
		switch {
		case e == nil:
			e = &entry{Peer: p}
			if !t.lazy && failed(t.give(e)) {
				continue
			}
			t.peers[key] = e
			continue
		case e.awake.Load():
			lines := allowed("", without(p.Addrs, e.Addrs))
			if e.KeepAlive != p.KeepAlive {
				lines += keepAlive(p)
			}
			if lines != "" && failed(t.set(key, lines)) {
				continue
			}
		}
		e.Peer = p
	}
	t.paths.set(want)
	t.publish()
	return errors.Join(errs...)
}

// entry is a peer and what is known of it beyond WireGuard. All but awake is guarded by
// Tunnel.mu.
type entry struct {
	Peer
	awake atomic.Bool // WireGuard has it
	seen  Stats       // when last looked at, while awake
	since time.Time   // that its counters have stood still
	spent Stats       // of the times that it was awake before
}

// set configures one peer of the device. The caller holds mu.
func (t *Tunnel) set(key wire.WireGuardKey, lines string) error {
	if err := t.dev.IpcSet("public_key=" + hex.EncodeToString(key[:]) + "\n" + lines); err != nil {
		return fmt.Errorf("set peer %s: %w", key, err)
	}
	return nil
}

// give makes WireGuard have the peer, and drop makes it forget it.
func (t *Tunnel) give(e *entry) error {
	// The bind finds the way by key, so the key is the endpoint.
	err := t.set(e.Key, "endpoint="+hex.EncodeToString(e.Key[:])+"\n"+allowed("", e.Addrs)+keepAlive(e.Peer))
	if err != nil {
		_ = t.set(e.Key, "remove=true\n") // never leave half a peer
		return err
	}
	e.awake.Store(true)
	return nil
}

func (t *Tunnel) drop(e *entry) error {
	if !e.awake.Load() {
		return nil
	}
	if err := t.set(e.Key, "remove=true\n"); err != nil {
		return err
	}
	e.awake.Store(false)
	return nil
}

func keepAlive(p Peer) string {
	return "persistent_keepalive_interval=" + strconv.Itoa(seconds(p.KeepAlive)) + "\n"
}

func (t *Tunnel) checkPeers(peers []Peer) error {
	var errs []error
	if len(peers) > maxPeers {
		errs = append(errs, fmt.Errorf("%d peers, the limit is %d", len(peers), maxPeers))
	}
	owner := make(map[netip.Addr]wire.WireGuardKey)
	seen := make(map[wire.WireGuardKey]bool, len(peers))
	for i, p := range peers {
		if p.Key.IsZero() {
			errs = append(errs, fmt.Errorf("peers[%d]: no key", i))
		}
		if p.Key == t.key {
			// WireGuard would pass over it without a word.
			errs = append(errs, fmt.Errorf("peers[%d]: key %s is our own", i, p.Key))
		}
		if seen[p.Key] {
			errs = append(errs, fmt.Errorf("peers[%d]: key %s is given twice", i, p.Key))
		}
		seen[p.Key] = true
		if p.KeepAlive < 0 || seconds(p.KeepAlive) > 0xffff {
			errs = append(errs, fmt.Errorf("peers[%d]: keep-alive %s is outside 0 to 65535 s", i, p.KeepAlive))
		}
		for _, a := range p.Addrs {
			if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
				errs = append(errs, fmt.Errorf("peers[%d]: %s is no overlay address", i, a))
			} else if other, taken := owner[a]; taken {
				errs = append(errs, fmt.Errorf("peers[%d]: %s belongs to %s too", i, a, other))
			}
			owner[a] = p.Key
		}
	}
	return errors.Join(errs...)
}

// seconds rounds up: a NAT forgives an early keep-alive, not a late one.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// without returns the addresses of a that are not in b.
func without(a, b []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, x := range a {
		if !slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	return out
}

func allowed(sign string, addrs []netip.Addr) string {
	var b strings.Builder
	for _, a := range addrs {
		fmt.Fprintf(&b, "allowed_ip=%s%s/%d\n", sign, a, a.BitLen())
	}
	return b.String()
}

// PeerStats returns the counters of every peer.
func (t *Tunnel) PeerStats() map[wire.WireGuardKey]Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.deviceStats()
	stats := make(map[wire.WireGuardKey]Stats, len(t.peers))
	for key, e := range t.peers {
		stats[key] = e.spent.plus(now[key])
	}
	return stats
}

// plus adds what came later.
func (s Stats) plus(later Stats) Stats {
	s.Rx, s.Tx = s.Rx+later.Rx, s.Tx+later.Tx
	if !later.LastHandshake.IsZero() {
		s.LastHandshake = later.LastHandshake
	}
	return s
}

func (t *Tunnel) deviceStats() map[wire.WireGuardKey]Stats {
	text, err := t.dev.IpcGet()
	if err != nil {
		return nil // writing into memory does not fail
	}
	return parseStats(text)
}

// parseStats reads the answer of the configuration protocol
// (https://www.wireguard.com/xplatform/): lines of key=value, a peer's after its
// public_key. Lines that it does not know, and numbers that are none, are passed over.
func parseStats(text string) map[wire.WireGuardKey]Stats {
	stats := make(map[wire.WireGuardKey]Stats)
	var key wire.WireGuardKey
	var sec, nsec int64
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "=")
		if name == "public_key" {
			raw, err := hex.DecodeString(value)
			if err != nil || len(raw) != len(key) {
				key = wire.WireGuardKey{}
				continue
			}
			key, sec, nsec = wire.WireGuardKey(raw), 0, 0
			stats[key] = Stats{}
			continue
		}
		s, known := stats[key]
		n, err := strconv.ParseInt(value, 10, 64)
		if !known || err != nil {
			continue
		}
		switch name {
		case "last_handshake_time_sec":
			sec = n
		case "last_handshake_time_nsec":
			nsec = n
		case "rx_bytes":
			s.Rx = uint64(n)
		case "tx_bytes":
			s.Tx = uint64(n)
		}
		if sec != 0 || nsec != 0 {
			s.LastHandshake = time.Unix(sec, nsec)
		}
		stats[key] = s
	}
	return stats
}

// Greet begins a handshake with a peer although there is nothing to send yet.
// WireGuard itself sends no more than one in 5 s.
func (t *Tunnel) Greet(key wire.WireGuardKey) {
	t.rouseKey(key)
	if p := t.dev.LookupPeer(device.NoisePublicKey(key)); p != nil {
		_ = p.SendHandshakeInitiation(false) // a path that fails now may work at the next call
	}
}
