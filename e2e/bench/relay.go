package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"

	"enclave/agent/link"
	"enclave/wire"
)

// pairCounts are how many pairs of clients pour at once.
var pairCounts = [...]int{1, 4}

func pairsName(c string, n int) string {
	if n == 1 {
		return c + ", 1 pair"
	}
	return fmt.Sprintf("%s, %d pairs", c, n)
}

// Relay measures the relay under overload beside a splice of two TLS connections, and
// one TCP stream through it beside the same stream on the direct path, by UDP and by TCP.
func Relay(ctx context.Context, cfg Config) (Result, error) { return RelayBeside(ctx, cfg) }

// RelayBeside also measures more carriers, in turns with ours.
func RelayBeside(ctx context.Context, cfg Config, more ...Carrier) (res Result, err error) {
	res = Result{Bench: "relay", Rounds: cfg.Rounds, Each: cfg.Each, CPUs: runtime.NumCPU()}
	carriers := append([]Carrier{splice(), ours()}, more...)
	rounds := make(map[string][]float64)
	org, err := newOrganisation()
	if err != nil {
		return res, err
	}
	side, err := org.relay()
	if err != nil {
		return res, err
	}
	servers, addrs := make([]host, len(carriers)), make([]string, len(carriers))
	defer func() {
		for _, s := range servers {
			if s != nil {
				err = errors.Join(err, s.close())
			}
		}
	}()
	for i, c := range carriers {
		if servers[i], err = carrierHost(ctx, cfg, carriers); err != nil {
			return res, err
		}
		a, err := servers[i].do(ctx, &job{Do: doServe, Carrier: c.Name, Side: side})
		if err != nil {
			return res, err
		}
		addrs[i] = a.Started.Addr
	}
	direct, relayed, stop, err := pathsBeside(ctx, org, addrs[1])
	if err != nil {
		return res, err
	}
	defer stop()
	streamed, end, err := streamedPair(ctx, org)
	if err != nil {
		return res, err
	}
	defer end()
	for round := range cfg.Rounds {
		cfg.progress("relay", round)
		for _, n := range pairCounts {
			for i := range carriers {
				l, err := overload(ctx, &carriers[i], org, servers[i], addrs[i], n, cfg.Each)
				if err != nil {
					return res, err
				}
				name := pairsName(carriers[i].Name, n)
				rounds[name] = append(rounds[name], l.perCore)
				rounds[name+" rate"] = append(rounds[name+" rate"], l.rate)
				rounds[name+" lost"] = append(rounds[name+" lost"], 100*l.lost)
			}
		}
		for name, p := range map[string]*pair{"direct": direct, "streamed": streamed, "relayed": relayed} {
			vs, err := p.measure(ctx, &job{Do: doGoodput, Streams: 1, Each: cfg.Each})
			if err != nil {
				return res, fmt.Errorf("%s: %w", name, err)
			}
			rounds[name] = append(rounds[name], vs[0])
		}
		if err := ctx.Err(); err != nil {
			return res, err
		}
	}
	res.Figures = relayFigures(carriers, rounds)
	return res, nil
}

// relayFigures are those of what the rounds measured. Ours is the second carrier, and
// stands beside each of the others.
func relayFigures(carriers []Carrier, rounds map[string][]float64) (all []Figure) {
	for _, n := range pairCounts {
		us := pairsName(carriers[1].Name, n)
		for i := range carriers {
			name := pairsName(carriers[i].Name, n)
			f := figure(name, "packets/cpu-s", rounds[name])
			if i != 1 {
				mine := figure(us, "packets/cpu-s", rounds[us])
				all = append(all, f, mine.of(f))
			}
		}
		for i := range carriers {
			name := pairsName(carriers[i].Name, n)
			all = append(all, figure(name+", delivered", "packets/s", rounds[name+" rate"]),
				figure(name+", lost", "%", rounds[name+" lost"]))
		}
	}
	d := figure("one TCP stream, direct", "Gbit/s", rounds["direct"])
	r := figure("one TCP stream, through the relay", "Gbit/s", rounds["relayed"])
	s := figure("one TCP stream, direct by TCP", "Gbit/s", rounds["streamed"])
	return append(all, d, r.of(d), s.of(r))
}

// carrierHost is another process where there can be one: the server's processor time is
// to be told from the clients'.
func carrierHost(ctx context.Context, cfg Config, carriers []Carrier) (host, error) {
	if cfg.Child == nil {
		return &here{carriers: carriers}, nil
	}
	return spawn(ctx, cfg.Child)
}

// pathsBeside are two pairs of systems with the whole data path of an agent: one that
// meets directly, one that can meet only at the relay at addr.
func pathsBeside(ctx context.Context, o *organisation, addr string) (direct, relayed *pair, stop func(), err error) {
	direct, stop, err = barePair(ctx, 0, 0)
	if err != nil {
		return nil, nil, nil, err
	}
	relayed, end, err := relayedPair(ctx, o, addr)
	if err != nil {
		stop()
		return nil, nil, nil, err
	}
	first := stop
	return direct, relayed, func() { end(); first() }, nil
}

// relayedPair is two systems that tell each other no address.
func relayedPair(ctx context.Context, o *organisation, addr string) (p *pair, stop func(), err error) {
	var ends [2]*bare
	stop = func() {
		for _, b := range ends {
			if b != nil {
				b.close()
			}
		}
	}
	for i, id := range []wire.SystemID{"rrrra", "rrrrb"} {
		cfg, err := o.client(id)
		if err == nil {
			ends[i], err = newBare(ctx, id, netip.AddrFrom4([4]byte{100, 64, 1, byte(i + 1)}), noUDP{link.System()}, 0)
		}
		if err != nil {
			stop()
			return nil, nil, err
		}
		ends[i].relay = cfg
		ends[i].ticket = o.ticket("rrrra", "rrrrb")
		ends[i].link.SetRelays([]wire.Relay{{ID: benchRelay, Addr: addr}})
	}
	if err := join(ends[0], ends[1], 0); err != nil {
		stop()
		return nil, nil, err
	}
	return &pair{a: &local{ends[0].to(ends[1])}, b: new(here)}, stop, nil
}

const benchRelay = "bench"

// noUDP is a network that lets no datagram out.
type noUDP struct{ link.Network }

func (n noUDP) ListenUDP(port uint16) (link.PacketConn, error) {
	c, err := n.Network.ListenUDP(port)
	return muted{c}, err
}

type muted struct{ link.PacketConn }

func (muted) WriteToUDPAddrPort(b []byte, _ netip.AddrPort) (int, error) { return len(b), nil }
