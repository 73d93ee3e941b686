package filter

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/tun"
	"golang.zx2c4.com/wireguard/tun/netstack"

	"enclave/wire"
)

// host is a real stack behind a real table. These tests run on the wall clock,
// since netstack's TCP does not live in a bubble.
type host struct {
	id    wire.SystemID
	addrs []netip.Addr
	table *Table
	dev   tun.Device
	net   *netstack.Net
	inbox chan []byte // packets for the stack, which blocks while it answers
	peer  *host
}

// wire2 joins two hosts. Whatever passes while cut is set is counted as leaked.
type wire2 struct {
	a, b   *host
	cut    atomic.Bool
	leaked atomic.Int64
	drop   atomic.Bool // loses everything between the hosts

	carriers, deliverers sync.WaitGroup
}

func join(t *testing.T, grants ...wire.Grant) *wire2 {
	w := &wire2{}
	w.a = newHost(t, us, us4, us6)
	w.b = newHost(t, them, them4, them6)
	w.a.peer, w.b.peer = w.b, w.a
	for _, h := range []*host{w.a, w.b} {
		h.allow(grants...)
		w.carriers.Go(func() { w.carry(h) })
		w.deliverers.Go(h.deliver)
	}
	t.Cleanup(func() {
		w.a.dev.Close()
		w.b.dev.Close()
		w.carriers.Wait()
		close(w.a.inbox)
		close(w.b.inbox)
		w.deliverers.Wait()
	})
	return w
}

func newHost(t *testing.T, id wire.SystemID, addrs ...netip.Addr) *host {
	t.Helper()
	dev, n, err := netstack.CreateNetTUN(addrs, nil, 1280)
	if err != nil {
		t.Fatal(err)
	}
	return &host{
		id: id, addrs: addrs, dev: dev, net: n,
		table: New(Config{Self: id, Addrs: addrs}), inbox: make(chan []byte, 1<<14),
	}
}

func (h *host) allow(grants ...wire.Grant) []Cut {
	return h.table.Update([]Peer{{ID: h.peer.id, Addrs: h.peer.addrs, Grants: grants}}, "test", time.Now())
}

// carry takes what the stack of h sends through both tables.
func (w *wire2) carry(h *host) {
	bufs, sizes := [][]byte{make([]byte, 2048)}, []int{0}
	for {
		if _, err := h.dev.Read(bufs, sizes, 0); err != nil {
			return
		}
		pkt, was := append([]byte(nil), bufs[0][:sizes[0]]...), w.cut.Load()
		if v := h.table.Out(pkt, time.Now()); v != Accept {
			if answer := h.table.RejectOut(pkt, v, time.Now()); answer != nil {
				h.put(answer)
			}
			continue
		}
		if w.drop.Load() {
			continue
		}
		if v := h.peer.table.In(pkt, time.Now()); v != Accept {
			if answer := h.peer.table.RejectIn(pkt, v, time.Now()); answer != nil {
				w.remote(h.peer, answer)
			}
			continue
		}
		if was {
			w.leaked.Add(1)
		}
		h.peer.put(pkt)
	}
}

// remote sends a packet that the filter of h wrote to the other host.
func (w *wire2) remote(h *host, pkt []byte) {
	if h.peer.table.In(pkt, time.Now()) == Accept {
		h.peer.put(pkt)
	}
}

func (h *host) put(pkt []byte) {
	select {
	case h.inbox <- pkt:
	default: // a full queue loses packets, as everywhere
	}
}

func (h *host) deliver() {
	for pkt := range h.inbox {
		h.dev.Write([][]byte{pkt}, 0)
	}
}

// revoke takes all grants from the given hosts and hands out the farewells.
func (w *wire2) revoke(t *testing.T, hosts ...*host) {
	t.Helper()
	var all [][]Cut
	for _, h := range hosts {
		all = append(all, h.allow())
	}
	w.cut.Store(len(hosts) == 2)
	for i, h := range hosts {
		if len(all[i]) != 1 {
			t.Fatalf("%d cuts at %s, want 1", len(all[i]), h.id)
		}
		for _, pkt := range all[i][0].Local {
			h.put(pkt)
		}
		for _, pkt := range all[i][0].Remote {
			w.remote(h, pkt)
		}
	}
}

func both(proto wire.Proto) []wire.Grant { return []wire.Grant{fromUs(proto), toUs(proto)} }

func dialTCP(t *testing.T, w *wire2, to netip.Addr) (client, server net.Conn) {
	t.Helper()
	l, err := w.b.net.ListenTCPAddrPort(netip.AddrPortFrom(to, 80))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if client, err = w.a.net.DialContextTCPAddrPort(ctx, netip.AddrPortFrom(to, 80)); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// patience is how long a busy machine may take for what happens at once, or never.
const patience = time.Minute

// endsAtOnce reads until an error, which must be a reset: without one nothing would come.
func endsAtOnce(t *testing.T, name string, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	_, err := io.Copy(io.Discard, c)
	var timeout net.Error
	if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("%s: %v, want a reset at once", name, err)
	}
}

