package admin

import (
	"context"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"enclave/store"
	"enclave/wire/api"
)

const (
	// streamWrite bounds one write to a follower.
	streamWrite = 30 * time.Second
	// streamBeat is how often a quiet stream sends an empty line, so that each end
	// notices when the other is gone.
	streamBeat = 15 * time.Second
)

type (
	activityQuery struct {
		After int64 `query:"after" minimum:"0" doc:"Sequence number of the last record already read"`
		Limit int   `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}
	activityList struct{ Body api.Page[api.Activity] }
	followQuery  struct {
		After int64 `query:"after" minimum:"-1" default:"-1" doc:"Begin after this record; -1 begins with the next to come"`
	}
	follow struct{ Body func(huma.Context) }
)

// routeActivity answers with the audit trail in the shape that programs know from before
// it.
func (a *API) routeActivity() {
	route(a, "activity-list", func(ctx context.Context, in *activityQuery) (*activityList, error) {
		list, err := a.store.Audit(ctx, store.AuditQuery{After: in.After, Limit: in.Limit})
		if err != nil {
			return nil, refuse(err)
		}
		out := api.Page[api.Activity]{Items: []api.Activity{}}
		for i := range list {
			out.Items = append(out.Items, activityView(&list[i]))
		}
		if len(list) == in.Limit {
			out.Next = strconv.FormatInt(list[len(list)-1].Seq, 10)
		}
		return &activityList{out}, nil
	})
	route(a, "activity-stream", func(ctx context.Context, in *followQuery) (*follow, error) {
		return a.streaming(ctx, in.After, store.AuditQuery{}, func(e *store.Entry) any { return activityView(e) })
	})
}

func activityView(r *store.Entry) api.Activity {
	return api.Activity{Seq: r.Seq, At: r.At, Actor: r.Actor, Action: r.Action, Object: r.Object, Revision: r.Revision, Detail: r.Clear}
}
