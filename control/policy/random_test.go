package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"enclave/wire"
)

// dice makes random worlds that are small enough to be dense in coincidences.
type dice struct{ *rand.Rand }

func (d dice) some(n int, all ...string) (out []string) {
	for _, i := range d.Perm(len(all))[:d.IntN(min(n, len(all))+1)] {
		out = append(out, all[i])
	}
	return out
}

func (d dice) tags(n int) (out []wire.Tag) {
	for _, t := range d.some(n, "a", "b", "c", "d") {
		out = append(out, wire.Tag(t))
	}
	return out
}

// epoch lies a day before the clocks of London change.
var epoch = time.Date(2026, 3, 28, 6, 0, 0, 0, time.UTC)

func (d dice) instant(near time.Time) time.Time {
	return near.Add(time.Duration(d.IntN(4*96)-96) * grid)
}

func (d dice) system(i int, now time.Time) System {
	s := System{
		ID:       wire.SystemID(fmt.Sprintf("sys%02d", i)),
		IPs:      []netip.Addr{netip.AddrFrom4([4]byte{100, 64, 0, byte(i + 1)}), netip.MustParseAddr(fmt.Sprintf("fd00::%x", i+1))},
		Tags:     d.tags(3),
		Approved: d.IntN(12) > 0, Enabled: d.IntN(12) > 0, Revoked: d.IntN(20) == 0,
	}
	if d.IntN(3) == 0 {
		s.Tags = nil
	}
	for range d.IntN(6) { // itself and nobody among them
		s.Adds = append(s.Adds, wire.SystemID(fmt.Sprintf("sys%02d", d.IntN(7))))
	}
	if d.IntN(4) == 0 {
		s.ExpiresAt = d.instant(now)
	}
	if d.IntN(3) > 0 {
		s.Trust = map[string]time.Time{}
		for _, r := range d.some(2, "mfa", "ip") {
			s.Trust[r] = time.Time{}
			if d.IntN(2) == 0 {
				s.Trust[r] = d.instant(now)
			}
		}
	}
	return s
}

func (d dice) trust() []string {
	if d.IntN(3) > 0 {
		return nil
	}
	return d.some(2, "mfa", "ip")
}

func (d dice) clock(end bool) string {
	if end && d.IntN(6) == 0 {
		return "24:00"
	}
	return fmt.Sprintf("%02d:%02d", d.IntN(24), d.IntN(4)*15)
}

func (d dice) window() wire.Window {
	zones := []string{"Europe/London", "UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"}
	w := wire.Window{Zone: zones[d.IntN(len(zones))], Start: d.clock(false), End: d.clock(true), Days: []string{}}
	for w.Start == w.End {
		w.End = d.clock(true)
	}
	w.Days = append(w.Days, d.some(7, dayNames[:]...)...)
	return w
}

func (d dice) policy(i int, now time.Time) wire.Policy {
	p := wire.Policy{
		ID: wire.PolicyID(fmt.Sprintf("p%d", i)), Kind: wire.Direct, Enabled: d.IntN(8) > 0,
		SenderTags: d.tags(2), ReceiverTags: d.tags(2), SenderTrust: d.trust(), RecvTrust: d.trust(),
	}
	for range d.IntN(3) {
		acl := wire.ACL{Proto: wire.Proto(1 + d.IntN(4))}
		if (acl.Proto == wire.TCP || acl.Proto == wire.UDP) && d.IntN(2) == 0 {
			lo := uint16(1 + d.IntN(5))
			acl.Ports = wire.Ports{{Lo: lo, Hi: lo + uint16(d.IntN(2))}}
		}
		p.ACLs = append(p.ACLs, acl)
	}
	if d.IntN(4) == 0 {
		if t := d.instant(now); d.IntN(2) == 0 {
			p.ExpiresAt = &t
		} else {
			zone := d.window().Zone
			loc, err := time.LoadLocation(zone)
			if err != nil {
				panic(err)
			}
			p.ExpiresLocal = &wire.LocalTime{Time: t.In(loc).Format(wire.LocalTimeLayout), Zone: zone}
		}
	}
	if d.IntN(2) == 0 {
		for range 1 + d.IntN(3) {
			p.ActiveHours = append(p.ActiveHours, d.window())
		}
	}
	if d.IntN(3) == 0 {
		p.Kind, p.ReceiverTags = wire.Gateway, nil
		for range d.IntN(3) {
			p.Gateways = append(p.Gateways, wire.GatewayRoute{
				System:  wire.SystemID(fmt.Sprintf("sys%02d", d.IntN(6))),
				Subnets: d.some(2, "192.168.1.0/24", "0.0.0.0/0", "10.0.0.0/8", "::/0", "100.64.0.0/10", "127.0.0.0/8"),
			})
		}
		if d.IntN(2) == 0 {
			p.SubnetFilter = d.some(2, "192.168.1.0/25", "10.0.0.1 - 10.0.0.9", "8.8.8.8", "files.example.com")
		}
	}
	return p
}

func (d dice) packet() Packet {
	ends := append(probes(), netip.MustParseAddr("100.64.0.2"), netip.MustParseAddr("100.64.0.3"),
		netip.MustParseAddr("100.64.0.4"), netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fd00::3"))
	q := Packet{Src: ends[d.IntN(len(ends))], Dst: ends[d.IntN(len(ends))], Proto: wire.Proto(d.IntN(5)), SrcPort: uint16(d.IntN(8)), DstPort: uint16(d.IntN(8))}
	if d.IntN(4) > 0 {
		q.Src = netip.AddrFrom4([4]byte{100, 64, 0, byte(d.IntN(7))})
	}
	if d.IntN(3) > 0 {
		q.Dst = netip.AddrFrom4([4]byte{100, 64, 0, byte(d.IntN(7))})
	}
	if q.Proto == wire.Any {
		q.Proto = 0
	}
	q.Reply = d.IntN(5) == 0
	return q
}
