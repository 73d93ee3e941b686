package control

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"enclave/control/policy"
	"enclave/store"
	"enclave/wire"
)

// maxCauses is how many causes one delta names. More come together only when an agent
// is slow or an administrator fast, and then the activity log has them all.
const maxCauses = 4

// because adds a cause to what the stream has not sent yet; hub.mu is held.
func (st *stream) because(cause string) {
	if cause != "" && len(st.causes) <= maxCauses && !slices.Contains(st.causes, cause) {
		st.causes = append(st.causes, cause)
	}
}

func joinCauses(causes []string) string {
	more := ""
	if len(causes) > maxCauses {
		causes, more = causes[:maxCauses], "; and more"
	}
	text := strings.Join(causes, "; ") + more
	if len(text) > wire.MaxCauseLen {
		text = strings.ToValidUTF8(text[:wire.MaxCauseLen-len("...")], "") + "..."
	}
	return text
}

// cause words the revisions that f brings, oldest first, with the names that things
// have or, when they go, had; mu is held.
func (h *hub) cause(f *fresh) string {
	var causes []string
	for _, r := range slices.Backward(f.made) {
		if r.Revision > h.revision {
			causes = append(causes, h.describe(f, &r))
		}
	}
	return joinCauses(causes)
}

func (h *hub) describe(f *fresh, r *store.Revision) string {
	text := r.Action
	kind, id, _ := strings.Cut(r.Object, ":")
	switch kind {
	case "policy":
		if p := f.policies[wire.PolicyID(id)]; p != nil {
			id = p.Name
		} else if p := h.policies[wire.PolicyID(id)]; p != nil {
			id = p.Name
		}
	case "system":
		if s := f.systems[wire.SystemID(id)]; s != nil {
			id = s.Name
		} else if n := h.nodes[wire.SystemID(id)]; n != nil {
			id = n.sys.Name
		}
	}
	if id != "" {
		text += fmt.Sprintf(" %q", id)
	}
	return text + " by " + actorName(r.Actor)
}

// actorName is the actor without its kind: people know each other by name.
func actorName(a store.Actor) string {
	if _, name, ok := strings.Cut(string(a), ":"); ok {
		return name
	}
	return string(a)
}

// ended says what of the systems and policies in t has begun or ended by the clock alone
// since the last look; mu is held. It is not told apart by who is concerned: a receiver
// knows its grants.
func (h *hub) ended(t *policy.Touched, now time.Time) string {
	since := func(at time.Time) bool { return !at.IsZero() && at.After(h.advanced) && !at.After(now) }
	var causes []string
	systems, policies := t.Edges()
	for _, id := range policies {
		p := h.policies[id]
		switch {
		case p == nil || p.served == nil:
		case since(p.ends):
			causes = append(causes, fmt.Sprintf("policy %q expired", p.Name))
		case len(p.served.ActiveHours) > 0:
			was, is := h.engine.State(id, h.advanced), h.engine.State(id, now)
			if was == policy.Active && is == policy.OutsideHours {
				causes = append(causes, fmt.Sprintf("hours of policy %q ended", p.Name))
			} else if was == policy.OutsideHours && is == policy.Active {
				causes = append(causes, fmt.Sprintf("hours of policy %q began", p.Name))
			}
		}
	}
	for _, id := range systems {
		n := h.nodes[id]
		if n == nil {
			continue
		}
		if since(n.sys.ExpiresAt) {
			causes = append(causes, fmt.Sprintf("system %q expired", n.sys.Name))
		}
		for q, until := range n.judged {
			if since(until) {
				causes = append(causes, fmt.Sprintf("trust %q of system %q ended", q, n.sys.Name))
			}
		}
	}
	slices.Sort(causes)
	return joinCauses(slices.Compact(causes))
}
