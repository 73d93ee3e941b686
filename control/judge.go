package control

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"time"

	"enclave/control/policy"
	"enclave/store"
	"enclave/wire"
)

// lookedAway is how long a system counts as being where its control connection came
// from, after that connection has ended. Control restarts within it; a laptop that
// leaves the office does not keep the office's trust for a day by staying silent.
const lookedAway = 5 * time.Minute

// met returns the requirements that a system meets, and until when; zero has no end.
// Marks of a requirement that nobody has described count as they are; of one that asks
// for claims, with those claims; of public-ip none does, control judges that itself. A
// requirement that cannot be read is met by nobody.
func (h *hub) met(s *store.System) map[string]time.Time {
	out := make(map[string]time.Time, len(s.Trust))
	marks := make(map[string]store.TrustMark, len(s.Trust))
	for _, m := range s.Trust {
		out[m.Requirement], marks[m.Requirement] = m.Until, m
	}
	for i := range h.rules.Requirements {
		q := &h.rules.Requirements[i]
		mark, marked := marks[q.ID]
		delete(out, q.ID)
		switch {
		case q.Broken != "":
		case q.Kind == wire.PublicIP:
			if until, ok := h.standsWell(&q.Requirement, s); ok {
				out[q.ID] = until
			}
		case marked:
			if ok, _ := policy.MeetsClaims(&q.Requirement, mark.Claims); ok {
				out[q.ID] = mark.Until
			}
		}
	}
	return out
}

// standsWell judges a public-ip requirement by where the system connects from, or has
// connected from last.
func (h *hub) standsWell(q *wire.Requirement, s *store.System) (until time.Time, ok bool) {
	addr, err := parseFrom(s.Live.SeenFrom)
	if err != nil {
		return until, false
	}
	country := ""
	if h.countries != nil {
		country = h.countries.Country(addr)
	}
	if ok, _ = policy.MeetsIP(q, addr, country); ok && !s.Live.Online {
		until = s.Live.DisconnectedAt.Add(lookedAway)
	}
	return until, ok
}

// parseFrom reads the address of a connection, with or without its port.
func parseFrom(from string) (netip.Addr, error) {
	host, _, err := net.SplitHostPort(from)
	if err != nil {
		host = from
	}
	a, err := netip.ParseAddr(host)
	return a.Unmap().WithZone(""), err
}

// judge asks again what a system meets and tells the engine when that has changed. It
// returns the systems whose pairs may differ; mu is held.
func (h *hub) judge(n *node, now time.Time) []wire.SystemID {
	met := h.met(&n.sys)
	if n.sys.Revoked || maps.EqualFunc(met, n.judged, time.Time.Equal) {
		return nil
	}
	n.judged = met
	return h.engine.PutSystem(h.engineSystem(&n.sys), now)
}

// ErrCountries is returned for a country table that cannot be read.
var ErrCountries = errors.New("the country table cannot be used")

func readCountries(path string) (*policy.Countries, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCountries, err)
	}
	defer f.Close()
	c, err := policy.ParseCountries(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCountries, path, err)
	}
	return c, nil
}
