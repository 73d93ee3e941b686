package admin

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"enclave/control/policy"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

type (
	PolicyRef struct {
		Policy string `path:"policy" maxLength:"128" doc:"ID or name"`
	}
	PolicyAction struct {
		PolicyRef
		Precondition
		Wanted
	}
	policyList struct{ Body api.Page[api.Policy] }
	policyOut  struct {
		Status int
		ETag   string `header:"ETag"`
		Made
		Body either[api.Policy]
	}
	policyCreate struct {
		Wanted
		Body wire.Policy
	}
	policyUpdate struct {
		PolicyAction
		Body wire.Policy
	}
)

func (a *API) routePolicies() {
	route(a, "policy-list", func(ctx context.Context, in *Paging) (*policyList, error) {
		made, id, err := readPolicyCursor(in.After)
		if err != nil {
			return nil, err
		}
		list, err := a.store.PoliciesAfter(ctx, made, id, in.Limit+1) // one more tells whether there is a next page
		if err != nil {
			return nil, refuse(err)
		}
		now := a.store.Now()
		return &policyList{page(list, *in, policyCursor, func(p *store.Policy) api.Policy { return a.policyView(p, now) })}, nil
	})
	route(a, "policy-get", func(ctx context.Context, in *PolicyRef) (*policyOut, error) {
		p, err := a.store.FindPolicy(ctx, in.Policy)
		return a.showPolicy(http.StatusOK, p), refuse(err)
	})
	route(a, "policy-create", a.policyCreate)
	route(a, "policy-update", a.policyUpdate)
	route(a, "policy-delete", a.policyAction(a.store.DeletePolicy))
	route(a, "policy-enable", a.policyAction(a.enablePolicy))
	route(a, "policy-disable", a.policyAction(func(ctx context.Context, c store.Change, id wire.PolicyID) (wire.Revision, error) {
		return a.store.SetPolicyEnabled(ctx, c, id, false)
	}))
}

func (a *API) policyAction(do func(context.Context, store.Change, wire.PolicyID) (wire.Revision, error)) func(context.Context, *PolicyAction) (*outcome, error) {
	return func(ctx context.Context, in *PolicyAction) (*outcome, error) {
		_, out, err := a.changePolicy(ctx, in, do)
		return asOutcome(out, err)
	}
}

func (a *API) changePolicy(ctx context.Context, in *PolicyAction, do func(context.Context, store.Change, wire.PolicyID) (wire.Revision, error)) (wire.PolicyID, Outcome, error) {
	c, err := in.change(ctx, in.IfMatch)
	if err != nil {
		return "", Outcome{}, err
	}
	var id wire.PolicyID
	out, err := a.order(ctx, in.how(), func(ctx context.Context) (Touched, wire.Revision, error) {
		p, err := a.store.FindPolicy(ctx, in.Policy)
		if err != nil {
			return Touched{}, 0, err
		}
		id = p.ID
		rev, err := do(ctx, c, id)
		return Touched{Policies: []wire.PolicyID{id}}, rev, err
	})
	return id, out, err
}

func (a *API) enablePolicy(ctx context.Context, c store.Change, id wire.PolicyID) (wire.Revision, error) {
	p, err := a.store.Policy(ctx, id)
	if err != nil {
		return 0, err
	}
	if over(p.EndsAt, c.At) {
		return 0, fail(http.StatusConflict, api.CodeConflict, "policy "+string(id)+" has expired", "give it another expires_at first: enclave policy update "+string(id)+" --expires never")
	}
	return a.store.SetPolicyEnabled(ctx, c, id, true)
}

// checkPolicy returns every mistake of a document at the moment it is written.
func (a *API) checkPolicy(ctx context.Context, p *wire.Policy, now time.Time) error {
	bad := policy.Validate(p, "")
	if len(bad) == 0 {
		bad = checkEnd(p.ExpiresAt, p.ExpiresLocal, now)
	}
	if len(bad) == 0 && p.Kind == wire.Gateway {
		org, err := a.store.Org(ctx)
		if err != nil {
			return refuse(err)
		}
		bad = policy.CheckReach(p, "", org.IPv4, org.IPv6)
	}
	if len(bad) > 0 {
		return invalid(bad...)
	}
	return nil
}

func (a *API) policyCreate(ctx context.Context, in *policyCreate) (*policyOut, error) {
	c, err := in.change(ctx, "")
	if err != nil {
		return nil, err
	}
	if in.Body.ID != "" {
		return nil, invalid(wire.Problem{Path: "id", Message: "is given by the server: leave it out"})
	}
	if err := a.checkPolicy(ctx, &in.Body, c.At); err != nil {
		return nil, err
	}
	var p store.Policy
	out, err := a.order(ctx, in.how(), func(ctx context.Context) (Touched, wire.Revision, error) {
		var rev wire.Revision
		var err error
		p, rev, err = a.store.CreatePolicy(ctx, c, in.Body)
		return Touched{Policies: []wire.PolicyID{p.ID}}, rev, err
	})
	if err != nil {
		return nil, err
	}
	return a.madePolicy(http.StatusCreated, p, out, a.strays(ctx, nil, &in.Body)), nil
}

func (a *API) policyUpdate(ctx context.Context, in *policyUpdate) (*policyOut, error) {
	if err := a.checkPolicy(ctx, &in.Body, a.store.Now()); err != nil {
		return nil, err
	}
	id, out, err := a.changePolicy(ctx, &in.PolicyAction, func(ctx context.Context, c store.Change, id wire.PolicyID) (wire.Revision, error) {
		if in.Body.ID != "" && in.Body.ID != id {
			return 0, invalid(wire.Problem{Path: "id", Message: fmt.Sprintf("is not that of policy %s", id)})
		}
		return a.store.UpdatePolicy(ctx, c, id, in.Body)
	})
	if err != nil {
		return nil, err
	}
	p, err := a.store.Policy(ctx, id)
	return a.madePolicy(http.StatusOK, p, out, a.strays(ctx, nil, &in.Body)), refuse(err)
}

