package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	"tailscale.com/net/stun"
)

// The floods: whom a hostile process sends to, as fast as it can.
const (
	floodNone  = "no flood"
	floodAside = "flood of a bystander" // the same packets to a socket that nobody reads
	floodAgent = "flood of the receiver's socket"
	floodSTUN  = "flood of the relay's STUN"

	// floodForged is measured where it can be made: with the privilege of raw sockets.
	floodForged = "flood in the sender's name"
)

// Flood measures one TCP stream between two agents while a third process pours packets at
// the receiver's UDP socket or at the relay's STUN. A flood takes processor time to send,
// whomever it meets; so it also pours at a bystander, which shows what the sending alone
// takes from the stream on this machine. Where raw sockets are allowed it also forges the
// address and port of the sender, whom the receiver knows.
func Flood(ctx context.Context, cfg Config) (res Result, err error) {
	res = Result{Bench: "flood", Rounds: cfg.Rounds, Each: cfg.Each, CPUs: runtime.NumCPU()}
	dir, err := os.MkdirTemp("", "enclave-bench-")
	if err != nil {
		return res, err
	}
	defer os.RemoveAll(dir)
	hosts := make([]host, 3) // the two agents, and whoever floods
	defer func() {
		for _, h := range hosts {
			if h != nil {
				err = errors.Join(err, h.close())
			}
		}
	}()
	for i := range hosts {
		if hosts[i] = new(here); cfg.Child != nil {
			if hosts[i], err = spawn(ctx, cfg.Child); err != nil {
				return res, err
			}
		}
	}
	h, err := newHub(ctx, filepath.Join(dir, "up"))
	if err != nil {
		return res, err
	}
	defer h.close()
	p := &pair{hosts[0], hosts[1]}
	if err := h.meet(ctx, p); err != nil {
		return res, err
	}
	socket, err := hosts[1].do(ctx, &job{Do: doSocket})
	if err != nil {
		return res, err
	}
	aside, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return res, err
	}
	defer aside.Close()
	targets := []target{
		{name: floodNone}, {name: floodAside, addr: aside.LocalAddr().String()},
		{name: floodAgent, addr: fmt.Sprintf("127.0.0.1:%d", int(socket.Values[0]))}, {name: floodSTUN, addr: h.stun},
	}
	if forged, ok := inTheNameOf(ctx, p); ok {
		targets = append(targets, forged)
	}
	rounds := make(map[string][]float64)
	for round := range cfg.Rounds {
		cfg.progress("flood", round)
		for _, t := range targets {
			goodput, rate, err := underFlood(ctx, p, hosts[2], t, cfg.Each)
			if err != nil {
				return res, fmt.Errorf("%s: %w", t.name, err)
			}
			rounds[t.name] = append(rounds[t.name], goodput)
			rounds[t.name+" rate"] = append(rounds[t.name+" rate"], rate)
		}
		if err := ctx.Err(); err != nil {
			return res, err
		}
	}
	alone := figure(floodNone, "Gbit/s", rounds[floodNone])
	beside := figure(floodAside, "Gbit/s", rounds[floodAside])
	res.Figures = append(res.Figures, alone, beside.of(alone))
	for _, t := range targets[2:] {
		f := figure(t.name, "Gbit/s", rounds[t.name])
		res.Figures = append(res.Figures, f.of(alone), f.of(beside))
	}
	for _, t := range targets[1:] {
		res.Figures = append(res.Figures, figure(t.name+" rate", "packets/s", rounds[t.name+" rate"]))
	}
	return res, nil
}

// target is whom a flood meets, and in whose name it comes: the sender's own, if empty.
type target struct{ name, addr, as string }

// inTheNameOf is the receiver of p, flooded in the name of its sender; false where this
// process may not forge.
func inTheNameOf(ctx context.Context, p *pair) (target, bool) {
	to, err := p.a.do(ctx, &job{Do: doRoute})
	if err != nil {
		return target{}, false
	}
	as, err := p.b.do(ctx, &job{Do: doRoute})
	if err != nil {
		return target{}, false
	}
	t := target{floodForged, to.Addr, as.Addr}
	_, stop, err := t.forge()
	if err == nil {
		stop()
	}
	return t, err == nil
}

func (t target) forge() (func([]byte) error, func(), error) {
	from, err := netip.ParseAddrPort(t.as)
	if err != nil {
		return nil, nil, err
	}
	to, err := netip.ParseAddrPort(t.addr)
	if err != nil {
		return nil, nil, err
	}
	return forge(from, to)
}

// underFlood measures a stream of p while by floods t, if it has an address.
func underFlood(ctx context.Context, p *pair, by host, t target, each time.Duration) (goodput, rate float64, err error) {
	var g errgroup.Group
	if t.addr != "" {
		g.Go(func() error {
			a, err := by.do(ctx, &job{Do: doAttack, Target: t.addr, As: t.as, Each: each + floodLead + floodLead})
			if err == nil {
				rate = a.Values[0]
			}
			return err
		})
		time.Sleep(floodLead)
	}
	vs, err := p.measure(ctx, &job{Do: doGoodput, Streams: 1, Each: each})
	if err := errors.Join(err, g.Wait()); err != nil {
		return 0, 0, err
	}
	return vs[0], rate, nil
}

// floodLead is how much sooner a flood begins, and later it ends, than what is measured.
const floodLead = 300 * time.Millisecond

// attack pours bogus packets at addr and returns how many a second: WireGuard handshakes
// of the right shape with nothing right inside, its data, probes with an unknown key, and
// STUN requests that ask to be answered.
func attack(ctx context.Context, addr, as string, each time.Duration) (float64, error) {
	write, stop, err := target{addr: addr, as: as}.open()
	if err != nil {
		return 0, err
	}
	defer stop()
	packets := make([][]byte, 64)
	for i := range packets {
		switch i % 4 {
		case 0, 1: // initiation, response
			packets[i] = random([]int{148, 92}[i%4])
			copy(packets[i], []byte{byte(1 + i%4), 0, 0, 0})
		case 2:
			packets[i] = random(1280)
			copy(packets[i], []byte{4, 0, 0, 0})
		default:
			packets[i] = stun.Request(stun.NewTxID())
		}
	}
	sent := 0
	began := time.Now()
	for time.Since(began) < each && ctx.Err() == nil {
		for _, b := range packets {
			_ = write(b) // refused while nobody listens is sent as well
		}
		sent += len(packets)
	}
	return float64(sent) / time.Since(began).Seconds(), nil
}

// open returns how to send to t.
func (t target) open() (write func([]byte) error, stop func(), err error) {
	if t.as != "" {
		return t.forge()
	}
	c, err := net.Dial("udp", t.addr)
	if err != nil {
		return nil, nil, err
	}
	return func(b []byte) error {
		_, err := c.Write(b)
		return err
	}, func() { c.Close() }, nil
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
