package tunnel

import (
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestRemovedPeerIsForgotten(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		client, server := connect(t, a, b, 80)
		before := b.PeerStats()[a.key].Rx
		if err := b.SetPeers(nil); err != nil {
			t.Fatal(err)
		}
		if s := b.PeerStats(); len(s) != 0 {
			t.Fatalf("peers left: %v", s)
		}
		// A still has its keys and encrypts; B must not decrypt, with a handshake or not.
		io.WriteString(client, "late")
		server.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := server.Read(make([]byte, 8)); n != 0 || err == nil {
			t.Fatalf("read %d bytes from a forgotten peer, %v", n, err)
		}
		// Introduced anew it must shake hands again: the counters begin at zero.
		if err := b.SetPeers([]Peer{a.peer()}); err != nil {
			t.Fatal(err)
		}
		if s := b.PeerStats()[a.key]; !s.LastHandshake.IsZero() || s.Rx >= before {
			t.Fatalf("the old session is back: %+v", s)
		}
	})
}

func TestSetPeersKeepsSessions(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		w := wiring{stacks: on}
		a := newNode(t, &w, "100.64.0.1", "fd7a::1")
		b := newNode(t, &w, "100.64.0.2", "fd7a::2")
		c := newNode(t, &w, "100.64.0.3", "fd7a::3")
		b.SetPeers([]Peer{a.peer()})
		c.SetPeers([]Peer{a.peer()})
		if err := a.SetPeers([]Peer{b.peer()}); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Ping(patience(t), b.v4); err != nil {
			t.Fatal(err)
		}
		session := a.PeerStats()[b.key].LastHandshake
		if err := a.SetPeers([]Peer{c.peer(), b.peer()}); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Ping(patience(t), c.v4); err != nil {
			t.Fatal(err)
		}
		// The two swap an address; traffic must follow its new owner.
		pb, pc := b.peer(), c.peer()
		pb.Addrs[0], pc.Addrs[0] = pc.Addrs[0], pb.Addrs[0]
		pb.KeepAlive = 1500 * time.Millisecond
		if err := a.SetPeers([]Peer{pb, pc}); err != nil {
			t.Fatal(err)
		}
		text, _ := a.dev.IpcGet()
		if _, section, _ := strings.Cut(text, "endpoint="+string(w.binds[hexKey(b.key)].self)); !strings.Contains(strings.Split(section, "public_key")[0], "allowed_ip="+c.v4.String()+"/32") {
			t.Fatalf("the address did not move:\n%s", text)
		}
		if !strings.Contains(text, "persistent_keepalive_interval=2\n") {
			t.Fatalf("keep-alive is not rounded up:\n%s", text)
		}
		// An address that goes to nobody is gone.
		pb.Addrs = pb.Addrs[1:]
		if err := a.SetPeers([]Peer{pb, pc}); err != nil {
			t.Fatal(err)
		}
		if text, _ = a.dev.IpcGet(); strings.Contains(text, c.v4.String()) {
			t.Fatalf("the address is still there:\n%s", text)
		}
		if got := a.PeerStats()[b.key].LastHandshake; got != session {
			t.Fatalf("the session did not survive: %s, %s", got, session)
		}
	})
}

func TestSetPeersRefusesContradictions(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		key := b.key
		key[0]++
		err := a.SetPeers([]Peer{
			b.peer(), b.peer(),
			{Key: key, Addrs: []netip.Addr{b.v4}},
			{Key: a.key, KeepAlive: -time.Second},
			{Addrs: []netip.Addr{{}}},
		})
		for _, want := range []string{"peers[1]: key", "given twice", "peers[2]: 100.64.0.2 belongs to", "peers[3]", "our own", "keep-alive", "peers[4]: no key", "no overlay address"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("the error lacks %q: %v", want, err)
			}
		}
		if len(a.PeerStats()) != 1 {
			t.Fatal("a refused list took effect")
		}
	})
}

// wireguard-go has no counter for it: we know by the log line alone.
// TestALiarMovesNobody: a network that names a third party as the sender of valid
// packets does not make the answers go there.
func TestALiarMovesNobody(t *testing.T) {
	w := wiring{stacks: stacks{Enclave}}
	a, b := newNode(t, &w, "100.64.0.1", "fd7a::1"), newNode(t, &w, "100.64.0.2", "fd7a::2")
	for n, other := range map[*node]*node{a: b, b: a} {
		if err := n.SetPeers([]Peer{other.peer()}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Ping(patience(t), b.v4); err != nil {
		t.Fatal(err)
	}
	nobody := memEndpoint(strings.Repeat("ab", 32))
	w.liar.Store(&nobody)
	for range 3 {
		if _, err := a.Ping(patience(t), b.v4); err != nil {
			t.Fatalf("the answers went elsewhere: %v", err)
		}
	}
}

func TestSpoofedSourceIsCounted(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		if _, err := a.Ping(patience(t), b.v4); err != nil {
			t.Fatal(err)
		}
		if n := b.Spoofed(); n != 0 {
			t.Fatalf("%d spoofed before any", n)
		}
		a.Inject(nil, [][]byte{udp4("100.64.0.9", "100.64.0.2"), udp6("fd7a::9", "fd7a::2")})
		eventually(t, "both packets are counted", func() bool { return b.Spoofed() == 2 })
	})
}
