package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

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
		after := in.After
		if after < 0 {
			last, err := a.store.LastRecord(ctx)
			if err != nil {
				return nil, refuse(err)
			}
			after = last
		}
		return &follow{func(hctx huma.Context) {
			_, w := humago.Unwrap(hctx)
			w.Header().Set("Content-Type", "application/x-ndjson")
			if err := a.follow(ctx, w, after); err != nil && ctx.Err() == nil {
				a.log.Info("activity stream ended", "cause", err)
			}
		}}, nil
	})
}

// follow writes records as they come, one a line, until the client is gone.
func (a *API) follow(ctx context.Context, w http.ResponseWriter, after int64) error {
	c := http.NewResponseController(w)
	beat := time.NewTicker(streamBeat)
	defer beat.Stop()
	for {
		news := a.control.News() // before the reading: what comes later wakes us
		list, err := a.store.Audit(ctx, store.AuditQuery{After: after})
		if err != nil {
			return err
		}
		if err := c.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
			return err
		}
		for i := range list {
			b, err := json.Marshal(activityView(&list[i]))
			if err != nil {
				return err
			}
			if _, err := w.Write(append(b, '\n')); err != nil {
				return err
			}
			after = list[i].Seq
		}
		if err := c.Flush(); err != nil {
			return err
		}
		if err := c.SetWriteDeadline(time.Time{}); err != nil {
			return err
		}
		if len(list) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-news:
		case <-beat.C:
			if err := c.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
				return err
			}
			if _, err := w.Write([]byte("\n")); err != nil {
				return err
			}
		}
	}
}

func activityView(r *store.Entry) api.Activity {
	return api.Activity{Seq: r.Seq, At: r.At, Actor: r.Actor, Action: r.Action, Object: r.Object, Revision: r.Revision, Detail: r.Clear}
}
