package bench

import "fmt"

// figures makes the table of a run: every figure beside what it is to be compared with.
func (m *mesh) figures() (all []Figure) {
	fig := func(name, unit, key string) Figure {
		if len(m.rounds[key]) == 0 {
			return Figure{}
		}
		f := figure(name, unit, m.rounds[key])
		all = append(all, f)
		return f
	}
	of := func(name, unit, key string, g Figure) Figure {
		f := fig(name, unit, key)
		if f.Name != "" && g.Median != 0 {
			f = f.of(g)
			all[len(all)-1] = f
		}
		return f
	}
	// The streams of a round are measured right after each other, so it is the rounds
	// that are compared.
	streams := func(label, pair string, byTime bool) {
		unit, one := "Gbit/s", figure("", "", m.rounds[streamsName(pair, 1, byTime)])
		if byTime {
			unit, label = "Gbit/cpu-s", label+" by processor time"
		}
		if one.Min == 0 { // processor time is not known everywhere
			return
		}
		one.Name = label + ", 1 stream"
		if byTime {
			fig(one.Name, unit, streamsName(pair, 1, byTime))
		}
		for _, n := range streamCounts[1:] {
			fig(fmt.Sprintf("%s, %d streams", label, n), unit, streamsName(pair, n, byTime))
			all[len(all)-1] = all[len(all)-1].inTurnsWith(one)
		}
	}
	limit := fig("ChaCha20-Poly1305 seal+open, all cores", "Gbit/s", "cipher")
	tcp := fig("loopback TCP, 1 stream", "Gbit/s", "loopback 1")
	stock := fig("wireguard-go, 1 stream", "Gbit/s", "stock 1")
	of("mesh, 1 stream", "Gbit/s", "ours 1", stock)
	of("mesh, 1 stream, of the limit", "Gbit/s", "ours 1", limit)
	of("mesh, 1 stream, beside TCP", "Gbit/s", "ours 1", tcp)
	streams("mesh", "ours", false)
	streams("mesh", "ours", true)
	streams("loopback TCP", "loopback", false)
	streams("loopback TCP", "loopback", true)
	two := fig("wireguard-go, two processes", "Gbit/s", "stock two 1")
	of("mesh, two processes", "Gbit/s", "ours two 1", two)
	none := fig("data path alone, one grant", "Gbit/s", grantsName(0))
	of("data path alone, 1,000 grants, 1,000 other flows", "Gbit/s", grantsName(1_000), none)
	of("data path alone, 10,000 grants, 1,000 other flows", "Gbit/s", grantsName(10_000), none)
	for _, n := range []struct{ label, do string }{{"TCP", doTCPEcho}, {"UDP", doUDPEcho}} {
		for _, q := range []string{"p50", "p99"} {
			s := fig("wireguard-go, "+n.label+" round trip "+q, "µs", "stock "+n.do+" "+q)
			of("mesh, "+n.label+" round trip "+q, "µs", "ours "+n.do+" "+q, s)
			s = fig("wireguard-go, two processes, "+n.label+" round trip "+q, "µs", "stock two "+n.do+" "+q)
			of("mesh, two processes, "+n.label+" round trip "+q, "µs", "ours two "+n.do+" "+q, s)
		}
	}
	fig("mesh, allocations a packet", "", "ours allocs")
	fig("mesh, resident memory of both agents at most", "MB", "memory")
	fig("mesh, small packets sent", "", "flood sent")
	fig("mesh, small packets lost", "", "flood lost")
	fig("mesh, small packets, rate", "1/s", "flood rate")
	return all
}
