package admin

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"enclave/control/policy"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/find"
)

type (
	SystemRef struct {
		System string `path:"system" maxLength:"128" doc:"ID or name"`
	}
	SystemAction struct {
		SystemRef
		Precondition
		Wanted
	}
	systemBody struct {
		ETag string `header:"ETag"`
		Made
		Body either[api.System]
	}
	systemList struct{ Body api.Page[api.System] }

	systemQuery struct {
		Paging
		Search string           `query:"search" maxLength:"128" doc:"Words, each a part of the name, hostname, a tag or the notes, or the beginning of the ID (from 3 characters) or of an address (with its first dot or colon)"`
		Tag    string           `query:"tag" maxLength:"64"`
		State  wire.SystemState `query:"state" enum:"pending,connected,disconnected,disabled,revoked"`
	}
	systemUpdate struct {
		SystemAction
		Body struct {
			Name         *string           `json:"name,omitempty" maxLength:"63"`
			Notes        *string           `json:"notes,omitempty" maxLength:"4096"`
			ExpiresAt    instant           `json:"expires_at,omitempty" doc:"null is never"`
			ExpiresLocal *wire.LocalTime   `json:"expires_local,omitempty" doc:"In place of expires_at: a time on the wall clock of a zone"`
			ExpiryAction wire.ExpiryAction `json:"expiry_action,omitempty" enum:"disable,delete" doc:"disable when absent; with an expiry only"`
		}
	}
	systemTags struct {
		SystemAction
		Body struct {
			Add    []wire.Tag `json:"add,omitempty" maxItems:"64"`
			Remove []wire.Tag `json:"remove,omitempty" maxItems:"64"`
		}
	}
	systemRoutes struct {
		SystemAction
		Body struct {
			Add    []routeBody `json:"add,omitempty" maxItems:"64"`
			Remove []string    `json:"remove,omitempty" maxItems:"64" doc:"Subnets as they are shown"`
		}
	}
	routeBody struct {
		Subnet string `json:"subnet" maxLength:"64" doc:"CIDR without host bits, or one address"`
		As     string `json:"as,omitempty" maxLength:"64" doc:"How senders know it: a CIDR of the same size"`
	}
	TrustRef struct {
		SystemAction
		Requirement string `path:"requirement" maxLength:"64"`
	}
	trustMark struct {
		TrustRef
		Body *struct {
			Until  *time.Time `json:"until,omitempty" doc:"Absent is for ever"`
			Claims claims     `json:"claims,omitempty" doc:"Those of the sign-in; they must meet the requirement's conditions"`
		}
	}
	systemAdd struct {
		SystemAction
		Other string `path:"other" maxLength:"128" doc:"ID or name"`
	}
)

