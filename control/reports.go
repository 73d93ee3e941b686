package control

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/names"
)

// maxDenied is how many denials one answer holds, the most recent first.
const maxDenied = 5_000

// checkReport bounds what an agent says of peers and denials, as checkFlow does of flows.
func checkReport(r *wire.FlowReport) string {
	for i := range r.Peers {
		p := &r.Peers[i]
		if len(p.ID) > wire.MaxNameLen || len(p.Via) > wire.MaxNameLen || len(p.WhyNotDirect) > wire.MaxNameLen || len(p.Why) > wire.MaxCauseLen || p.RTT < 0 {
			return fmt.Sprintf("peers[%d]: longer than a name may be", i)
		}
		switch p.Route {
		case "direct", "relay", "none":
		default:
			return fmt.Sprintf("peers[%d].route: want direct, relay or none", i)
		}
	}
	for i := range r.Denied {
		d := &r.Denied[i]
		if d.Proto < wire.Any || d.Proto > wire.ICMP || !d.Src.IsValid() || !d.Dst.IsValid() || d.Src.Zone() != "" || d.Dst.Addr().Zone() != "" || len(d.Reason) > wire.MaxNameLen {
			return fmt.Sprintf("denied[%d]: want a protocol, addresses and a short reason", i)
		}
		if d.Name != "" {
			if name, err := names.Parse(d.Name); err != nil || name != d.Name {
				return fmt.Sprintf("denied[%d].name: want a name as they are kept", i)
			}
		}
	}
	return ""
}

// Paths implements admin.Answers. A system is believed of the peers that policy
// introduces to it, and of no other.
func (h *hub) Paths(ctx context.Context, id wire.SystemID) ([]api.PeerPath, bool) {
	r := h.ask(ctx, []wire.SystemID{id}, func(wire.SystemID) wire.Ask { return wire.Ask{Peers: true} })[id]
	if r == nil {
		return nil, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now, people := h.clock.Now(), h.people()
	out := []api.PeerPath{}
	for _, p := range r.Peers {
		if h.engine.Introduced(id, p.ID, now) {
			out = append(out, api.PeerPath{ReportedPeer: p, Name: people.system(p.ID)})
		}
	}
	slices.SortFunc(out, func(a, b api.PeerPath) int { return strings.Compare(a.Name, b.Name) })
	return out, true
}

// Denied implements admin.Answers.
func (h *hub) Denied(ctx context.Context) []api.Denied {
	reports := h.ask(ctx, h.counting(), func(wire.SystemID) wire.Ask { return wire.Ask{Denied: true} })
	h.mu.Lock()
	defer h.mu.Unlock()
	owner := make(map[netip.Addr]wire.SystemID, 2*len(h.nodes))
	for id, n := range h.nodes {
		owner[n.sys.IPv4], owner[n.sys.IPv6] = id, id
	}
	out, people := []api.Denied{}, h.people()
	for at, r := range reports {
		for _, d := range r.Denied {
			v := api.Denied{ReportedDenial: d, At: at, AtName: people.system(at), From: owner[d.Src], To: owner[d.Dst.Addr()]}
			if d.Name != "" {
				v.From, v.To = at, "" // whatever it says: nobody asks for another
			}
			if v.From != at && v.To != at && v.To != "" {
				continue // it stood at neither end: what lies behind a gateway is no system's
			}
			if v.Names = people.pair(v.From, v.To); d.Name != "" {
				v.Names[1] = d.Name
			}
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b api.Denied) int {
		if c := b.Last.Compare(a.Last); c != 0 {
			return c
		}
		return strings.Compare(string(a.At), string(b.At))
	})
	return out[:min(len(out), maxDenied)]
}

// CutFlows implements admin.Answers: both ends of each flow are asked to end it. A far
// end that does not answer is told by the reset of the near one.
func (h *hub) CutFlows(ctx context.Context, list []api.LiveFlow, cause string) (ends int) {
	at := make(map[wire.SystemID][]wire.CutFlow)
	for i := range list {
		f := &list[i]
		at[f.To] = append(at[f.To], wire.CutFlow{Peer: f.From, Proto: f.Proto, Src: f.Src, Dst: f.Dst})
		at[f.From] = append(at[f.From], wire.CutFlow{Peer: f.To, Proto: f.Proto, Src: f.Src, Dst: f.Dst})
	}
	var ids []wire.SystemID
	for id := range at {
		ids = append(ids, id)
	}
	for _, r := range h.ask(ctx, ids, func(id wire.SystemID) wire.Ask { return wire.Ask{Cut: at[id], Cause: cause} }) {
		ends += min(r.Cut, wire.MaxReportedFlows)
	}
	return ends
}

// maxAccess is how many accesses of one system an answer holds.
const maxAccess = 5_000

// Access implements admin.Answers.
func (h *hub) Access(id wire.SystemID, at time.Time) (list []api.Access, more bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list = h.engine.Access(id, at)
	if more = len(list) > maxAccess; more {
		list = list[:maxAccess]
	}
	h.people().access(list)
	return list, more
}
