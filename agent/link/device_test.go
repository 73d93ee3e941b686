package link

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/tuntest"
)

// kept keeps peers from being collected: WireGuard drains a peer's queues in a
// finalizer, which runs outside of the bubble that the queues belong to, and dies.
var kept sync.Map

// TestWireGuardNeverNotices puts real devices on the links and takes the session from
// the relay to the direct path and back: one handshake serves all.
func TestWireGuardNeverNotices(t *testing.T) {
	run(t, "easy", "easy", 1, func(w *world) {
		tuns := map[*node]*tuntest.ChannelTUN{}
		devs := map[*node]*device.Device{}
		addr := map[*node]netip.Addr{w.alice: netip.MustParseAddr("100.64.0.1"), w.bob: netip.MustParseAddr("100.64.0.2")}
		for _, n := range []*node{w.alice, w.bob} {
			n.Close()
			n.fns.Wait()
			tuns[n] = tuntest.NewChannelTUN()
			devs[n] = device.NewDevice(tuns[n].TUN(), n.Link, device.NewLogger(device.LogLevelSilent, ""))
			devs[n].DisableSomeRoamingForBrokenMobileSemantics()
			key, peer := n.priv, n.other().keys.WireGuard
			err := devs[n].IpcSet(fmt.Sprintf("private_key=%s\npublic_key=%s\nendpoint=%[2]s\nallowed_ip=%s/32\n",
				hex.EncodeToString(key[:]), hex.EncodeToString(peer[:]), addr[n.other()]))
			kept.Store(devs[n].LookupPeer(device.NoisePublicKey(peer)), true)
			if err == nil {
				err = devs[n].Up()
			}
			if err != nil {
				t.Fatal(err)
			}
			defer devs[n].Close()
		}
		sent := 0
		ping := func() bool {
			sent++
			tuns[w.alice].Outbound <- tuntest.Ping(addr[w.bob], addr[w.alice])
			select {
			case <-tuns[w.bob].Inbound:
				return true
			case <-time.After(time.Second):
				return false
			}
		}
		handshakes := func() string {
			s, _ := devs[w.alice].IpcGet()
			var at string
			for line := range strings.SplitSeq(s, "\n") {
				if strings.HasPrefix(line, "last_handshake_time") {
					at += line
				}
			}
			return at
		}
		w.until(10*time.Second, "a ping", ping)
		first := handshakes()
		w.until(10*time.Second, "direct", w.direct)
		for range 20 {
			if !ping() {
				t.Error("lost on the direct path")
			}
		}
		w.lab.mu.Lock()
		w.lab.drop = func(_, _ netip.AddrPort) bool { return true }
		w.lab.mu.Unlock()
		lost := 0
		for range 30 {
			if !ping() {
				lost++
			}
		}
		if lost > 5 || w.direct() {
			t.Errorf("%d seconds without a way", lost)
		}
		if now := handshakes(); now != first {
			t.Errorf("another handshake: %q, first %q", now, first)
		}
		synctest.Wait()
	})
}
