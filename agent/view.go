package agent

import (
	"net/netip"
	"strings"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// view is what the loop has published last. It is immutable.
type view struct {
	state    string
	self     wire.Self
	revision wire.Revision
	until    time.Time
	control  api.ControlStatus
	reach    *wire.Reach
	rejected []api.RejectedPeer
	peers    []wire.Peer // sorted by ID
	byName   map[string][]*wire.Peer
	byAddr   map[netip.Addr]*wire.Peer
}

// publish makes the loop's state visible and wakes whoever waits for a change.
func (l *looper) publish() {
	v := &view{
		state: l.stateWord(), self: l.m.Self, revision: l.applied, until: l.m.ValidUntil,
		control: l.status, reach: l.reach, rejected: l.rejected, peers: l.m.Peers,
		byName: make(map[string][]*wire.Peer, 2*len(l.m.Peers)),
		byAddr: make(map[netip.Addr]*wire.Peer, 2*len(l.m.Peers)),
	}
	for i := range v.peers {
		p := &v.peers[i]
		v.byName[p.Name] = append(v.byName[p.Name], p)
		v.byName[string(p.ID)+".id"] = append(v.byName[string(p.ID)+".id"], p)
		v.byAddr[p.IPv4], v.byAddr[p.IPv6] = p, p
	}
	l.met.Range(func(id, _ any) bool {
		if !v.knows(id.(wire.SystemID)) {
			l.met.Delete(id)
		}
		return true
	})
	l.view.Store(v)
	l.events.announce()
}

func (l *looper) stateWord() string {
	switch {
	case l.have && l.m.Self.State == wire.Pending:
		return api.AgentPending
	case l.have && l.m.Self.State == wire.Disabled:
		return api.AgentDisabled
	case l.closed:
		return api.AgentClosed
	case l.have && l.status.Connected:
		return api.AgentRunning
	case l.have:
		return api.AgentOffline
	}
	return api.AgentStarting
}

func (v *view) knows(id wire.SystemID) bool { return v.byName[string(id)+".id"] != nil }

// find returns the peers a name stands for: web, web.enclave, k7m2q.id.enclave or
// an overlay address. Case and a final dot do not matter (RFC 1035, 2.3.3).
func (v *view) find(name string) []*wire.Peer {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if addr, err := netip.ParseAddr(name); err == nil {
		if p := v.byAddr[addr.Unmap()]; p != nil {
			return []*wire.Peer{p}
		}
		return nil
	}
	if zone := v.self.Zone; zone != "" {
		name = strings.TrimSuffix(name, "."+zone)
	}
	if found := v.byName[name]; found != nil {
		return found
	}
	return v.byName[name+".id"] // a bare system ID, as the CLI shows it
}

// current is what is to be reported to control.
func (a *Agent) current() wire.Report {
	v := a.view.Load()
	return wire.Report{Applied: v.revision, Reach: v.reach}
}
