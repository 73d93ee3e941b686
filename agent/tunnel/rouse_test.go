package tunnel

import (
	"io"
	"strings"
	"testing"
	"time"
)

// holds reports whether WireGuard itself has the peer.
func (n *node) holds(t *testing.T, other *node) bool {
	t.Helper()
	text, err := n.dev.IpcGet()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(text, "public_key="+hexKey(other.key))
}

func TestPeersAreRousedByWhoTalks(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPairOn(t, &wiring{stacks: on, lazy: true})
		if a.holds(t, b) || b.holds(t, a) {
			t.Fatal("WireGuard has a peer that never talked")
		}
		if len(a.PeerStats()) != 1 {
			t.Fatal("a peer that sleeps is not among the peers")
		}
		client, server := connect(t, a, b, 80) // a by its packet, b by a's handshake
		if !a.holds(t, b) || !b.holds(t, a) {
			t.Fatal("they talk, and WireGuard has them not")
		}
		before := a.PeerStats()[b.key]

		// Silence begins when the sweep first sees the counters stand still.
		now := time.Now()
		a.sweep(now)
		a.sweep(now.Add(silence))
		if !a.holds(t, b) {
			t.Fatal("dropped before its keys were too old")
		}
		for _, n := range []*node{a, b} {
			n.sweep(now)
			n.sweep(now.Add(2 * silence))
		}
		if a.holds(t, b) || b.holds(t, a) {
			t.Fatal("a silent peer is still there")
		}
		if after := a.PeerStats()[b.key]; after.LastHandshake != before.LastHandshake || after.Rx < before.Rx || after.Tx < before.Tx {
			t.Fatalf("its counters went back: %+v, were %+v", after, before)
		}
		// The connection lives on, whoever speaks first.
		if _, err := io.WriteString(server, "later"); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		client.SetReadDeadline(now.Add(time.Minute))
		if _, err := io.ReadFull(client, got); err != nil || string(got) != "later" {
			t.Fatalf("%q, %v", got, err)
		}
	})
}

func TestAForgottenPeerIsNotRoused(t *testing.T) {
	noLeaks(t)
	a, b := newPairOn(t, &wiring{stacks: stacks{Enclave}, lazy: true})
	if err := b.SetPeers(nil); err != nil {
		t.Fatal(err)
	}
	a.Greet(b.key) // its handshake comes to b, who knows nobody
	if !a.holds(t, b) {
		t.Fatal("greeting roused nobody")
	}
	old := b.peers[a.key]
	if old != nil || b.directory.Load().key[a.key] != nil {
		t.Fatal("a forgotten peer can still be found")
	}
	b.rouse(&entry{Peer: a.peer()}) // found a moment before it was forgotten
	if b.holds(t, a) {
		t.Fatal("a forgotten peer was roused")
	}
}

// Close must not wait for who waits for the device that it closes.
func TestCloseLetsGoOfTheWaiting(t *testing.T) {
	noLeaks(t)
	a, b := newPairOn(t, &wiring{stacks: stacks{Enclave}, lazy: true})
	e := a.peers[b.key]
	a.mu.Lock() // nobody is roused from here on, as when the device closes
	returned := make(chan struct{})
	go func() { a.rouse(e); close(returned) }()
	closed := make(chan struct{})
	go func() { a.Close(); close(closed) }()
	<-returned
	a.mu.Unlock()
	<-closed
}

// What a peer that is being removed still delivers may wait for the goroutine that waits to
// rouse another one.
func TestRousingWaitsNotForEver(t *testing.T) {
	noLeaks(t)
	a, b := newPairOn(t, &wiring{stacks: stacks{Enclave}, lazy: true})
	e := a.peers[b.key]
	a.mu.Lock()   // as while a peer is removed
	for range 2 { // the keeper is busy with the first wish when the second comes
		a.rouse(e)
	}
	a.mu.Unlock()
	eventually(t, "the peer is roused after all", e.awake.Load)
}
