package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"enclave/control/discovery"
	"enclave/control/policy"
	"enclave/control/policy/estate"
	"enclave/wire"
)

const (
	policies = 1_000
	ahead    = 48 * time.Hour // how far grants reach, as the control plane has it
)

// Policy measures an organisation of cfg.Systems systems, 50 tags and 1,000 policies,
// everybody connected: all of it from nothing, beside single changes up to the encoded
// deltas of everybody concerned, and verdicts beside look-ups in a hash table.
func Policy(ctx context.Context, cfg Config) (Result, error) {
	res := Result{Bench: "policy", Rounds: cfg.Rounds, Each: cfg.Each, CPUs: runtime.NumCPU()}
	rounds := make(map[string][]float64)
	add := func(name string, v float64) { rounds[name] = append(rounds[name], v) }
	for i := range cfg.Rounds {
		cfg.progress("policy", i)
		begun := time.Now()
		o := newOffice(cfg.Systems)
		add("compile", time.Since(begun).Seconds())
		for _, k := range []struct {
			name string
			do   func(n int)
		}{{"policy", o.policyChange}, {"tag", o.tagChange}} {
			n, bytes, took := 0, 0, time.Duration(0)
			for ; n%2 == 1 || took < cfg.Each; n++ { // there and back
				b, d, err := o.change(func() { k.do(n) })
				if err != nil {
					return res, err
				}
				if bytes, took = bytes+b, took+d; ctx.Err() != nil {
					return res, ctx.Err()
				}
			}
			add(k.name, took.Seconds()/float64(n))
			add(k.name+" sent", float64(bytes)/float64(n))
		}
		add("explain", 1/rate(cfg.Each, func(n int) {
			o.engine.Explain(o.systems[n*37%len(o.systems)].Addr, o.systems[(n*101+1)%len(o.systems)].Addr, wire.TCP, 80, o.now)
		}))
		packets := o.allowed()
		allowed := 0
		add("verdicts", rate(cfg.Each, func(n int) {
			if o.engine.Evaluate(packets[n%len(packets)], o.now).Allow {
				allowed++
			}
		}))
		found, table := 0, make(map[netip.Addr]int, len(o.systems))
		for i, s := range o.systems {
			table[s.Addr] = i
		}
		add("look-ups", rate(cfg.Each, func(n int) {
			q := &packets[n%len(packets)]
			found += table[q.Src] + table[q.Dst]
		}))
		if allowed == 0 || found == 0 {
			return res, fmt.Errorf("measure verdicts: nothing is allowed")
		}
		if err := ctx.Err(); err != nil {
			return res, err
		}
	}
	size := fmt.Sprintf(", %d systems", cfg.Systems)
	full := figure("full compile"+size, "s", rounds["compile"])
	lookups := figure("two look-ups in a hash table", "/s", rounds["look-ups"])
	res.Figures = []Figure{full,
		figure("one policy on or off", "s", rounds["policy"]).of(full),
		figure("- sent for it", "B", rounds["policy sent"]),
		figure("one tag more or less on one system", "s", rounds["tag"]).of(full),
		figure("- sent for it", "B", rounds["tag sent"]),
		figure("one explanation", "s", rounds["explain"]).of(full),
		lookups,
		figure("verdicts that allow", "/s", rounds["verdicts"]).of(lookups),
	}
	return res, nil
}

// rate is how often do can be done in a second.
func rate(each time.Duration, do func(n int)) float64 {
	begun, n := time.Now(), 0
	for time.Since(begun) < each {
		for range 64 {
			do(n)
			n++
		}
	}
	return float64(n) / time.Since(begun).Seconds()
}

// office is what the control plane makes of an estate: the engine, and a ledger of what
// each system was told.
type office struct {
	engine   *policy.Engine
	systems  []estate.System
	docs     []wire.Policy
	entries  map[wire.SystemID]*discovery.System
	ledgers  map[wire.SystemID]*discovery.Ledger
	revision wire.Revision
	now      time.Time
}

