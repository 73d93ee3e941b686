package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"enclave/control/policy"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

// longestConfirm bounds how long a change may wait for its confirmation.
const longestConfirm = 24 * time.Hour

type (
	setQuery struct {
		Revision uint64 `query:"revision" doc:"As it was at this revision; 0 is now"`
	}
	setOut struct {
		ETag string `header:"ETag"`
		Body wire.PolicySet
	}
	// rawSet is a policy set as it came, for the parser that names every mistake.
	rawSet struct{ json.RawMessage }

	setApply struct {
		Precondition
		Wanted
		Body struct {
			Set           rawSet   `json:"set"`
			Reason        string   `json:"reason,omitempty"`
			ConfirmWithin int      `json:"confirm_within_seconds,omitempty" doc:"Reverts by itself after so long unless it is confirmed; 0 keeps it"`
			Force         []string `json:"force,omitempty" doc:"Tests that it may break"`
		}
	}
	setApplied  struct{ Body either[api.Applied] }
	RevisionRef struct {
		Revision uint64 `path:"revision" minimum:"1"`
	}
	revisionsQuery struct {
		Paging
		All bool `query:"all" doc:"Also revisions that did not change the policy set"`
	}
	revisionList    struct{ Body api.Page[api.RevisionEntry] }
	revisionShown   struct{ Body api.Revision }
	revisionAgo     struct{ RevisionRef }
	revisionBetween struct {
		RevisionRef
		To uint64 `query:"to" doc:"Compare with this revision; 0 is now"`
	}
	revisionDiff    struct{ Body api.SetDiff }
	revisionRestore struct {
		RevisionRef
		Wanted
	}
)

// Schema is that of a policy set.
func (rawSet) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[wire.PolicySet](), true, "PolicySet")
}

func (a *API) routePolicySet() {
	route(a, "policyset-get", a.setGet)
	route(a, "policyset-apply", a.setApply)
	route(a, "policyset-confirm", func(ctx context.Context, in *Wanted) (*outcome, error) {
		c, err := in.change(ctx, "")
		if err != nil {
			return nil, err
		}
		return asOutcome(a.order(ctx, How{DryRun: in.DryRun}, func(ctx context.Context) (Touched, wire.Revision, error) {
			rev, err := a.store.Confirm(ctx, c)
			return Touched{Rules: true}, rev, err
		}))
	})
	route(a, "revision-list", a.revisionList)
	route(a, "revision-get", func(ctx context.Context, in *revisionAgo) (*revisionShown, error) {
		e, err := a.store.FindRevision(ctx, wire.Revision(in.Revision))
		if err != nil {
			return nil, refuse(err)
		}
		set, err := a.store.PolicySetAt(ctx, e.Revision)
		return &revisionShown{api.Revision{RevisionEntry: entryView(&e), Set: set}}, refuse(err)
	})
	route(a, "revision-diff", a.revisionDiff)
	route(a, "revision-restore", func(ctx context.Context, in *revisionRestore) (*outcome, error) {
		c, err := in.change(ctx, "")
		if err != nil {
			return nil, err
		}
		return asOutcome(a.order(ctx, in.how(), func(ctx context.Context) (Touched, wire.Revision, error) {
			done, err := a.store.Restore(ctx, c, wire.Revision(in.Revision))
			return Touched{Policies: done.Policies(), Rules: true}, done.Revision, err
		}))
	})
	a.mux.HandleFunc("GET "+Prefix+"/policyset/schema.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/schema+json")
		_, _ = w.Write(policy.SetSchema()) // the client is gone if this fails
	})
}

// setVersion is the last revision that changed the policy set.
func (a *API) setVersion(ctx context.Context) (wire.Revision, error) {
	list, err := a.store.Revisions(ctx, store.RevisionQuery{Sets: true, Limit: 1})
	if err != nil || len(list) == 0 {
		return 0, err
	}
	return list[0].Revision, nil
}

