package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
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
)

// Flood measures one TCP stream between two agents while a third process pours packets at
// the receiver's UDP socket or at the relay's STUN. A flood takes processor time to send,
// whomever it meets; so it also pours at a bystander, which shows what the sending alone
// takes from the stream on this machine.
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
	targets := []struct{ name, addr string }{
		{floodNone, ""}, {floodAside, aside.LocalAddr().String()},
		{floodAgent, fmt.Sprintf("127.0.0.1:%d", int(socket.Values[0]))}, {floodSTUN, h.stun},
	}
	rounds := make(map[string][]float64)
	for round := range cfg.Rounds {
		cfg.progress("flood", round)
		for _, t := range targets {
			goodput, rate, err := underFlood(ctx, p, hosts[2], t.addr, cfg.Each)
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

// underFlood measures a stream of p while by floods addr, if there is one.
func underFlood(ctx context.Context, p *pair, by host, addr string, each time.Duration) (goodput, rate float64, err error) {
	var g errgroup.Group
	if addr != "" {
		g.Go(func() error {
			a, err := by.do(ctx, &job{Do: doAttack, Target: addr, Each: each + floodLead + floodLead})
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
func attack(ctx context.Context, addr string, each time.Duration) (float64, error) {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
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
			_, _ = c.Write(b) // refused while nobody listens is sent as well
		}
		sent += len(packets)
	}
	return float64(sent) / time.Since(began).Seconds(), nil
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
