package bench

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"enclave/agent/filter"
	"enclave/agent/link"
	"enclave/agent/tunnel"
	"enclave/cli/node"
	"enclave/wire"
	"enclave/wire/disco"
)

// member is a system as others are told of it.
type member struct {
	ID    wire.SystemID
	Addr  netip.Addr
	WG    wire.WireGuardKey
	Disco wire.DiscoKey
	At    []wire.Candidate
}

func (b *bare) member() member { return member{b.id, b.addr, b.wg, b.disco, b.at} }

// know tells b of all its peers at once, with everything allowed.
func (b *bare) know(peers []member) error {
	var links []link.Peer
	var filters []filter.Peer
	var tunnels []tunnel.Peer
	for _, p := range peers {
		links = append(links, link.Peer{ID: p.ID, WireGuard: p.WG, Disco: p.Disco, Reach: wire.Reach{Candidates: p.At}})
		filters = append(filters, filter.Peer{ID: p.ID, Addrs: []netip.Addr{p.Addr}, Grants: []wire.Grant{
			{From: b.id, To: p.ID, Proto: wire.Any, Policy: "bench"}, {From: p.ID, To: b.id, Proto: wire.Any, Policy: "bench"}}})
		tunnels = append(tunnels, tunnel.Peer{Key: p.WG, Addrs: []netip.Addr{p.Addr}})
	}
	b.link.SetPeers(links)
	b.filter.Update(filters, "", time.Now())
	return b.tunnel.SetPeers(tunnels)
}

// othersEnv makes the test program the process of the peers that talk: it is told of the
// one in the middle, and tells who they are.
const othersEnv = "ENCLAVE_BENCH_OTHERS"

func TestMain(m *testing.M) {
	if os.Getenv(othersEnv) == "" {
		os.Exit(m.Run())
	}
	if err := beOthers(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func beOthers(in io.Reader, out io.Writer) error {
	var order struct {
		Center member
		Count  int
	}
	from := json.NewDecoder(in)
	if err := from.Decode(&order); err != nil {
		return err
	}
	var all []member
	for i := range order.Count {
		b, err := newBare(context.Background(), wire.SystemID(fmt.Sprintf("t%04d", i)), netip.AddrFrom4([4]byte{100, 64, 1, byte(i + 1)}), link.System(), freePort(), loopback)
		if err != nil {
			return err
		}
		defer b.close()
		if err := b.know([]member{order.Center}); err != nil {
			return err
		}
		l, err := b.tunnel.ListenTCP(netip.AddrPortFrom(b.addr, port))
		if err != nil {
			return err
		}
		go serve(l)
		all = append(all, b.member())
	}
	if err := json.NewEncoder(out).Encode(all); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, from.Buffered())
	if err == nil {
		_, err = io.Copy(io.Discard, in)
	}
	return err
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func freePort() uint16 {
	c, err := net.ListenUDP("udp", nil)
	if err != nil {
		return 0
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

// BenchmarkPeers is a system that knows so many others and has a stream from some of
// them, which are another process: goodput, and the most memory of its own process.
func BenchmarkPeers(b *testing.B) {
	for _, c := range []struct{ known, talking int }{{2, 1}, {10, 10}, {1000, 10}} {
		b.Run(fmt.Sprintf("known=%d/talking=%d", c.known, c.talking), func(b *testing.B) { benchmarkPeers(b, c.known, c.talking) })
	}
}

func benchmarkPeers(b *testing.B, known, talking int) {
	me, err := newBare(b.Context(), "me000", netip.AddrFrom4([4]byte{100, 64, 0, 1}), link.System(), freePort(), loopback)
	if err != nil {
		b.Fatal(err)
	}
	defer me.close()
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), othersEnv+"=1"), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	if err := json.NewEncoder(in).Encode(map[string]any{"Center": me.member(), "Count": talking}); err != nil {
		b.Fatal(err)
	}
	var peers []member
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &peers)
	}
	if err != nil {
		b.Fatal(err)
	}
	for i := range known - talking { // that never answer
		m := member{ID: wire.SystemID(fmt.Sprintf("s%04d", i)), Addr: netip.AddrFrom4([4]byte{100, 65, byte(i >> 8), byte(i)}), Disco: disco.NewPrivateKey().Public(),
			At: []wire.Candidate{{Kind: wire.HostCandidate, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), 9)}}}
		rand.Read(m.WG[:])
		peers = append(peers, m)
	}
	if err := me.know(peers); err != nil {
		b.Fatal(err)
	}
	debug.FreeOSMemory()
	_ = node.Trim()
	forgetPeak()
	total := 0.0
	for b.Loop() {
		var mu sync.Mutex
		at := 0
		v, err := goodput(talking, time.Second, func() (net.Conn, error) {
			mu.Lock()
			to := peers[at]
			at++
			mu.Unlock()
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			return me.tunnel.DialTCP(ctx, netip.AddrPortFrom(to.Addr, port))
		}, nil)
		if err != nil {
			b.Fatal(err)
		}
		total += v
	}
	_, most := resident()
	b.ReportMetric(total/float64(b.N), "Gbit/s")
	b.ReportMetric(most, "MB-at-most")
}
