package agent

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"enclave/wire"
	"enclave/wire/names"
)

// maxUnknown is how many names that stand for nobody are remembered: whoever asks here
// chooses them. The one last asked for longest ago gives way.
const maxUnknown = 64

// unknownName is what is reported as the reason. It is the same for a name that nobody has
// and for one that policy hides from this system: the agent does not know which.
const unknownName = "unknown name"

// unknown is what was dialled or asked for of late by a name that stands for nobody here.
type unknown struct {
	mu   sync.Mutex // guards seen
	seen map[unknownKey]*unknownCount
}

type unknownKey struct {
	name  string
	proto wire.Proto // any for a question to the stub resolver
	port  uint16     // 0 for such a question
}

type unknownCount struct {
	count       uint64
	first, last time.Time
}

// note counts a name as it was typed. What is no name is not kept.
func (u *unknown) note(name string, proto wire.Proto, port uint16, now time.Time) {
	name, err := names.Parse(name)
	if err != nil {
		return
	}
	k := unknownKey{name, proto, port}
	u.mu.Lock()
	defer u.mu.Unlock()
	if c := u.seen[k]; c != nil {
		c.count, c.last = c.count+1, now
		return
	}
	if u.seen == nil {
		u.seen = make(map[unknownKey]*unknownCount)
	}
	if len(u.seen) == maxUnknown {
		var oldest unknownKey
		for k, c := range u.seen {
			if o := u.seen[oldest]; o == nil || c.last.Before(o.last) {
				oldest = k
			}
		}
		delete(u.seen, oldest)
	}
	u.seen[k] = &unknownCount{1, now, now}
}

// report tells them as denials, the most recent first. Only the port of the destination
// says something: the name has no address.
func (u *unknown) report(src netip.Addr) (out []wire.ReportedDenial) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for k, c := range u.seen {
		out = append(out, wire.ReportedDenial{Proto: k.proto, Src: src, Dst: netip.AddrPortFrom(netip.IPv4Unspecified(), k.port), Name: k.name,
			Reason: unknownName, Count: c.count, First: c.first, Last: c.last})
	}
	slices.SortFunc(out, func(a, b wire.ReportedDenial) int { return b.Last.Compare(a.Last) })
	return out
}

// unknownAsked notes a question for a name in a zone of ours that nobody has.
func (a *Agent) unknownAsked(name string) { a.unknown.note(name, wire.Any, 0, time.Now()) }

// unknownDial notes a dial of a name that nobody has, as far as it could be the overlay's:
// what an application asks for beyond it is no business of the operator's.
func (a *Agent) unknownDial(host string, proto wire.Proto, port uint16) {
	name, err := names.Parse(host)
	if err != nil {
		return
	}
	if now := time.Now(); !strings.Contains(name, ".") || a.names().Lookup([]byte(name), now).Kind != names.Outside {
		a.unknown.note(name, proto, port, now)
	}
}
