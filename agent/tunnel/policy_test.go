package tunnel

import (
	"errors"
	"io"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"enclave/agent/filter"
	"enclave/wire"
)

// ruled is a pair with real filters: a may open tcp/80 to b, and nothing else.
type ruled struct {
	a, b             *node
	tableA, tableB   *filter.Table
	grants           []wire.Grant
	peersOfA, ofPeer []filter.Peer
}

func newRuled(t *testing.T, on stacks) *ruled {
	t.Helper()
	noLeaks(t)
	w := wiring{stacks: on}
	addrsA := []netip.Addr{netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("fd7a::1")}
	addrsB := []netip.Addr{netip.MustParseAddr("100.64.0.2"), netip.MustParseAddr("fd7a::2")}
	r := &ruled{
		tableA: filter.New(filter.Config{Self: "aaaaa", Addrs: addrsA}),
		tableB: filter.New(filter.Config{Self: "bbbbb", Addrs: addrsB}),
		grants: []wire.Grant{{From: "aaaaa", To: "bbbbb", Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 80}}, Policy: "p1"}},
	}
	r.peersOfA = []filter.Peer{{ID: "bbbbb", Addrs: addrsB, Grants: r.grants}}
	r.ofPeer = []filter.Peer{{ID: "aaaaa", Addrs: addrsA, Grants: r.grants}}
	r.tableA.Update(r.peersOfA, "test", time.Now())
	r.tableB.Update(r.ofPeer, "test", time.Now())
	r.a = newFilteredNode(t, &w, "100.64.0.1", "fd7a::1", r.tableA)
	r.b = newFilteredNode(t, &w, "100.64.0.2", "fd7a::2", r.tableB)
	for n, other := range map[*node]*node{r.a: r.b, r.b: r.a} {
		if err := n.SetPeers([]Peer{other.peer()}); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// Without an answer a denied dial would hang for minutes.
func TestDeniedDialIsRefusedAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		r := newRuled(t, on)
		for _, addr := range []netip.Addr{r.b.v4, r.b.v6} {
			_, err := r.a.DialTCP(patience(t), netip.AddrPortFrom(addr, 81))
			if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("dial %s: %v", addr, err)
			}
		}
		u, err := r.a.DialUDP(r.b.at(53))
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		u.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(u, "query")
		if _, err := u.Read(make([]byte, 10)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a denied datagram: %v", err)
		}
	})
}

// Revoking a rule ends the connection at both ends, at once and as a reset.
func TestCutResetsBothEnds(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		r := newRuled(t, on)
		client, server := connect(t, r.a, r.b, 80)
		io.WriteString(client, "x")
		if _, err := server.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		r.ofPeer[0].Grants = []wire.Grant{{From: "aaaaa", To: "bbbbb", Proto: wire.TCP, Ports: wire.Ports{{Lo: 22, Hi: 22}}, Policy: "p2"}}
		cuts := r.tableB.Update(r.ofPeer, "p1 was deleted", time.Now())
		if len(cuts) != 1 {
			t.Fatalf("%d cuts", len(cuts))
		}
		r.b.Inject(cuts[0].Local, cuts[0].Remote)
		client.SetReadDeadline(time.Now().Add(time.Minute))
		server.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the receiver's end: %v", err)
		}
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the sender's end: %v", err)
		}
	})
}

// A receiver that was started again knows no flow; its peer must not wait for it.
func TestUnknownFlowIsReset(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		r := newRuled(t, on)
		client, _ := connect(t, r.a, r.b, 80)
		r.tableB.Update(nil, "test", time.Now()) // its cuts are not injected
		r.tableB.Update(r.ofPeer, "test", time.Now())
		io.WriteString(client, "late")
		client.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	})
}
