package tunnel

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// chaos is what a network does to packets, from a seed. The shares are of 1.
type chaos struct {
	loss, twice, swap float64

	mu   sync.Mutex // guards what follows
	rnd  *rand.Rand
	held map[*memBind]memPacket // waits for the next packet to overtake it
}

// overtake is how long a packet can be overtaken. One that nothing follows is late, not lost.
const overtake = 5 * time.Millisecond

// release delivers a packet that nothing has overtaken.
func (c *chaos) release(to *memBind, p memPacket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if held, ok := c.held[to]; !ok || &held.data[0] != &p.data[0] {
		return
	}
	delete(c.held, to)
	select {
	case to.in <- p:
	default:
	}
}

// pass returns what of p arrives, and in what order with one that was held.
func (w *wiring) pass(to *memBind, p memPacket) []memPacket {
	c := w.chaos
	if c == nil {
		return []memPacket{p}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out := []memPacket{p}
	switch v := c.rnd.Float64(); {
	case v < c.loss:
		out = nil
	case v < c.loss+c.twice:
		out = append(out, p)
	case v < c.loss+c.twice+c.swap:
		if _, busy := c.held[to]; !busy {
			c.held[to] = p
			time.AfterFunc(overtake, func() { c.release(to, p) })
			return nil
		}
	}
	if held, ok := c.held[to]; ok && len(out) > 0 {
		delete(c.held, to)
		out = append(out, held)
	}
	return out
}

// TestStreamsSurviveChaos sends the same bytes both ways at once over every mixture of
// stacks, through networks that lose, repeat and reorder, at several packet sizes and
// with windows from tiny to large, and compares what arrives.
func TestStreamsSurviveChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("a wall-clock scenario")
	}
	networks := map[string]struct{ loss, twice, swap float64 }{
		"clean":   {},
		"loss":    {loss: 0.01},
		"reorder": {swap: 0.05},
		"all":     {loss: 0.005, twice: 0.01, swap: 0.03},
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	onEach(t, func(t *testing.T, on stacks) {
		for name, network := range networks {
			for i, mtu := range []int{1280, 1337, 1420} {
				window := []int{0, 5000, 70000}[(i+len(name))%3] // 0: as it is
				if window == 5000 && name != "clean" {
					window = 20000 // gVisor waits for ever when it misses an update of a tiny window: decision 0073
				}
				t.Run(fmt.Sprintf("%s/mtu=%d/window=%d", name, mtu, window), func(t *testing.T) {
					t.Parallel()
					c := &chaos{rnd: rand.New(rand.NewPCG(seed, uint64(mtu))), held: make(map[*memBind]memPacket)}
					a, b := newPairOn(t, &wiring{stacks: on, mtu: mtu, chaos: c})
					client, server := connect(t, a, b, 80)
					c.mu.Lock() // from here on: WireGuard's own handshake retries by the 5 s
					c.loss, c.twice, c.swap = network.loss, network.twice, network.swap
					c.mu.Unlock()
					size := 1 << 20
					if window > 0 && window < 50000 {
						size = 100 << 10
					}
					narrow(client, window)
					narrow(server, window)
					var both sync.WaitGroup
					both.Go(func() { exchange(t, client, rand.NewPCG(seed, 1), rand.NewPCG(seed, 2), size) })
					both.Go(func() { exchange(t, server, rand.NewPCG(seed, 2), rand.NewPCG(seed, 1), size) })
					both.Wait()
				})
			}
		}
	})
}

// narrow makes the receive window of a connection of ours small.
func narrow(c net.Conn, window int) {
	if end, ours := c.(*TCPConn).end.(ownEnd); ours && window > 0 {
		end.SocketOptions().SetReceiveBufferSize(int64(window), true)
	}
}

// exchange writes what one source says in pieces of all sizes, while it reads, and
// compares what it reads with what the other says.
func exchange(t *testing.T, c net.Conn, mine, theirs *rand.PCG, size int) {
	bytesOf := func(src *rand.PCG) []byte {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(src.Uint64())
		}
		return b
	}
	out, want := bytesOf(mine), bytesOf(theirs)
	pieces := rand.New(mine)
	var wg sync.WaitGroup
	wg.Go(func() {
		for len(out) > 0 {
			n := min(len(out), 1+pieces.IntN(1<<pieces.IntN(18)))
			if _, err := c.Write(out[:n]); err != nil {
				t.Error("write:", err)
				return
			}
			out = out[n:]
		}
		if err := c.(*TCPConn).CloseWrite(); err != nil {
			t.Error("close write:", err)
		}
	})
	_ = c.SetReadDeadline(time.Now().Add(60 * time.Second))
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		t.Errorf("%d bytes of %d, %v; %x, want %x; the first %d are right", len(got), len(want), err, sha256.Sum256(got), sha256.Sum256(want), at)
	}
	wg.Wait()
}
