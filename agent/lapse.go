package agent

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"enclave/wire"
)

// maxLapses is how many systems that were in force are remembered, the newest: who dials
// one is told why it is unknown now. Those that ended long ago are plainly unknown.
const maxLapses = 64

// lapse is a peer that was in force, and why it is no longer.
type lapse struct {
	peer wire.Peer // its names and addresses
	why  string
}

// lapsesAfter returns what is remembered when next follows d: cause is what brought the
// change, where no clock did.
func (d *directory) lapsesAfter(next *directory, cause string, now time.Time) []lapse {
	out := slices.DeleteFunc(slices.Clone(d.lapses), func(l lapse) bool { return next.byID[l.peer.ID] != nil })
	for i := range d.peers {
		p := &d.peers[i]
		if next.byID[p.ID] != nil {
			continue
		}
		l := lapse{wire.Peer{ID: p.ID, Name: p.Name, IPv4: p.IPv4, IPv6: p.IPv6}, cause}
		if g := lastEnded(p.Grants, now, func(*wire.Grant) bool { return true }); g != nil {
			l.why = endedAt(g, d.called)
		}
		out = append(out, l)
	}
	return out[max(0, len(out)-maxLapses):]
}

// lastEnded returns the grant among those that match which was the last to end by its
// clock; nil when one of them counts still, or none has ended.
func lastEnded(grants []wire.Grant, now time.Time, match func(*wire.Grant) bool) (last *wire.Grant) {
	for i := range grants {
		g := &grants[i]
		switch {
		case !match(g):
		case g.ActiveAt(now):
			return nil
		case g.NotAfter.IsZero() || now.Before(g.NotAfter): // begins later
		case last == nil || last.NotAfter.Before(g.NotAfter):
			last = g
		}
	}
	return last
}

// endedAt words why a grant is over, and since when.
func endedAt(g *wire.Grant, called func(wire.SystemID) string) string {
	why := g.Ended(called)
	if why == "" {
		why = "the last rule that allowed it ended"
	}
	return why + " " + g.NotAfter.UTC().Format(time.RFC3339)
}

// lapsed says why nobody has this name any more; empty where nobody had it. A peer whose
// last grant is over by its clock is lapsed from then on: the loop may be busy cutting its
// flows, and has told nobody yet.
func (d *directory) lapsed(name string, now time.Time) string {
	name = strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(name), "."), "."+d.zone)
	addr, _ := netip.ParseAddr(name)
	addr = addr.Unmap()
	called := func(p *wire.Peer) bool {
		return name == p.Name || name == string(p.ID)+".id" || name == string(p.ID) || addr.IsValid() && (addr == p.IPv4 || addr == p.IPv6)
	}
	const over = "%s is no longer introduced: %s"
	for i := range d.peers {
		if p := &d.peers[i]; called(p) {
			if g := lastEnded(p.Grants, now, func(*wire.Grant) bool { return true }); g != nil {
				return fmt.Sprintf(over, p.Name, endedAt(g, d.called))
			}
		}
	}
	for _, l := range slices.Backward(d.lapses) {
		if called(&l.peer) {
			return fmt.Sprintf(over, l.peer.Name, l.why)
		}
	}
	return ""
}

// called is what a system is known as here, or its ID.
func (d *directory) called(id wire.SystemID) string {
	if d != nil { // nil before the first view
		if c := d.byID[id]; c != nil {
			return c.Name
		}
	}
	return string(id)
}

// called knows this system, too.
func (v *view) called(id wire.SystemID) string {
	if id == v.self.ID && v.self.Name != "" {
		return v.self.Name
	}
	return v.directory.called(id)
}

// ended says that a rule let this system start such a flow to a peer until its time
// came; empty where none did.
func (v *view) ended(p *wire.Peer, proto wire.Proto, port uint16, now time.Time) string {
	g := lastEnded(p.Grants, now, func(g *wire.Grant) bool {
		return g.From == v.self.ID && g.Subnets == nil && (g.Proto == wire.Any || g.Proto == proto) &&
			(g.Ports == nil || slices.ContainsFunc(g.Ports, func(r wire.PortRange) bool { return r.Lo <= port && port <= r.Hi }))
	})
	if g == nil {
		return ""
	}
	return ": " + endedAt(g, v.called)
}
