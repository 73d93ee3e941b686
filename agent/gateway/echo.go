package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"time"

	"enclave/wire"
)

// echoWait is how long a host may take to answer. Pings give up after a second or two.
const echoWait = 5 * time.Second

// Echo carries an ICMP echo request (RFC 792, RFC 4443) to its host and the answer back.
// Where this host gives no ping sockets the sender hears nothing, as from a host that
// does not answer; the log says why, and Stats counts it as refused.
func (g *Gateway) Echo(pkt []byte) {
	q, ok := parseEcho(pkt)
	p, can := g.cfg.Network.(Pinger)
	if !ok || !can {
		g.counts.refused.Add(1)
		return
	}
	select {
	case g.echoes <- struct{}{}:
	default:
		return // a flood; a ping that is lost is what ping is for
	}
	g.mu.Lock()
	closed := g.flows == nil
	if !closed {
		g.wg.Add(1)
	}
	g.mu.Unlock()
	if closed {
		<-g.echoes
		return
	}
	q.payload = slices.Clone(q.payload)
	go func() {
		defer func() { <-g.echoes; g.wg.Done() }()
		ctx, cancel := context.WithTimeout(g.ctx, echoWait)
		defer cancel()
		key := flowKey{wire.ICMP, netip.AddrPortFrom(q.src, 0), netip.AddrPortFrom(q.dst, 0)}
		reals, _, err := g.targets(ctx, key)
		if err != nil {
			g.refused(key.src, key.dst, err)
			return
		}
		switch err := p.Echo(ctx, reals[0], q.seq, q.payload); {
		case errors.Is(err, fs.ErrPermission): // of this host, and not the network's silence
			g.refused(key.src, key.dst, err)
			return
		case err != nil:
			g.counts.failed.Add(1)
			g.log.Debug("no echo behind this gateway", "to", q.dst, "error", err)
			return
		}
		g.counts.echoes.Add(1)
		g.cfg.Back.Send(q.reply())
	}()
}

// echo is an echo request.
type echo struct {
	src, dst netip.Addr
	id, seq  uint16
	payload  []byte
}

// parseEcho reads a whole, unfragmented IP packet with an echo request in it.
func parseEcho(b []byte) (e echo, ok bool) {
	var icmp []byte
	var want byte
	switch {
	case len(b) >= 28 && b[0]>>4 == 4 && b[9] == 1 && binary.BigEndian.Uint16(b[6:])&0x3fff == 0:
		head, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
		if head < 20 || total > len(b) || total < head+8 {
			return e, false
		}
		e.src, e.dst, icmp, want = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[head:total], 8
	case len(b) >= 48 && b[0]>>4 == 6 && b[6] == 58:
		total := 40 + int(binary.BigEndian.Uint16(b[4:]))
		if total > len(b) || total < 48 {
			return e, false
		}
		e.src, e.dst, icmp, want = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[40:total], 128
	default:
		return e, false
	}
	if icmp[0] != want || icmp[1] != 0 {
		return e, false
	}
	e.id, e.seq, e.payload = binary.BigEndian.Uint16(icmp[4:]), binary.BigEndian.Uint16(icmp[6:]), icmp[8:]
	return e, true
}

// reply is the answer as a whole IP packet.
func (e *echo) reply() []byte {
	size := 8 + len(e.payload)
	var b []byte
	sum := uint32(0)
	typ := byte(0)
	if e.dst.Is4() {
		b = append(b, 4<<4|5, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(20+size))
		b = append(b, 0, 0, 0x40, 0, 64, 1, 0, 0)
		b = append(append(b, e.dst.AsSlice()...), e.src.AsSlice()...)
		binary.BigEndian.PutUint16(b[10:], fold(add(0, b)))
	} else {
		typ = 129
		b = append(b, 6<<4, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(size))
		b = append(b, 58, 64)
		b = append(append(b, e.dst.AsSlice()...), e.src.AsSlice()...)
		sum = add(uint32(58+size), b[8:40])
	}
	h := len(b)
	b = append(b, typ, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, e.id)
	b = binary.BigEndian.AppendUint16(b, e.seq)
	b = append(b, e.payload...)
	binary.BigEndian.PutUint16(b[h+2:], fold(add(sum, b[h:])))
	return b
}

// add sums b as 16-bit words (RFC 1071).
func add(sum uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