func (a *API) setGet(ctx context.Context, in *setQuery) (*setOut, error) {
	if in.Revision != 0 {
		set, err := a.store.PolicySetAt(ctx, wire.Revision(in.Revision))
		return &setOut{Body: set}, refuse(err)
	}
	version, err := a.setVersion(ctx) // first: an ETag may be too old, never too new
	if err != nil {
		return nil, refuse(err)
	}
	set, _, err := a.store.PolicySet(ctx)
	return &setOut{etag(version), set}, refuse(err)
}

func (a *API) setApply(ctx context.Context, in *setApply) (*setApplied, error) {
	if in.Body.Reason != "" {
		in.Reason = in.Body.Reason
	}
	c, err := in.change(ctx, in.IfMatch)
	if err != nil {
		return nil, err
	}
	set, bad := policy.ParseSet(in.Body.Set.RawMessage)
	if len(in.Reason) > wire.MaxNotesLen {
		bad = append(bad, wire.Problem{Path: "reason", Message: fmt.Sprintf("%d bytes, at most %d", len(in.Reason), wire.MaxNotesLen)})
	}
	within := time.Duration(in.Body.ConfirmWithin) * time.Second
	if in.Body.ConfirmWithin < 0 || within > longestConfirm {
		bad = append(bad, wire.Problem{Path: "confirm_within_seconds", Message: fmt.Sprintf("want 0 to %d", longestConfirm/time.Second)})
	}
	if len(bad) > 0 {
		return nil, invalid(bad...)
	}
	var confirmBy time.Time
	if within > 0 {
		confirmBy = c.At.Add(within)
	}
	how := in.how()
	how.Impact, how.Force = true, append(how.Force, in.Body.Force...)
	var done store.SetApplied
	out, err := a.order(ctx, how, func(ctx context.Context) (Touched, wire.Revision, error) {
		if err := a.checkSetNow(ctx, &set, c); err != nil {
			return Touched{}, 0, err
		}
		var err error
		done, err = a.store.ApplySet(ctx, c, set, confirmBy)
		return Touched{Policies: done.Policies(), Rules: true}, done.Revision, err
	})
	if err != nil {
		return nil, err
	}
	docs := make([]*wire.Policy, len(set.Policies))
	for i := range set.Policies {
		docs[i] = &set.Policies[i]
	}
	known := make([]string, len(set.Requirements))
	for i := range set.Requirements {
		known[i] = set.Requirements[i].ID
	}
	out.Impact.Warnings = a.strays(ctx, known, docs...)
	if how.DryRun {
		return &setApplied{either[api.Applied]{impact: out.Impact}}, nil
	}
	answer := api.Applied{Changed: out.Changed, Impact: *out.Impact}
	if within > 0 && done.Base != done.Revision {
		answer.ConfirmBy = &confirmBy
	}
	return &setApplied{either[api.Applied]{done: answer}}, nil
}

// checkSetNow refuses what a set may not say at this moment: what was read is older
// than what stands, or an instant that is past and did not stand there before.
func (a *API) checkSetNow(ctx context.Context, set *wire.PolicySet, c store.Change) error {
	if c.IfMatch != 0 {
		if version, err := a.setVersion(ctx); err != nil || version != c.IfMatch {
			return fmt.Errorf("policy set: %w (version %d, you have %d)", orErr(err, store.ErrStale), version, c.IfMatch)
		}
	}
	stored, err := a.store.Policies(ctx)
	if err != nil {
		return err
	}
	org, err := a.store.Org(ctx)
	if err != nil {
		return err
	}
	var bad []wire.Problem
	for i := range set.Policies {
		p := &set.Policies[i]
		bad = append(bad, policy.CheckReach(p, fmt.Sprintf("policies[%d]", i), org.IPv4, org.IPv6)...)
		end, err := p.Expiry()
		if err != nil || end.IsZero() || end.After(c.At) {
			continue
		}
		if !slices.ContainsFunc(stored, func(o store.Policy) bool { return (o.ID == p.ID || o.Name == p.Name) && o.EndsAt.Equal(end) }) {
			field := "expires_at"
			if p.ExpiresLocal != nil {
				field = "expires_local"
			}
			bad = append(bad, wire.Problem{Path: fmt.Sprintf("policies[%d].%s", i, field), Message: "is in the past"})
		}
	}
	if len(bad) > 0 {
		return invalid(bad...)
	}
	return nil
}

func orErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

func (a *API) revisionList(ctx context.Context, in *revisionsQuery) (*revisionList, error) {
	var before uint64
	if in.After != "" {
		var err error
		if before, err = strconv.ParseUint(in.After, 10, 63); err != nil || before == 0 {
			return nil, invalid(wire.Problem{Path: "after", Message: "is no next of a page before"})
		}
	}
	list, err := a.store.Revisions(ctx, store.RevisionQuery{Before: wire.Revision(before), Sets: !in.All, Limit: in.Limit})
	if err != nil {
		return nil, refuse(err)
	}
	out := api.Page[api.RevisionEntry]{Items: []api.RevisionEntry{}}
	names := a.naming()
	for i := range list {
		e := entryView(&list[i])
		e.ObjectName = names.of(ctx, e.Object)
		out.Items = append(out.Items, e)
	}
	if len(list) == in.Limit {
		out.Next = strconv.FormatUint(uint64(list[len(list)-1].Revision), 10)
	}
	return &revisionList{out}, nil
}

func entryView(r *store.Revision) api.RevisionEntry {
	return api.RevisionEntry{Revision: r.Revision, At: r.At, Author: string(r.Actor), Action: r.Action, Object: r.Object, Reason: r.Reason, Pending: orNil(r.Deadline)}
}

func (a *API) revisionDiff(ctx context.Context, in *revisionBetween) (*revisionDiff, error) {
	from, err := a.store.PolicySetAt(ctx, wire.Revision(in.Revision))
	if err != nil {
		return nil, refuse(err)
	}
	var to wire.PolicySet
	other := wire.Revision(in.To)
	if other == 0 {
		to, other, err = a.store.PolicySet(ctx)
	} else {
		to, err = a.store.PolicySetAt(ctx, other)
	}
	if err != nil {
		return nil, refuse(err)
	}
	out := api.SetDiff{From: wire.Revision(in.Revision), To: other, Changes: []api.PartChange{}}
	diffParts(&out, "policy", from.Policies, to.Policies, func(p *wire.Policy) (string, string) { return string(p.ID), p.Name })
	diffParts(&out, "requirement", from.Requirements, to.Requirements, func(q *wire.Requirement) (string, string) { return q.ID, "" })
	diffParts(&out, "tag", from.Tags, to.Tags, func(t *wire.TagTrust) (string, string) { return string(t.Name), "" })
	tests := func(set *wire.PolicySet) (list [][]wire.Assertion) {
		if len(set.Tests) > 0 {
			list = append(list, set.Tests)
		}
		return list
	}
	diffParts(&out, "tests", tests(&from), tests(&to), func(*[]wire.Assertion) (string, string) { return "", "" })
	return &revisionDiff{out}, nil
}

// diffParts compares lists of documents that are known by an ID.
func diffParts[T any](out *api.SetDiff, part string, from, to []T, key func(*T) (id, name string)) {
	add := func(doc *T, change string, before, after json.RawMessage) {
		id, name := key(doc)
		out.Changes = append(out.Changes, api.PartChange{Part: part, ID: id, Name: name, Change: change, Before: before, After: after})
	}
	text := func(doc *T) json.RawMessage {
		b, err := json.Marshal(doc)
		if err != nil {
			panic(err) // it was JSON when it was stored
		}
		return b
	}
	old := make(map[string]json.RawMessage, len(from))
	for i := range from {
		id, _ := key(&from[i])
		old[id] = text(&from[i])
	}
	there := make(map[string]bool, len(to))
	for i := range to {
		id, _ := key(&to[i])
		there[id] = true
		switch before, after := old[id], text(&to[i]); {
		case before == nil:
			add(&to[i], "added", nil, after)
		case !bytes.Equal(before, after):
			add(&to[i], "changed", before, after)
		}
	}
	for i := range from {
		if id, _ := key(&from[i]); !there[id] {
			add(&from[i], "removed", old[id], nil)
		}
	}
}