func (a *API) routeSystems() {
	route(a, "system-list", a.systemList)
	route(a, "system-get", func(ctx context.Context, in *SystemRef) (*systemBody, error) {
		s, err := a.store.FindSystem(ctx, in.System)
		return a.showSystem(s), refuse(err)
	})
	route(a, "system-update", a.systemUpdate)
	route(a, "system-delete", a.systemAction(a.store.DeleteSystem))
	route(a, "system-approve", a.systemAction(a.store.Approve))
	// Revoking asks no test: nothing may stand between an administrator and the end of
	// a stolen identity.
	route(a, "system-revoke", func(ctx context.Context, in *SystemAction) (*outcome, error) {
		var enrolledBy wire.KeyID
		o, err := a.orderSystem(ctx, in, How{DryRun: in.DryRun}, func(ctx context.Context, c store.Change, id wire.SystemID) (wire.Revision, error) {
			if s, err := a.store.System(ctx, id); err == nil {
				enrolledBy = s.Key
			}
			return a.store.Revoke(ctx, c, id)
		})
		if err == nil {
			o.Warnings = a.stillEnrols(ctx, enrolledBy)
		}
		return asOutcome(o, err)
	})
	route(a, "system-disable", a.systemAction(func(ctx context.Context, c store.Change, id wire.SystemID) (wire.Revision, error) {
		return a.store.SetEnabled(ctx, c, id, false)
	}))
	route(a, "system-enable", a.systemAction(a.enableSystem))
	route(a, "system-tags", a.systemTags)
	route(a, "system-routes", a.systemRoutes)
	route(a, "system-trust", func(ctx context.Context, in *trustMark) (*outcome, error) {
		m := store.TrustMark{Requirement: in.Requirement}
		if in.Body != nil {
			m.Claims = in.Body.Claims.plain()
			if in.Body.Until != nil {
				m.Until = *in.Body.Until
			}
		}
		return a.systemAction(func(ctx context.Context, c store.Change, id wire.SystemID) (wire.Revision, error) {
			if over(m.Until, c.At) {
				return 0, invalid(wire.Problem{Path: "until", Message: "is in the past"})
			}
			if err := a.checkMark(&m); err != nil {
				return 0, err
			}
			return a.store.MarkTrust(ctx, c, id, m)
		})(ctx, &in.SystemAction)
	})
	add := func(on bool) func(ctx context.Context, in *systemAdd) (*outcome, error) {
		return func(ctx context.Context, in *systemAdd) (*outcome, error) {
			return a.systemAction(func(ctx context.Context, c store.Change, id wire.SystemID) (wire.Revision, error) {
				other, err := a.store.FindSystem(ctx, in.Other)
				if err != nil {
					return 0, err
				}
				return a.store.SetAdd(ctx, c, id, other.ID, on)
			})(ctx, &in.SystemAction)
		}
	}
	route(a, "system-add", add(true))
	route(a, "system-unadd", add(false))
	route(a, "system-untrust", func(ctx context.Context, in *TrustRef) (*outcome, error) {
		return a.systemAction(func(ctx context.Context, c store.Change, id wire.SystemID) (wire.Revision, error) {
			return a.store.UnmarkTrust(ctx, c, id, in.Requirement)
		})(ctx, &in.SystemAction)
	})
}

// systemAction makes a handler of a change to one system.
func (a *API) systemAction(do func(context.Context, store.Change, wire.SystemID) (wire.Revision, error)) func(context.Context, *SystemAction) (*outcome, error) {
	return func(ctx context.Context, in *SystemAction) (*outcome, error) {
		return asOutcome(a.orderSystem(ctx, in, in.how(), do))
	}
}

// orderSystem runs do on the system that in names, in the turn, so that nobody else
// changes it between finding it and changing it.
func (a *API) orderSystem(ctx context.Context, in *SystemAction, how How, do func(context.Context, store.Change, wire.SystemID) (wire.Revision, error)) (Outcome, error) {
	c, err := in.change(ctx, in.IfMatch)
	if err != nil {
		return Outcome{}, err
	}
	return a.order(ctx, how, func(ctx context.Context) (Touched, wire.Revision, error) {
		s, err := a.store.FindSystem(ctx, in.System)
		if err != nil {
			return Touched{}, 0, err
		}
		rev, err := do(ctx, c, s.ID)
		return Touched{Systems: []wire.SystemID{s.ID}}, rev, err
	})
}

// stillEnrols warns of the key by which a system that was revoked had enrolled: where it lay
// on that machine, whoever has the machine enrols it again.
func (a *API) stillEnrols(ctx context.Context, id wire.KeyID) []string {
	k, err := a.store.FindKey(ctx, string(id))
	if err != nil || !k.Enabled || over(k.ExpiresAt, a.store.Now()) || k.UsesLeft != nil && *k.UsesLeft == 0 {
		return nil // gone, or it lets nobody in
	}
	return []string{fmt.Sprintf("the enrolment key %s (%s), by which it came, still lets systems in: if it may lie on that machine, run \"enclave key disable %s\"", k.ID, k.Name, k.ID)}
}

