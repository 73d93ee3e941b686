package netcheck

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"tailscale.com/net/stun"

	"enclave/agent/link"
)

// tryAt are the requests to one server (RFC 8489 section 6.2.1, shortened); answers are
// waited for until giveUp.
var tryAt = [...]time.Duration{0, 400 * time.Millisecond, 1200 * time.Millisecond}

const (
	giveUp = 3 * time.Second
	// hairpinIn is how long packets to our own outside address may take.
	hairpinIn  = time.Second
	hairpinGap = 200 * time.Millisecond
)

// udpReport is what was learned by UDP.
type udpReport struct {
	answers []server
	mapping Mapping
	hairpin Hairpin
	notes   []string
}

// askUDP asks all servers from one socket and then sends between two sockets of ours.
func (cfg *Config) askUDP(ctx context.Context, local []netip.Addr, servers []server) udpReport {
	out := udpReport{answers: servers, mapping: MapUnknown, hairpin: HairpinUnknown}
	one, err := openProbe(cfg.Network)
	if err != nil {
		out.notes = append(out.notes, err.Error())
		return out
	}
	defer one.close()
	one.ask(ctx, servers)
	var flat []STUNReport
	for _, s := range servers {
		flat = append(flat, s.STUNReport)
	}
	var outside netip.AddrPort
	out.mapping, outside = MappingOf(flat, local, one.port)
	switch {
	case out.mapping == MapNone:
		out.hairpin = HairpinNoNeed
	case outside.IsValid():
		for _, s := range servers {
			if s.Observed == outside {
				out.hairpin = cfg.askHairpin(ctx, one, outside, s)
				break
			}
		}
	}
	return out
}

// askHairpin has two sockets send to the outside address of each other. Both send, for
// a NAT that filters lets in only whom it was sent to. With a mapping that depends on
// the destination, the address that STUN saw leads nowhere, and the answer is no.
func (cfg *Config) askHairpin(ctx context.Context, one *probe, outside netip.AddrPort, s server) Hairpin {
	two, err := openProbe(cfg.Network)
	if err != nil {
		return HairpinUnknown
	}
	defer two.close()
	again := []server{{s.relay, STUNReport{Server: s.Server, At: s.At}}}
	if two.ask(ctx, again); !again[0].Observed.IsValid() {
		return HairpinUnknown
	}
	seen := make(chan struct{}, 2) // one for each socket's first
	one.expect(seen)
	two.expect(seen)
	ctx, cancel := context.WithTimeout(ctx, hairpinIn)
	defer cancel()
	tick := time.NewTicker(hairpinGap)
	defer tick.Stop()
	for {
		one.knock(again[0].Observed)
		two.knock(outside)
		select {
		case <-seen:
			return HairpinYes
		case <-tick.C:
		case <-ctx.Done():
			return HairpinNo
		}
	}
}

// probe is a socket that asks STUN servers.
type probe struct {
	conn link.PacketConn
	port uint16
	tx   stun.TxID // of knocks; whoever hears it has been reached
	done chan struct{}

	// mu guards what follows. It is never held while sending.
	mu      sync.Mutex
	waiting map[stun.TxID]question
	answers map[int]STUNReport // by the server's place
	changed chan struct{}      // capacity 1: there is a new answer
	knocked chan<- struct{}
}

type question struct {
	server int
	to     netip.AddrPort
	at     time.Time
}

func openProbe(n link.Network) (*probe, error) {
	c, err := n.ListenUDP(0)
	if err != nil {
		return nil, fmt.Errorf("open a UDP socket: %w", err)
	}
	_, service, _ := net.SplitHostPort(c.LocalAddr().String())
	port, _ := strconv.ParseUint(service, 10, 16)
	p := &probe{conn: c, port: uint16(port), tx: stun.NewTxID(), done: make(chan struct{}),
		waiting: map[stun.TxID]question{}, answers: map[int]STUNReport{}, changed: make(chan struct{}, 1)}
	go p.read()
	return p, nil
}

// close ends the socket and waits for its reader.
func (p *probe) close() {
	p.conn.Close()
	<-p.done
}

// ask fills in what each server answers.
func (p *probe) ask(ctx context.Context, servers []server) {
	ctx, cancel := context.WithTimeout(ctx, giveUp)
	defer cancel()
	begun := time.Now()
	open := 0
	for i := range servers {
		if servers[i].At.IsValid() {
			open++
		}
	}
	for n := 0; open > 0; {
		var next <-chan time.Time
		if n < len(tryAt) {
			next = time.After(time.Until(begun.Add(tryAt[n])))
		}
		select {
		case <-next:
			p.send(servers)
			n++
		case <-p.changed:
			p.mu.Lock()
			for i, a := range p.answers {
				if !servers[i].Observed.IsValid() {
					servers[i].Observed, servers[i].RTT, servers[i].Error = a.Observed, a.RTT, ""
					open--
				}
			}
			p.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// send asks the servers that have not answered.
func (p *probe) send(servers []server) {
	for i := range servers {
		s := &servers[i]
		if !s.At.IsValid() || s.Observed.IsValid() {
			continue
		}
		tx := stun.NewTxID()
		p.mu.Lock()
		p.waiting[tx] = question{i, s.At, time.Now()}
		p.mu.Unlock()
		if _, err := p.conn.WriteToUDPAddrPort(stun.Request(tx), s.At); err != nil {
			s.Error = err.Error()
		}
	}
}

func (p *probe) expect(knocked chan<- struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.knocked = knocked
}

// knock sends what only a probe of this process expects.
func (p *probe) knock(to netip.AddrPort) { _, _ = p.conn.WriteToUDPAddrPort(stun.Request(p.tx), to) }

// read takes what arrives until the socket is closed.
func (p *probe) read() {
	defer close(p.done)
	b := make([]byte, 1500)
	for {
		n, from, err := p.conn.ReadFromUDPAddrPort(b)
		if err != nil {
			if temporary(err) {
				continue
			}
			return
		}
		p.hear(b[:n], netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port()), time.Now())
	}
}

// hear takes one datagram: an answer that was asked for, from whom it was asked of, or a
// request, which only the other socket of a hairpin would send.
func (p *probe) hear(b []byte, from netip.AddrPort, now time.Time) {
	if !stun.Is(b) {
		return
	}
	if _, err := stun.ParseBindingRequest(b); err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		select {
		case p.knocked <- struct{}{}: // nil while nobody expects one
		default:
		}
		return
	}
	tx, seen, err := stun.ParseResponse(b)
	if err != nil || !seen.IsValid() || seen.Port() == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	q, ok := p.waiting[tx]
	if !ok || q.to != from {
		return
	}
	delete(p.waiting, tx)
	if _, again := p.answers[q.server]; !again {
		p.answers[q.server] = STUNReport{Observed: netip.AddrPortFrom(seen.Addr().Unmap(), seen.Port()), RTT: max(now.Sub(q.at), 1)}
	}
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// temporary reports whether a socket goes on after err: some systems report another
// host's ICMP error on a read.
func temporary(err error) bool {
	return !errors.Is(err, net.ErrClosed) && (errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH))
}
