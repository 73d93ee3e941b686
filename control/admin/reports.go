package admin

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

type (
	flowList   struct{ Body api.Page[api.LiveFlow] }
	deniedList struct{ Body api.Page[api.Denied] }
	pathList   struct{ Body api.Page[api.PeerPath] }
	peersQuery struct { // the answer is whole, whatever is asked for: it is of one moment
		SystemRef
		Paging
	}
	flowCut struct {
		DryRun bool   `query:"dry_run" doc:"Tell which flows it would end, and end none"`
		Reason string `query:"reason" maxLength:"4096" doc:"Why, for the audit trail"`
		Body   struct {
			From  string     `json:"from" maxLength:"128" doc:"System that opened them, by ID or name"`
			To    string     `json:"to" maxLength:"128" doc:"System that answers, or the gateway to it, by ID or name"`
			Proto wire.Proto `json:"protocol,omitempty" doc:"Only of this protocol"`
			Port  uint16     `json:"port,omitempty" doc:"Only to this port"`
			Src   string     `json:"src,omitempty" maxLength:"64" doc:"Only from this address and port"`
			Dst   string     `json:"dst,omitempty" maxLength:"64" doc:"Only to this address and port"`
		}
	}
	flowsCut struct{ Body api.FlowsCut }
)

// maxCut is how many flows one request ends.
const maxCut = wire.MaxReportedFlows

func (a *API) routeReports() {
	route(a, "flow-list", func(ctx context.Context, _ *Paging) (*flowList, error) {
		return &flowList{api.Page[api.LiveFlow]{Items: orEmpty(a.answers.Flows(ctx))}}, nil
	})
	route(a, "denied-list", func(ctx context.Context, _ *Paging) (*deniedList, error) {
		return &deniedList{api.Page[api.Denied]{Items: orEmpty(a.answers.Denied(ctx))}}, nil
	})
	route(a, "system-peers", func(ctx context.Context, in *peersQuery) (*pathList, error) {
		s, err := a.store.FindSystem(ctx, in.System)
		if err != nil {
			return nil, refuse(err)
		}
		list, ok := a.answers.Paths(ctx, s.ID)
		if !ok {
			return nil, fail(http.StatusServiceUnavailable, api.CodeTryAgain, fmt.Sprintf("the agent of %s does not answer", s.Name), "it may be disconnected: see \"enclave system show\"")
		}
		return &pathList{api.Page[api.PeerPath]{Items: orEmpty(list)}}, nil
	})
	route(a, "flow-cut", a.cutFlows)
}

// cutFlows ends live flows by hand. The record comes first, so that no flow ends without
// one; what is still allowed may be opened again.
func (a *API) cutFlows(ctx context.Context, in *flowCut) (*flowsCut, error) {
	c, err := change(ctx, "")
	if err != nil {
		return nil, err
	}
	c.Reason = in.Reason
	from, err := a.store.FindSystem(ctx, in.Body.From)
	if err != nil {
		return nil, refuse(err)
	}
	to, err := a.store.FindSystem(ctx, in.Body.To)
	if err != nil {
		return nil, refuse(err)
	}
	list := []api.LiveFlow{}
	for _, f := range a.answers.Flows(ctx) {
		b := &in.Body
		if f.From == from.ID && f.To == to.ID && (b.Proto == 0 || b.Proto == f.Proto) && (b.Port == 0 || b.Port == f.Dst.Port()) &&
			(b.Src == "" || b.Src == f.Src.String()) && (b.Dst == "" || b.Dst == f.Dst.String()) {
			list = append(list, f)
		}
	}
	switch {
	case len(list) == 0:
		return nil, fail(http.StatusNotFound, api.CodeNotFound, fmt.Sprintf("no such flow from %s to %s lives now", from.Name, to.Name), "\"enclave flows\" lists those that do")
	case len(list) > maxCut:
		return nil, fail(http.StatusUnprocessableEntity, api.CodeTooLarge, fmt.Sprintf("%d flows, at most %d at once", len(list), maxCut), "name a protocol and a port, or disable the policy")
	case in.DryRun:
		return &flowsCut{api.FlowsCut{Flows: list}}, nil
	}
	if err := a.recordCut(ctx, c, &from, &to, list); err != nil {
		return nil, refuse(err)
	}
	ends := a.answers.CutFlows(ctx, list, "cut by hand by "+principal(ctx).Name)
	if ends == 0 {
		return nil, fail(http.StatusServiceUnavailable, api.CodeTryAgain, "neither end has said that it ended the flow", "look whether it still lives: \"enclave flows\"")
	}
	return &flowsCut{api.FlowsCut{Flows: list, Ends: ends}}, nil
}

// namedCuts is how many flows the record of a cut names; it counts all.
const namedCuts = 20

func (a *API) recordCut(ctx context.Context, c store.Change, from, to *store.System, list []api.LiveFlow) error {
	type flow struct {
		Flow   string        `json:"flow"`
		Policy wire.PolicyID `json:"policy,omitempty"`
		Rule   int           `json:"rule"`
		Run    string        `json:"run,omitempty"`
		Since  time.Time     `json:"since"`
		Bytes  uint64        `json:"bytes"`
	}
	var named []flow
	for _, f := range list[:min(len(list), namedCuts)] {
		named = append(named, flow{f.Flow.String(), f.Policy, f.Rule, f.Run, f.Since, f.Bytes})
	}
	return a.store.Record(ctx, c, "flow.cut", "system:"+string(to.ID), map[string]any{"from": from.ID, "flows": len(list), "named": named})
}
