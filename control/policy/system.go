package policy

import (
	"net/netip"
	"time"

	"enclave/wire"
)

// System is what evaluation needs to know of one system.
type System struct {
	ID                         wire.SystemID
	IPs                        []netip.Addr // its overlay addresses; unique in an engine
	Tags                       []wire.Tag
	Approved, Enabled, Revoked bool
	ExpiresAt                  time.Time            // zero: never
	Trust                      map[string]time.Time // requirement -> met until; zero: no end
	Adds                       []wire.SystemID      // whom it has added; counts between two that are untagged and add each other

	// Carries is what the system may carry as a gateway, whatever policies say. Nil is
	// no bound: a question is about policies alone.
	Carries []netip.Prefix
}

// Tag carries the trust requirements that a system must meet for the tag to count.
type Tag struct {
	Name  wire.Tag
	Trust []string
}

// The two sides of a policy.
const (
	senders = iota
	receivers
)

// system is a System with its place in the indexes.
type system struct {
	System
	tags  []*tag
	slots [2]bitset // policies that name it on a side, by tag or as a gateway
	next  time.Time // its edge that stands in the queue; zero: none
	stamp uint64    // see Engine.members
}

// tag is a tag with what names it: systems, and policies on either side.
type tag struct {
	name    wire.Tag
	trust   []string
	members map[*system]struct{}
	slots   [2]bitset
}

func (t *tag) unused() bool {
	return len(t.members) == 0 && len(t.trust) == 0 && t.slots[senders].empty() && t.slots[receivers].empty()
}

// counts reports whether the system may take part in anything, its expiry aside.
func (s *System) counts() bool { return s.Approved && s.Enabled && !s.Revoked }

// may reports whether the system is allowed to carry a for others.
func (s *System) may(a netip.Addr) bool { return s.Carries == nil || covers(s.Carries, a) }

// meets returns until when the system meets all of the requirements.
func (s *System) meets(requirements []string) (end time.Time, ok bool) {
	for _, r := range requirements {
		until, met := s.Trust[r]
		if !met {
			return time.Time{}, false
		}
		end = sooner(end, until)
	}
	return end, true
}

// on returns until when s stands on a side of r, if it does at all. Nothing of a
// system begins by the clock alone, marks and lives only end, so one end says it all:
// the latest that some tag carries it, unless something else ends before.
func (s *system) on(r *rules, side int) (end time.Time, ok bool) {
	if !s.counts() || !s.slots[side].has(r.slot) {
		return time.Time{}, false
	}
	carried := r.gateway && side == receivers // named by itself, not by a tag
	if !carried {
		for _, t := range s.tags {
			if !t.slots[side].has(r.slot) {
				continue
			}
			until, met := s.meets(t.trust)
			switch {
			case !met:
			case !carried:
				end, carried = until, true
			default:
				end = later(end, until)
			}
		}
	}
	until, met := s.meets(r.trust[side])
	if !carried || !met {
		return time.Time{}, false
	}
	return sooner(sooner(end, until), s.ExpiresAt), true
}

// stands reports whether s is on a side of r at now.
func (s *system) stands(r *rules, side int, now time.Time) bool {
	end, ok := s.on(r, side)
	return ok && !over(end, now)
}

// edge is the first instant after now at which something of s ends.
func (s *system) edge(now time.Time) (next time.Time) {
	if !over(s.ExpiresAt, now) {
		next = s.ExpiresAt
	}
	for _, until := range s.Trust {
		if !over(until, now) {
			next = sooner(next, until)
		}
	}
	return next
}