func (a *API) enableSystem(ctx context.Context, c store.Change, id wire.SystemID) (wire.Revision, error) {
	s, err := a.store.System(ctx, id)
	if err != nil {
		return 0, err
	}
	if over(s.ExpiresAt, c.At) {
		return 0, fail(http.StatusConflict, api.CodeConflict, "system "+string(id)+" has expired", "give it another expires_at first: enclave system update "+string(id)+" --expires never")
	}
	return a.store.SetEnabled(ctx, c, id, true)
}

// systemUpdate makes the changes of a PATCH one: one revision and one record, or none.
func (a *API) systemUpdate(ctx context.Context, in *systemUpdate) (*systemBody, error) {
	b := &in.Body
	now := a.store.Now()
	var bad []wire.Problem
	if b.Name != nil {
		if _, err := wire.ParseName(*b.Name); err != nil {
			bad = append(bad, wire.Problem{Path: "name", Message: err.Error()})
		}
	}
	bad = append(bad, checkEnd(b.ExpiresAt.Value, b.ExpiresLocal, now)...)
	if b.Notes != nil {
		bad = append(bad, policy.CheckText("notes", *b.Notes, wire.MaxNotesLen, true)...)
	}
	ends := b.ExpiresAt.Set || b.ExpiresLocal != nil
	if b.ExpiryAction != "" && b.ExpiresAt.Value == nil && b.ExpiresLocal == nil {
		bad = append(bad, wire.Problem{Path: "expiry_action", Message: "goes with expires_at or expires_local"})
	}
	if b.Name == nil && b.Notes == nil && !ends {
		bad = append(bad, wire.Problem{Message: "nothing to change: give name, notes, expires_at or expires_local"})
	}
	if len(bad) > 0 {
		return nil, invalid(bad...)
	}
	var id wire.SystemID
	out, err := a.orderSystem(ctx, &in.SystemAction, in.how(), func(ctx context.Context, c store.Change, found wire.SystemID) (rev wire.Revision, err error) {
		id = found
		return a.store.Together(ctx, c, "system.update", func(ctx context.Context) (err error) {
			step := func(do func() (wire.Revision, error)) {
				if err == nil {
					_, err = do()
					c.IfMatch = 0 // it counts for the first
				}
			}
			if b.Name != nil {
				step(func() (wire.Revision, error) { return a.store.Rename(ctx, c, id, *b.Name) })
			}
			if b.Notes != nil {
				step(func() (wire.Revision, error) { return a.store.SetNotes(ctx, c, id, *b.Notes) })
			}
			if ends {
				end := store.End{Local: b.ExpiresLocal, Action: b.ExpiryAction}
				if b.ExpiresAt.Value != nil {
					end.At = *b.ExpiresAt.Value
				}
				step(func() (wire.Revision, error) { return a.store.SetSystemExpiry(ctx, c, id, end) })
			}
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	if out.Impact != nil {
		return &systemBody{Body: either[api.System]{impact: out.Impact}}, nil
	}
	s, err := a.store.System(ctx, id)
	show := a.showSystem(s)
	show.Made = made(out)
	return show, refuse(err)
}

// systemTags adds and removes in one revision: the system's peers see the end alone.
func (a *API) systemTags(ctx context.Context, in *systemTags) (*outcome, error) {
	var bad []wire.Problem
	for i, t := range in.Body.Add {
		if slices.Contains(in.Body.Remove, t) {
			bad = append(bad, wire.Problem{Path: fmt.Sprintf("add[%d]", i), Message: "is in remove, too"})
		}
	}
	if len(in.Body.Add)+len(in.Body.Remove) == 0 {
		bad = append(bad, wire.Problem{Message: "nothing to change: give add or remove"})
	}
	if len(bad) > 0 {
		return nil, invalid(bad...)
	}
	return asOutcome(a.orderSystem(ctx, &in.SystemAction, in.how(), func(ctx context.Context, c store.Change, id wire.SystemID) (rev wire.Revision, err error) {
		return a.store.Together(ctx, c, "system.tag", func(ctx context.Context) (err error) {
			if len(in.Body.Add) > 0 {
				if _, err = a.store.AddTags(ctx, c, id, in.Body.Add...); err != nil {
					return err
				}
				c.IfMatch = 0 // it counts for the first
			}
			if len(in.Body.Remove) > 0 {
				_, err = a.store.RemoveTags(ctx, c, id, in.Body.Remove...)
			}
			return err
		})
	}))
}

// systemBatch is how many systems are read at once at most.
const systemBatch = 2000

// systemList reads on from the cursor until the page is full: a page of all systems costs
// a page, one of those that a filter keeps what stands between them.
func (a *API) systemList(ctx context.Context, in *systemQuery) (*systemList, error) {
	n := in.Limit + 1 // one more tells whether there is a next page
	var kept []store.System
	now, after := a.store.Now(), wire.SystemID(in.After)
	for len(kept) <= in.Limit {
		batch, err := a.store.SystemsAfter(ctx, after, n)
		if err != nil {
			return nil, refuse(err)
		}
		for _, s := range batch {
			a.withLive(&s)
			if in.matches(&s, now) {
				kept = append(kept, s)
			}
		}
		if len(batch) < n {
			break
		}
		after, n = batch[len(batch)-1].ID, min(2*n, systemBatch) // few are kept: more at a time
	}
	out := page(kept, in.Paging, func(s *store.System) string { return string(s.ID) },
		func(s *store.System) api.System { return systemView(s, now) })
	return &systemList{out}, nil
}

func (q *systemQuery) matches(s *store.System, now time.Time) bool {
	if q.State != "" && s.State(now) != q.State || q.Tag != "" && !slices.Contains(s.Tags, wire.Tag(q.Tag)) {
		return false
	}
	if q.Search == "" {
		return true
	}
	t := find.Thing{Names: []string{s.Name, s.Host.Hostname}, Texts: []string{s.Notes}, IDs: []string{string(s.ID)}, Addrs: []netip.Addr{s.IPv4, s.IPv6}}
	for _, tag := range s.Tags {
		t.Texts = append(t.Texts, string(tag))
	}
	return t.Found(q.Search)
}

// withLive replaces what the store says of where a system is by what the control plane
// knows while it is connected.
func (a *API) withLive(s *store.System) {
	live, ok := a.control.Live(s.ID)
	if ok {
		s.Live = live
	} else {
		s.Live.Online = false
	}
}

func (a *API) showSystem(s store.System) *systemBody {
	a.withLive(&s)
	return &systemBody{ETag: etag(s.Version), Body: either[api.System]{done: systemView(&s, a.store.Now())}}
}

func systemView(s *store.System, now time.Time) api.System {
	v := api.System{
		ID: s.ID, Name: s.Name, State: s.State(now), Kind: s.Kind, Tags: orEmpty(s.Tags), IPv4: s.IPv4, IPv6: s.IPv6,
		Host: s.Host, Key: s.Key, NAT: s.Live.Reach.NAT, Relay: s.Live.Reach.Relay, SeenFrom: s.Live.SeenFrom,
		Applied: s.Live.Applied, EnrolledAt: s.EnrolledAt, ConnectedAt: orNil(s.Live.ConnectedAt), LastSeen: orNil(s.Live.LastSeen),
		ExpiresAt: orNil(s.ExpiresAt), ExpiresLocal: s.ExpiresLocal, ExpiryAction: s.ExpiryAction, Notes: s.Notes, Version: s.Version, Adds: s.Adds, Routes: s.Routes,
	}
	for _, m := range s.Trust {
		v.Trust = append(v.Trust, api.TrustMark{Requirement: m.Requirement, Until: m.Until})
	}
	return v
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func over(end, now time.Time) bool { return !end.IsZero() && !now.Before(end) }
