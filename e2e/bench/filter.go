package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"time"

	"enclave/agent/filter"
	"enclave/wire"
)

// crowdSizes are how many grants a pair has, and as many live flows.
var crowdSizes = [...]int{10, 1_000, 10_000}

const filterPayload = 1200

// Filter measures what the receiver's filter costs a packet: packets of live flows in
// random order, one by one and one flow by the batch, with few grants and flows and with
// many, and a flood that no rule allows; beside one look-up of the same tuple in a hash
// table of the language, without which no filter knows a flow.
func Filter(ctx context.Context, cfg Config) (Result, error) {
	res := Result{Bench: "filter", Rounds: cfg.Rounds, Each: cfg.Each, CPUs: runtime.NumCPU()}
	rounds := make(map[string][]float64)
	add := func(name string, v float64) { rounds[name] = append(rounds[name], v/1e6) }
	var crowds []*crowd
	for _, n := range crowdSizes {
		c, err := newCrowd(n)
		if err != nil {
			return res, err
		}
		crowds = append(crowds, c)
	}
	for i := range cfg.Rounds {
		cfg.progress("filter", i)
		for _, c := range crowds {
			for name, do := range c.steps() {
				wrong := 0
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				n := 0
				v := rate(cfg.Each/4, func(k int) { n++; wrong += do(k) })
				runtime.ReadMemStats(&after)
				if wrong > 0 {
					return res, fmt.Errorf("filter: %s, %d grants: %d wrong verdicts", name, len(c.turns), wrong)
				}
				if name == byBatch {
					v *= filterBatch
				}
				add(crowdName(name, len(c.turns)), v)
				rounds["allocations"] = append(rounds["allocations"], float64(after.Mallocs-before.Mallocs)/float64(n))
			}
			if err := ctx.Err(); err != nil {
				return res, err
			}
		}
	}
	const unit = "M packets/s"
	fig := func(name string, n int) Figure { return figure(crowdName(name, n), unit, rounds[crowdName(name, n)]) }
	few := fig(oneByOne, crowdSizes[0])
	for i, n := range crowdSizes {
		limit := fig(lookUp, n)
		res.Figures = append(res.Figures, limit, fig(oneByOne, n).of(limit))
		if i > 0 {
			res.Figures = append(res.Figures, fig(oneByOne, n).of(few))
		}
		res.Figures = append(res.Figures, fig(byBatch, n).of(limit), fig(refused, n).of(limit))
	}
	res.Figures = append(res.Figures, figure("allocations a packet, at most", "", []float64{most(rounds["allocations"])}))
	return res, nil
}

func most(vs []float64) (m float64) {
	for _, v := range vs {
		m = max(m, v)
	}
	return m
}

// What is measured of each crowd.
const (
	lookUp   = "look-ups in a hash table"
	oneByOne = "live flows"
	byBatch  = "one live flow, by the batch"
	refused  = "refused"

	filterBatch = 128
)

func crowdName(name string, n int) string {
	return fmt.Sprintf("%s, %d grants and flows", name, n)
}

// crowd is a filter whose one peer has n grants and a live flow by each.
type crowd struct {
	table *filter.Table
	turns [][4]byte // the ports of all flows in random order
	seen  map[tuple]int
	pkt   []byte // one buffer: a real packet was just decrypted and is near as well
	deny  []byte
	bufs  [][]byte
	out   []filter.Verdict
	now   time.Time
}

// tuple is the least by which a flow is known.
type tuple struct {
	from, to [4]byte
	ports    [4]byte
	proto    byte
}

func newCrowd(n int) (*crowd, error) {
	us, them := netip.AddrFrom4([4]byte{100, 64, 0, 1}), netip.AddrFrom4([4]byte{100, 64, 0, 2})
	c := &crowd{now: time.Now(), seen: make(map[tuple]int), out: make([]filter.Verdict, filterBatch),
		table: filter.New(filter.Config{Self: "aaaaa", Addrs: []netip.Addr{us}}),
		pkt:   datagram(them, us, filterPayload), deny: datagram(them, us, 0)}
	grants := make([]wire.Grant, n)
	for i := range grants {
		p := uint16(1 + i*(60000/n))
		grants[i] = wire.Grant{From: "bbbbb", To: "aaaaa", Proto: wire.UDP, Ports: wire.Ports{{Lo: p, Hi: p}}, Policy: "bench", Rule: i}
	}
	c.table.Update([]filter.Peer{{ID: "bbbbb", Addrs: []netip.Addr{them}, Grants: grants}}, "", c.now)
	binary.BigEndian.PutUint16(c.deny[22:], 65000)
	for i, k := range rand.New(rand.NewPCG(1, 2)).Perm(n) {
		binary.BigEndian.PutUint16(c.pkt[20:], uint16(40000+i%7))
		binary.BigEndian.PutUint16(c.pkt[22:], grants[k].Ports[0].Lo)
		if v := c.table.In(c.pkt, c.now); v != filter.Accept {
			return nil, errors.New("filter: a flow that is granted was refused")
		}
		c.turns = append(c.turns, [4]byte(c.pkt[20:24]))
		c.seen[tupleOf(c.pkt)] = i
	}
	for range filterBatch {
		c.bufs = append(c.bufs, c.pkt)
	}
	return c, nil
}

// datagram is a UDP packet on IPv4 without its checksum, which UDP allows.
func datagram(from, to netip.Addr, payload int) []byte {
	b := make([]byte, 28+payload)
	b[0], b[8], b[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	f, t := from.As4(), to.As4()
	copy(b[12:], f[:])
	copy(b[16:], t[:])
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
	binary.BigEndian.PutUint16(b[24:], uint16(8+payload))
	return b
}

func tupleOf(b []byte) tuple {
	return tuple{[4]byte(b[12:16]), [4]byte(b[16:20]), [4]byte(b[20:24]), b[9]}
}

// steps return how many of what they did went wrong.
func (c *crowd) steps() map[string]func(n int) int {
	wrong := func(bad bool) int {
		if bad {
			return 1
		}
		return 0
	}
	return map[string]func(n int) int{
		lookUp: func(n int) int {
			copy(c.pkt[20:24], c.turns[n%len(c.turns)][:])
			_, ok := c.seen[tupleOf(c.pkt)]
			return wrong(!ok)
		},
		oneByOne: func(n int) int {
			copy(c.pkt[20:24], c.turns[n%len(c.turns)][:])
			return wrong(c.table.In(c.pkt, c.now) != filter.Accept)
		},
		byBatch: func(int) int {
			c.table.InBatch(c.bufs, 0, c.now, c.out)
			return wrong(c.out[filterBatch-1] != filter.Accept)
		},
		refused: func(n int) int {
			binary.BigEndian.PutUint16(c.deny[20:], uint16(n))
			return wrong(c.table.In(c.deny, c.now) == filter.Accept)
		},
	}
}