func newOffice(systems int) *office {
	o := &office{engine: policy.New(), entries: make(map[wire.SystemID]*discovery.System, systems),
		ledgers: make(map[wire.SystemID]*discovery.Ledger, systems), revision: 1, now: estate.Workday()}
	o.systems, o.docs = estate.New(systems, policies)
	for i, s := range o.systems {
		o.put(s)
		o.entries[s.ID] = &discovery.System{ID: s.ID, Name: "n" + string(s.ID), IPv4: s.Addr, State: wire.Connected,
			WireGuard: wire.WireGuardKey{byte(i), byte(i >> 8), byte(i >> 16), 1}, SVID: [][]byte{make([]byte, 500)}, KeySignature: make([]byte, 64)}
	}
	for _, p := range o.docs {
		o.engine.PutPolicy(p, o.now)
	}
	for _, s := range o.systems {
		v, told := o.view(s.ID), new(discovery.Ledger)
		for _, p := range o.engine.Pairs(s.ID, o.now, o.now.Add(ahead)) {
			v.Introduced = append(v.Introduced, discovery.Introduction{Peer: o.entries[p.Peer], Grants: p.Grants})
		}
		told.Map(&v)
		o.ledgers[s.ID] = told
	}
	return o
}

func (o *office) put(s estate.System) {
	o.engine.PutSystem(policy.System{ID: s.ID, IPs: []netip.Addr{s.Addr}, Tags: s.Tags, Approved: true, Enabled: true}, o.now)
}

func (o *office) view(id wire.SystemID) discovery.View {
	return discovery.View{Revision: o.revision, Org: "org", Zone: "enclave", Self: o.entries[id]}
}

// change makes a change and every delta that follows from it.
func (o *office) change(do func()) (bytes int, took time.Duration, err error) {
	begun := time.Now()
	touched := new(policy.Touched)
	o.engine.Record(touched)
	do()
	o.revision++
	for _, id := range touched.Systems() {
		v := o.view(id)
		v.Part, v.Of = true, touched.Peers(id)
		for _, peer := range v.Of {
			if grants := o.engine.Between(id, peer, o.now, o.now.Add(ahead)); len(grants) > 0 {
				v.Introduced = append(v.Introduced, discovery.Introduction{Peer: o.entries[peer], Grants: grants})
			}
		}
		d := o.ledgers[id].Delta(&v)
		if d == nil {
			continue
		}
		line, err := json.Marshal(wire.Message{Delta: d})
		if err != nil {
			return 0, 0, fmt.Errorf("encode a delta: %w", err)
		}
		bytes += len(line)
	}
	return bytes, time.Since(begun), nil
}

func (o *office) policyChange(n int) {
	p := o.docs[estate.Broad+n/2%(len(o.docs)-estate.Broad)]
	p.Enabled = n%2 == 1
	o.engine.PutPolicy(p, o.now)
}

func (o *office) tagChange(n int) {
	s := o.systems[n/2%len(o.systems)]
	if n%2 == 0 && !slices.Contains(s.Tags, "team07") {
		s.Tags = append(slices.Clone(s.Tags), "team07")
	}
	o.put(s)
}

// allowed finds packets that policy allows, some of them replies.
func (o *office) allowed() (out []policy.Packet) {
	for i := range o.systems {
		s := &o.systems[i*61%len(o.systems)]
		for _, p := range o.engine.Pairs(s.ID, o.now, o.now) {
			g := p.Grants[0]
			from, to := o.entries[g.From].IPv4, o.entries[g.To].IPv4
			q := policy.Packet{Src: from, Dst: to, Proto: wire.TCP, SrcPort: 40000, DstPort: 443}
			if len(out)%4 == 3 {
				q = policy.Packet{Src: to, Dst: from, Proto: wire.TCP, SrcPort: 443, DstPort: 40000, Reply: true}
			}
			if o.engine.Evaluate(q, o.now).Allow {
				out = append(out, q)
				break
			}
		}
		if len(out) == 256 {
			break
		}
	}
	return out
}
