package link

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/tuntest"

	"enclave/wire"
	"enclave/wire/disco"
)

// asker is one side of a pair of real devices: what its link would let through to it is
// asked, and then it gets everything.
type asker struct {
	t    *testing.T
	l    *Link
	p    *peer
	priv [32]byte
	pub  wire.WireGuardKey
	ip   netip.Addr
	dev  *device.Device
	tun  *tuntest.ChannelTUN
	in   chan []byte
	out  func([]byte)
	over chan struct{}
}

func (a *asker) Open(uint16) ([]conn.ReceiveFunc, uint16, error) {
	over := make(chan struct{})
	a.over = over
	return []conn.ReceiveFunc{func(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		select {
		case b := <-a.in:
			sizes[0], eps[0] = copy(bufs[0], b), a.p
			return 1, nil
		case <-over:
			return 0, net.ErrClosed
		}
	}}, 1, nil
}

func (a *asker) Close() error {
	if a.over != nil {
		close(a.over)
		a.over = nil
	}
	return nil
}
func (a *asker) SetMark(uint32) error                        { return nil }
func (a *asker) BatchSize() int                              { return 1 }
func (a *asker) ParseEndpoint(string) (conn.Endpoint, error) { return a.p, nil }
func (a *asker) Send(bufs [][]byte, _ conn.Endpoint) error {
	for _, b := range bufs {
		if b[0] == initiation || b[0] == response {
			a.p.sessions.sent(b)
		}
		a.out(append([]byte{}, b...))
	}
	return nil
}

// start makes the device anew, as a restart does.
func (a *asker) start(other *asker) {
	if a.dev != nil {
		a.dev.Close()
	}
	a.tun = tuntest.NewChannelTUN()
	a.dev = device.NewDevice(a.tun.TUN(), a, device.NewLogger(device.LogLevelSilent, ""))
	err := a.dev.IpcSet(fmt.Sprintf("private_key=%s\npublic_key=%s\nendpoint=x\nallowed_ip=%s/32\n",
		hex.EncodeToString(a.priv[:]), hex.EncodeToString(other.pub[:]), other.ip))
	kept.Store(a.dev.LookupPeer(device.NoisePublicKey(other.pub)), true)
	if err == nil {
		err = a.dev.Up()
	}
	if err != nil {
		a.t.Fatal(err)
	}
	over := a.over
	go func(tun *tuntest.ChannelTUN) {
		for {
			select {
			case <-tun.Inbound:
			case <-over:
				return
			}
		}
	}(a.tun)
}

func (a *asker) received() (n int) {
	s, err := a.dev.IpcGet()
	if err != nil {
		a.t.Fatal(err)
	}
	_, s, _ = strings.Cut(s, "rx_bytes=")
	fmt.Sscan(s, &n)
	return n
}

// take lets the device have b and fails when it has use for what the link would drop.
func (a *asker) take(b []byte) (passed bool) {
	a.t.Helper()
	passed = a.l.plausible(a.p, b)
	before := a.received()
	a.in <- b
	synctest.Wait()
	if got := a.received() - before; got > 0 && !passed {
		a.t.Errorf("type %d of %d bytes was dropped, and WireGuard took %d bytes of it; bucket %v", b[0], len(b), got, time.Duration(a.p.sessions.inits.Load()-a.l.sinceBase()))
	}
	return passed
}

// TestNothingRealIsDropped has two devices talk for hours over a path that loses, doubles,
// holds back and turns around, with restarts of either: whatever WireGuard takes, the link
// lets through. And what names no session does not get there.
func TestNothingRealIsDropped(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 9))
			type flying struct {
				to *asker
				b  []byte
			}
			var air []flying
			mk := func(last byte) *asker {
				k := disco.NewPrivateKey()
				pub := wire.WireGuardKey(k.Public())
				a := &asker{t: t, priv: k, pub: pub, ip: netip.AddrFrom4([4]byte{100, 64, 0, last}), in: make(chan []byte)}
				a.l = &Link{base: time.Now(), macs: newMACs(pub)}
				a.p = &peer{link: a.l}
				return a
			}
			a, b := mk(1), mk(2)
			var mu sync.Mutex // guards air
			a.out = func(m []byte) { mu.Lock(); air = append(air, flying{b, m}); mu.Unlock() }
			b.out = func(m []byte) { mu.Lock(); air = append(air, flying{a, m}); mu.Unlock() }
			a.start(b)
			b.start(a)
			defer func() { a.dev.Close(); b.dev.Close() }()
			pick := func() (f flying, ok bool) {
				mu.Lock()
				defer mu.Unlock()
				if len(air) == 0 {
					return f, false
				}
				j := rng.IntN(len(air)) // turned around
				f = air[j]
				if rng.IntN(8) > 0 { // or doubled
					air = append(air[:j], air[j+1:]...)
				}
				return f, true
			}
			trim := func(above, to int) {
				mu.Lock()
				defer mu.Unlock()
				if len(air) > above {
					air = air[len(air)-to:]
				}
			}
			forged, came := 0, 0
			for range 1500 {
				x, y := a, b
				if rng.IntN(2) == 0 {
					x, y = b, a
				}
				switch n := rng.IntN(100); {
				case n < 55:
					x.tun.Outbound <- tuntest.Ping(y.ip, x.ip)
				case n < 56:
					x.start(y)
				case n < 60:
					if x.p.sessions.known.Load() == nil {
						break
					}
					m := append([]byte{byte(1 + rng.IntN(4)), 0, 0, 0}, make([]byte, 144)...)
					binary.BigEndian.PutUint64(m[4:], rng.Uint64())
					m = m[:map[byte]int{1: initiationLen, 2: responseLen, 3: 64, 4: 96}[m[0]]]
					forged++
					if x.take(m) {
						t.Errorf("a forged message of type %d gets to the device", m[0])
					}
				}
				synctest.Wait()
				for rng.IntN(4) > 0 {
					f, ok := pick()
					if !ok {
						break
					}
					if rng.IntN(6) > 0 && f.to.take(f.b) { // or lost
						came++
					}
				}
				trim(50, 25)
				switch rng.IntN(40) {
				case 0:
					time.Sleep(time.Duration(rng.IntN(200)) * time.Second)
					synctest.Wait()
					trim(8, 8) // nothing is on its way for minutes
				case 1, 2, 3, 4, 5, 6:
					time.Sleep(time.Duration(rng.IntN(6000)) * time.Millisecond)
				default:
					time.Sleep(time.Duration(rng.IntN(50)) * time.Millisecond)
				}
				synctest.Wait()
			}
			if forged == 0 || came < 100 {
				t.Errorf("%d forged, %d came: nothing is shown", forged, came)
			}
		})
	}
}

// TestInitiationsHaveARate: a peer's own come through, a flood of good ones does not.
func TestInitiationsHaveARate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Link{base: time.Now(), macs: newMACs(wire.WireGuardKey{1})}
		p := &peer{link: l}
		b := initiationOf("x")
		if l.plausible(p, b) {
			t.Error("without the MAC it comes through")
		}
		stamp(b, wire.WireGuardKey{1})
		for range 100 { // five a second is far more than any peer sends
			if time.Sleep(200 * time.Millisecond); !l.plausible(p, b) {
				t.Fatal("an honest one was dropped")
			}
		}
		n := 0
		for range 10_000 {
			if l.plausible(p, b) {
				n++
			}
		}
		if n < initBurst || n > initBurst+1 {
			t.Errorf("%d at once", n)
		}
		if got := testing.AllocsPerRun(100, func() { l.plausible(p, b) }); got != 0 {
			t.Errorf("%v allocations", got)
		}
	})
}