func TestCutResetsBothEndsOfTCP(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the wall clock")
	}
	for name, c := range map[string]struct {
		to   netip.Addr
		who  func(w *wire2) []*host
		bulk bool // the transfer is in full swing, towards a reader that does not read
	}{
		"both, v4":       {them4, func(w *wire2) []*host { return []*host{w.a, w.b} }, false},
		"both, v6":       {them6, func(w *wire2) []*host { return []*host{w.a, w.b} }, false},
		"both, bulk":     {them4, func(w *wire2) []*host { return []*host{w.a, w.b} }, true},
		"opener only":    {them4, func(w *wire2) []*host { return []*host{w.a} }, false},
		"receiver only":  {them6, func(w *wire2) []*host { return []*host{w.b} }, false},
		"opener, bulk":   {them6, func(w *wire2) []*host { return []*host{w.a} }, true},
		"receiver, bulk": {them4, func(w *wire2) []*host { return []*host{w.b} }, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := join(t, both(wire.TCP)...)
			client, server := dialTCP(t, w, c.to)
			echoes(t, client, server)
			written := make(chan struct{})
			if c.bulk {
				go func() {
					for buf := make([]byte, 64<<10); ; {
						if _, err := client.Write(buf); err != nil {
							close(written)
							return
						}
					}
				}()
				if _, err := io.ReadFull(server, make([]byte, 1<<20)); err != nil {
					t.Fatal(err)
				}
			}
			w.revoke(t, c.who(w)...)
			endsAtOnce(t, "server", server)
			if c.bulk { // the error goes to the writer, and only once
				select {
				case <-written:
				case <-time.After(patience):
					t.Error("the client still writes")
				}
			} else {
				endsAtOnce(t, "client", client)
			}
			if _, err := client.Write([]byte("more")); err == nil {
				t.Error("a cut connection still takes data")
			}
			if n := w.leaked.Load(); n != 0 {
				t.Errorf("%d packets passed after the cut", n)
			}
		})
	}
}

func echoes(t *testing.T, client, server net.Conn) {
	t.Helper()
	for _, c := range [][2]net.Conn{{client, server}, {server, client}} {
		if _, err := c[0].Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c[1], make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCutEndsADialInProgress(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the wall clock")
	}
	var err error
	var took time.Duration
	for range 5 { // one of them is not held up by the machine
		w := join(t, both(wire.TCP)...)
		w.drop.Store(true)
		done := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			_, err := w.a.net.DialContextTCPAddrPort(ctx, netip.AddrPortFrom(them4, 80))
			done <- err
		}()
		waitFor(t, func() bool { return len(w.a.table.Flows()) == 1 })
		begin := time.Now()
		w.revoke(t, w.a)
		err = <-done
		if took = time.Since(begin); err == nil {
			break
		}
		if took < 800*time.Millisecond { // what it sends again after a second would be refused, too
			return
		}
	}
	t.Errorf("dial: %v after %v, want a refusal at once", err, took)
}

func waitFor(t *testing.T, what func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !what(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("it did not happen")
		}
	}
}

func TestCutTellsAConnectedUDPSocket(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the wall clock")
	}
	for _, to := range []netip.Addr{them4, them6} {
		w := join(t, both(wire.UDP)...)
		server, err := w.b.net.ListenUDPAddrPort(netip.AddrPortFrom(to, 53))
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		client, err := w.a.net.DialUDPAddrPort(netip.AddrPort{}, netip.AddrPortFrom(to, 53))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		client.Write([]byte("?"))
		if _, _, err := server.ReadFrom(make([]byte, 9)); err != nil {
			t.Fatal(err)
		}
		w.revoke(t, w.a)
		waitFor(t, func() bool { // a read that already waits is not woken: it learns from the next call
			client.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, err := client.Read(make([]byte, 9))
			return err != nil && strings.Contains(err.Error(), "refused")
		})
	}
}

func TestRefusedDialFailsAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the wall clock")
	}
	w := join(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := w.a.net.DialContextTCPAddrPort(ctx, netip.AddrPortFrom(them6, 80)); err == nil || ctx.Err() != nil {
		t.Errorf("dial: %v, want a refusal", err)
	}
}

// TestForgottenFlowIsReset is a system that was started again: its table knows
// nothing, the other end still has a connection and sends into it.
func TestForgottenFlowIsReset(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the wall clock")
	}
	w := join(t, both(wire.TCP)...)
	client, server := dialTCP(t, w, them4)
	echoes(t, client, server)
	w.b.table.mu.Lock()
	w.b.table.remove(w.b.table.list[0])
	w.b.table.mu.Unlock()
	client.Write([]byte("are you there?"))
	endsAtOnce(t, "client", client)
}
