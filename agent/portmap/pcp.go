package portmap

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"enclave/agent/link"
)

// The Port Control Protocol (RFC 6887), of which MAP is all that is needed: one question to
// the default gateway, repeated until it is answered. What ties an answer to the question is
// a nonce, 96 random bits, by which the router also knows who may renew and delete.
const (
	pcpPort    = 5351
	pcpVersion = 2
	pcpMap     = 1
	pcpAnswer  = 0x80 // with the opcode
	pcpUDP     = 17

	pcpHead    = 24
	pcpMapLen  = pcpHead + 36
	pcpLongest = 1100 // of a message, section 7

	pcpUnsupported = 1 // result code: no such version
)

// pcpTries are when the question is asked; section 8.1.1 begins at three seconds, which
// suits no one who has two other protocols to ask.
var pcpTries = [...]time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second}

var (
	errNoPCP    = errors.New("the router does not speak PCP")
	errPCP      = errors.New("no answer of PCP")
	errOthers   = errors.New("an answer to somebody else")
	errNotGiven = errors.New("the router gave no port")
)

// pcpNonce names the mappings of one Router.
type pcpNonce [12]byte

// appendMap appends a request for a mapping of a UDP port of client; a life of 0 deletes it.
// like is the address and port that are wished for.
func appendMap(b []byte, nonce pcpNonce, client netip.Addr, port uint16, like netip.AddrPort, life time.Duration) []byte {
	b = append(b, pcpVersion, pcpMap, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(life/time.Second))
	at := client.As16() // IPv4 as mapped IPv6, section 5
	b = append(b, at[:]...)
	b = append(b, nonce[:]...)
	b = append(b, pcpUDP, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, port)
	b = binary.BigEndian.AppendUint16(b, like.Port())
	at = netip.AddrFrom4([4]byte{}).As16() // any, of IPv4
	if like.Addr().IsValid() {
		at = like.Addr().As16()
	}
	return append(b, at[:]...)
}

// parseMap reads the answer to the request of nonce for port. errOthers is one that is not
// it; any other error is final.
func parseMap(b []byte, nonce pcpNonce, port uint16) (outside netip.AddrPort, lasts time.Duration, err error) {
	none := netip.AddrPort{}
	if len(b) >= 4 && b[0] != pcpVersion && b[1]&pcpAnswer != 0 {
		return none, 0, errNoPCP // an older one answers in its own version, section 9
	}
	if len(b) < pcpHead || len(b) > pcpLongest || len(b)%4 != 0 || b[1] != pcpAnswer|pcpMap {
		return none, 0, errOthers
	}
	if result := b[3]; result == pcpUnsupported {
		return none, 0, errNoPCP
	} else if len(b) < pcpMapLen {
		if result != 0 {
			return none, 0, fmt.Errorf("the router refuses: PCP code %d", result)
		}
		return none, 0, errOthers
	}
	body := b[pcpHead:]
	if pcpNonce(body[:12]) != nonce || body[12] != pcpUDP || binary.BigEndian.Uint16(body[16:]) != port {
		return none, 0, errOthers
	}
	if b[3] != 0 {
		return none, 0, fmt.Errorf("the router refuses: PCP code %d", b[3])
	}
	lasts = time.Duration(binary.BigEndian.Uint32(b[4:])) * time.Second
	addr := netip.AddrFrom16([16]byte(body[20:36])).Unmap()
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(body[18:])), lasts, nil
}

// pcp asks for a mapping, or, with a life of 0, that it be deleted.
func (r *Router) pcp(ctx context.Context, port uint16, life time.Duration) (link.Mapping, error) {
	at, err := r.gateway()
	if err != nil {
		return link.Mapping{}, err
	}
	r.once.Do(func() { rand.Read(r.nonce[:]) })
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", netip.AddrPortFrom(at, pcpPort).String()) // hears the gateway alone
	if err != nil {
		return link.Mapping{}, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	mine := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone("")
	like := netip.AddrPortFrom(netip.Addr{}, port)
	if r.given.IsValid() {
		like = r.given // what it had, so that a router that has restarted gives it again
	}
	ask := appendMap(nil, r.nonce, mine, port, like, life)
	buf := make([]byte, pcpLongest+1)
	for _, wait := range pcpTries {
		if _, err := c.Write(ask); err != nil {
			return link.Mapping{}, err
		}
		_ = c.SetReadDeadline(time.Now().Add(wait))
		for ctx.Err() == nil {
			n, err := c.Read(buf)
			if errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
				break
			}
			if err != nil {
				return link.Mapping{}, err // nobody listens there
			}
			outside, lasts, err := parseMap(buf[:n], r.nonce, port)
			if errors.Is(err, errOthers) {
				continue
			}
			if err != nil || life == 0 {
				return link.Mapping{}, err
			}
			return r.take(outside, lasts)
		}
		if err := ctx.Err(); err != nil {
			return link.Mapping{}, err
		}
	}
	return link.Mapping{}, errPCP
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// take judges what the router gave.
func (r *Router) take(outside netip.AddrPort, lasts time.Duration) (link.Mapping, error) {
	if outside.Port() == 0 || lasts == 0 {
		return link.Mapping{}, errNotGiven
	}
	addr, err := public(outside.Addr())
	if err != nil {
		return link.Mapping{}, err
	}
	r.given = netip.AddrPortFrom(addr, outside.Port())
	return link.Mapping{Addr: r.given, Lasts: min(lasts, life), How: "pcp"}, nil
}
