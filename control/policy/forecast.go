package policy

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// Maximum sizes of a forecast.
const (
	maxComing  = 10_000 // entries
	maxEdges   = 1_000  // edges of one policy
	maxWarning = 3      // systems a warning names
)

// Forecast lists what happens by itself in (now, until]: policies that open, close or
// expire, systems that expire, trust that ends, in order. A policy with very many edges
// shortens the whole list, so that what is listed is complete up to its last entry. An
// expiry that leaves a receiver without any sender carries a warning. Names and keys
// are the caller's to add.
func (e *Engine) Forecast(now, until time.Time) []api.Coming {
	out := []api.Coming{}
	for _, r := range e.policies {
		var last time.Time
		out, last = r.coming(out, now, until)
		until = sooner(last, until)
	}
	for _, s := range e.systems {
		if s.counts() && comes(s.ExpiresAt, now, until) {
			out = append(out, api.Coming{At: s.ExpiresAt, Kind: "expires", Object: "system", ID: string(s.ID), Detail: fmt.Sprintf("system %s expires", s.ID)})
		}
		for q, end := range s.Trust {
			if s.counts() && comes(end, now, sooner(until, s.ExpiresAt)) {
				out = append(out, api.Coming{At: end, Kind: "expires", Object: "trust", ID: string(s.ID), Detail: fmt.Sprintf("system %s no longer meets %q", s.ID, q)})
			}
		}
	}
	out = slices.DeleteFunc(out, func(c api.Coming) bool { return c.At.After(until) })
	slices.SortFunc(out, func(a, b api.Coming) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Object, b.Object), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Detail, b.Detail))
	})
	out = out[:min(len(out), maxComing)]
	for i := range out {
		if out[i].Kind == "expires" {
			out[i].Warning = e.warn(&out[i])
		}
	}
	return out
}

// comes reports whether end is in (now, until].
func comes(end, now, until time.Time) bool {
	return end.After(now) && !end.After(until)
}

// coming appends the edges of one policy. When they are too many, last is the one up to
// which they are told.
func (r *rules) coming(out []api.Coming, now, until time.Time) (_ []api.Coming, last time.Time) {
	open := r.hours.active(now)
	for n, at := 0, now; r.lives(at); n++ {
		next := r.hours.change(at)
		if over(r.expires, sooner(next, r.expires)) {
			next = r.expires
		}
		if !comes(next, now, until) {
			break
		}
		if n == maxEdges {
			return out, at
		}
		c := api.Coming{At: next, Object: "policy", ID: string(r.id), Name: r.doc.Name}
		at, open = next, !open
		switch {
		case over(r.expires, at):
			c.Kind, c.Detail = "expires", fmt.Sprintf("policy %s expires%s", r.id, r.local)
			if r.doc.ExpiryAction == wire.DeleteOnExpiry {
				c.Detail += " and is deleted"
			}
		case open:
			c.Kind, c.Detail = "opens", fmt.Sprintf("the active hours of policy %s begin", r.id)
		default:
			c.Kind, c.Detail = "closes", fmt.Sprintf("the active hours of policy %s end", r.id)
		}
		out = append(out, c)
	}
	return out, last
}

// warn names the receivers that an expiry leaves without any sender.
func (e *Engine) warn(c *api.Coming) string {
	var left []wire.SystemID
	note := func(s *system) {
		if e.reached(s, c.At.Add(-1)) && !e.reached(s, c.At) && s.counts() && !over(s.ExpiresAt, c.At) && !slices.Contains(left, s.ID) {
			left = append(left, s.ID)
		}
	}
	if r := e.policies[wire.PolicyID(c.ID)]; c.Object == "policy" && r != nil {
		for _, s := range slices.Collect(e.members(r, receivers)) {
			note(s)
		}
	} else if s := e.systems[wire.SystemID(c.ID)]; s != nil {
		for peer := range e.joins(s, c.At.Add(-1)) {
			note(peer)
		}
		for slot := range s.slots[senders].all() {
			for _, to := range slices.Collect(e.members(e.slots[slot], receivers)) {
				note(to)
			}
		}
	}
	if len(left) == 0 {
		return ""
	}
	slices.Sort(left)
	text := fmt.Sprint(left[:min(len(left), maxWarning)])
	text = text[1 : len(text)-1]
	if n := len(left) - maxWarning; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return "leaves no sender for " + text
}

// reached reports whether anybody may open a flow to s.
func (e *Engine) reached(s *system, at time.Time) bool {
	for range e.joins(s, at) {
		return true
	}
	for slot := range s.slots[receivers].all() {
		r := e.slots[slot]
		if !r.active(at) || !s.stands(r, receivers, at) || (r.gateway && len(r.carries(s)) == 0) {
			continue
		}
		for from := range e.members(r, senders) {
			if from != s && from.stands(r, senders, at) {
				return true
			}
		}
	}
	return false
}