// madePolicy shows a policy after its change, or what a dry run has found.
func (a *API) madePolicy(status int, p store.Policy, o Outcome, warnings []string) *policyOut {
	if o.Impact != nil {
		o.Impact.Warnings = warnings
		return &policyOut{Status: http.StatusOK, Body: either[api.Policy]{impact: o.Impact}}
	}
	out := a.showPolicy(status, p)
	out.Body.done.Warnings = warnings
	out.Made = made(o)
	return out
}

// strays warns of tags that no system carries: a policy may well come before its systems,
// and as well hold a slip of the pen. Where requirements are described, it also warns of
// those that are not; known are the ones in force when it is nil.
func (a *API) strays(ctx context.Context, known []string, docs ...*wire.Policy) (out []string) {
	used, err := a.store.Tags(ctx)
	if err == nil && known == nil {
		var list []store.Requirement
		list, err = a.store.Requirements(ctx)
		for _, q := range list {
			known = append(known, q.ID)
		}
	}
	if err != nil {
		a.log.Warn("no look for strays after a change of policies", "error", err)
		return nil
	}
	carried := make(map[wire.Tag]*store.Tag, len(used))
	for i := range used {
		carried[used[i].Name] = &used[i]
	}
	said := make(map[string]bool)
	warn := func(what, format string, args ...any) {
		if !said[what] && len(out) < maxWarnings {
			said[what] = true
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	for _, doc := range docs {
		for _, tag := range slices.Concat(doc.SenderTags, doc.ReceiverTags) {
			t := carried[tag]
			switch {
			case t == nil || t.Systems+t.Keys == 0:
				warn("tag "+string(tag), "no system carries the tag %s of policy %q", tag, doc.Name)
			case t.Systems == 0:
				warn("tag "+string(tag), "no system carries the tag %s of policy %q yet; an enrolment key gives it", tag, doc.Name)
			}
		}
		for _, q := range slices.Concat(doc.SenderTrust, doc.RecvTrust) {
			if len(known) > 0 && !slices.Contains(known, q) {
				warn("trust "+q, "nobody has described the requirement %q of policy %q: only marks meet it", q, doc.Name)
			}
		}
	}
	a.overreach(ctx, docs, warn)
	return out
}

// overreach warns of gateways that are named for what they may not carry: nothing of that
// is reached, and the policy may well come before the routes.
func (a *API) overreach(ctx context.Context, docs []*wire.Policy, warn func(what, format string, args ...any)) {
	if !slices.ContainsFunc(docs, func(p *wire.Policy) bool { return len(p.Gateways) > 0 }) {
		return
	}
	org, err := a.store.Org(ctx)
	if err != nil {
		a.log.Warn("no look for what gateways may carry after a change of policies", "error", err)
		return
	}
	clear(org.CAKey)
	clear(org.TicketKey)
	gates := make(map[wire.SystemID]*store.System) // nil is not there
	carries := func(id wire.SystemID) []netip.Prefix {
		s, asked := gates[id]
		if !asked {
			if found, err := a.store.System(ctx, id); err == nil {
				s = &found
			}
			gates[id] = s
		}
		if s == nil {
			return nil
		}
		may := make([]netip.Prefix, len(s.Routes))
		for i, r := range s.Routes {
			may[i] = r.Shown()
		}
		return may
	}
	for _, doc := range docs {
		lacking := policy.Lacking(doc, []netip.Prefix{org.IPv4, org.IPv6}, carries)
		for _, id := range slices.Sorted(maps.Keys(lacking)) {
			more, name := "", gates[id].Name
			if n := len(lacking[id]); n > 1 {
				more = fmt.Sprintf(" and more (%d ranges)", n)
			}
			warn("gateway "+string(id)+" "+doc.Name, "gateway %s of policy %q may not carry %s%s: \"enclave system route add %s SUBNET\" lets it", name, doc.Name, lacking[id][0], more, name)
		}
	}
}

// maxWarnings is how many warnings one answer holds.
const maxWarnings = 100

func (a *API) showPolicy(status int, p store.Policy) *policyOut {
	return &policyOut{Status: status, ETag: etag(p.Version), Body: either[api.Policy]{done: a.policyView(&p, a.store.Now())}}
}

func (a *API) policyView(p *store.Policy, now time.Time) api.Policy {
	v := api.Policy{Policy: p.Policy, State: a.control.PolicyState(p.ID, now), Version: p.Version}
	v.ExpiresAt = orNil(p.EndsAt) // also of one on a wall clock: a reader needs no zones
	v.SenderTags, v.ACLs = orEmpty(v.SenderTags), orEmpty(v.ACLs)
	return v
}

func policyCursor(p *store.Policy) string {
	return fmt.Sprintf("%020d-%s", p.CreatedAt.UnixNano(), p.ID)
}

// readPolicyCursor reads what policyCursor writes; "" is before all.
func readPolicyCursor(s string) (made time.Time, id wire.PolicyID, err error) {
	if s == "" {
		return time.Time{}, "", nil
	}
	at, rest, ok := strings.Cut(s, "-")
	ns, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil || len(at) != 20 || ns < 0 {
		return time.Time{}, "", invalid(wire.Problem{Path: "after", Message: "is no next of this list: leave it out to begin again"})
	}
	return time.Unix(0, ns), wire.PolicyID(rest), nil
}
