package admin

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"enclave/store"
	"enclave/store/audit"
	"enclave/wire"
	"enclave/wire/api"
)

type (
	// AuditFilter is exported because huma looks into no other embedded shape.
	AuditFilter struct {
		Actor   string    `query:"actor" maxLength:"256" doc:"Who; a * at the end stands for anything"`
		Action  string    `query:"action" maxLength:"64" doc:"What; a * at the end stands for anything"`
		Object  string    `query:"object" maxLength:"256" doc:"To what; a * at the end stands for anything"`
		Outcome string    `query:"outcome" enum:",ok,denied,failed"`
		Request string    `query:"request" maxLength:"64" doc:"The Enclave-Request of an answer"`
		Since   time.Time `query:"since"`
		Until   time.Time `query:"until" doc:"Exclusive"`
	}
	auditQuery struct {
		AuditFilter
		After  int64 `query:"after" minimum:"0" doc:"Sequence number of the last record already read"`
		Before int64 `query:"before" minimum:"0" doc:"Only records of lower numbers; 0 is open"`
		Newest bool  `query:"newest" doc:"Newest first"`
		Limit  int   `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}
	auditList   struct{ Body api.Page[api.AuditRecord] }
	auditFollow struct {
		AuditFilter
		After int64 `query:"after" minimum:"-1" default:"-1" doc:"Begin after this record; -1 begins with the next to come"`
	}
	checkpointQuery struct {
		Size int64 `query:"size" minimum:"0" doc:"Number of records; 0 is all"`
		Old  int64 `query:"old" minimum:"0" doc:"A size from before, to prove that the log continues it; 0 proves nothing"`
	}
	checkpointOut struct{ Body api.AuditCheckpoint }
	proofQuery    struct {
		Seq  int64 `path:"seq" minimum:"1"`
		Size int64 `query:"size" minimum:"0" doc:"Size of the tree; 0 is all"`
	}
	proofOut    struct{ Body audit.Proof }
	exportQuery struct {
		Last   int64     `query:"last" minimum:"0" doc:"Last record; 0 is the newest"`
		Before time.Time `query:"before" doc:"Only what stands before the first record of this instant or later"`
		Sealed bool      `query:"sealed" doc:"Leave all details sealed"`
	}
	segmentList struct {
		Body struct {
			Items []api.AuditSegment `json:"items"`
		}
	}
	subjectList struct {
		Body struct {
			Items []string `json:"items"`
		}
	}
	archiveIn struct {
		DryRun bool `query:"dry_run"`
		Body   api.AuditArchive
	}
	segmentOut struct{ Body api.AuditSegment }
	eraseIn    struct {
		DryRun bool   `query:"dry_run"`
		Reason string `query:"reason" maxLength:"4096" doc:"Why, for the audit trail"`
		Body   struct {
			Subject string `json:"subject" minLength:"1" maxLength:"256"`
		}
	}
	erasedOut struct{ Body api.AuditErased }
)

func (a *API) routeAudit() {
	// The detail of a record is any JSON object.
	a.huma.OpenAPI().Components.Schemas.RegisterTypeAlias(reflect.TypeFor[api.Detail](), reflect.TypeFor[map[string]any]())
	route(a, "audit-list", a.auditList)
	route(a, "audit-stream", a.auditStream)
	route(a, "audit-checkpoint", a.auditCheckpoint)
	route(a, "audit-prove", a.auditProve)
	route(a, "audit-export", a.auditExport)
	route(a, "audit-segments", a.auditSegments)
	route(a, "audit-archive", a.auditArchive)
	route(a, "audit-subjects", func(ctx context.Context, _ *struct{}) (*subjectList, error) {
		var out subjectList
		list, err := a.store.Subjects(ctx)
		out.Body.Items = orEmpty(list)
		return &out, refuse(err)
	})
	route(a, "audit-erase", a.auditErase)
}

func (f *AuditFilter) query() store.AuditQuery {
	return store.AuditQuery{Actor: f.Actor, Action: f.Action, Object: f.Object, Outcome: f.Outcome, Request: f.Request, Since: f.Since, Until: f.Until}
}

func (a *API) auditList(ctx context.Context, in *auditQuery) (*auditList, error) {
	q := in.query()
	q.After, q.Before, q.Newest, q.Limit = in.After, in.Before, in.Newest, in.Limit
	list, err := a.store.Audit(ctx, q)
	if err != nil {
		return nil, refuse(err)
	}
	out := api.Page[api.AuditRecord]{Items: []api.AuditRecord{}}
	names := a.naming()
	for i := range list {
		r := auditView(&list[i])
		r.ObjectName = names.of(ctx, r.Object)
		out.Items = append(out.Items, r)
	}
	if len(list) == in.Limit { // the after of the next page, or its before where the newest come first
		out.Next = strconv.FormatInt(list[len(list)-1].Seq, 10)
	}
	return &auditList{out}, nil
}

func (a *API) auditStream(ctx context.Context, in *auditFollow) (*follow, error) {
	q := in.query()
	return a.streaming(ctx, in.After, q, func(e *store.Entry) any { return auditView(e) })
}

// streaming answers with records as they come, one a line.
func (a *API) streaming(ctx context.Context, after int64, q store.AuditQuery, view func(*store.Entry) any) (*follow, error) {
	if q.After = after; after < 0 {
		last, err := a.store.LastRecord(ctx)
		if err != nil {
			return nil, refuse(err)
		}
		q.After = last
	}
	return &follow{func(hctx huma.Context) {
		_, w := humago.Unwrap(hctx)
		w.Header().Set("Content-Type", "application/x-ndjson")
		if err := a.follow(ctx, w, q, view); err != nil && ctx.Err() == nil {
			a.log.Info("audit stream ended", "cause", err)
		}
	}}, nil
}

func (a *API) auditCheckpoint(ctx context.Context, in *checkpointQuery) (*checkpointOut, error) {
	head, err := a.headAt(ctx, in.Size)
	if err != nil {
		return nil, refuse(err)
	}
	c := head.Checkpoint
	out := api.AuditCheckpoint{Checkpoint: head.Note, Key: head.Key, Size: c.Size, Root: c.Root.String(), Old: in.Old}
	if in.Old > 0 {
		proof, err := a.store.ProveConsistency(ctx, in.Old, c.Size)
		if err != nil {
			return nil, refuse(err)
		}
		out.Consistency = audit.Bytes(proof)
	}
	return &checkpointOut{out}, nil
}

func (a *API) headAt(ctx context.Context, size int64) (store.AuditHead, error) {
	if size == 0 {
		return a.store.AuditHead(ctx)
	}
	return a.store.AuditHeadAt(ctx, size)
}

func (a *API) auditProve(ctx context.Context, in *proofQuery) (*proofOut, error) {
	head, err := a.headAt(ctx, in.Size)
	if err != nil {
		return nil, refuse(err)
	}
	line, err := a.store.AuditLine(ctx, in.Seq)
	if err != nil {
		return nil, refuse(err)
	}
	proof, err := a.store.ProveRecord(ctx, in.Seq, head.Checkpoint.Size)
	if err != nil {
		return nil, refuse(err)
	}
	return &proofOut{audit.Proof{Version: audit.ProofVersion, Org: head.Org, Key: head.Key, Record: string(line), Path: audit.Bytes(proof), Checkpoint: head.Note}}, nil
}

// auditExport streams an export. That it was taken is in it already: whoever reads the
// trail should find who else has a copy.
func (a *API) auditExport(ctx context.Context, in *exportQuery) (*follow, error) {
	c, err := change(ctx, "")
	if err != nil {
		return nil, err
	}
	if err := a.store.Record(ctx, c, "audit.export", "audit", map[string]any{"sealed": in.Sealed}); err != nil {
		return nil, refuse(err)
	}
	return &follow{func(hctx huma.Context) {
		_, w := humago.Unwrap(hctx)
		w.Header().Set("Content-Type", "application/x-ndjson")
		out := &deadlined{w: w, c: http.NewResponseController(w)}
		_, err := a.store.ExportAudit(ctx, out, store.ExportQuery{Last: in.Last, Before: in.Before, Sealed: in.Sealed})
		if err == nil {
			err = out.c.SetWriteDeadline(time.Time{})
		}
		if err == nil {
			return
		}
		a.log.Info("audit export ended", "cause", err)
		if !out.begun {
			if p, ok := refuse(err).(*problem); ok {
				WriteProblem(w, &p.Problem)
				return
			}
			WriteProblem(w, NewProblem(http.StatusInternalServerError, api.CodeInternal, "the export failed; the log says why", ""))
			return
		}
		panic(http.ErrAbortHandler) // half an export must not look like a whole answer
	}}, nil
}

// deadlined gives each write its deadline.
type deadlined struct {
	w     http.ResponseWriter
	c     *http.ResponseController
	begun bool
}

func (d *deadlined) Write(b []byte) (int, error) {
	d.begun = true
	_ = d.c.SetWriteDeadline(time.Now().Add(streamWrite)) // what has none, a recorder in a test, has no slow client
	return d.w.Write(b)
}

func (a *API) auditSegments(ctx context.Context, _ *struct{}) (*segmentList, error) {
	list, err := a.store.Segments(ctx)
	if err != nil {
		return nil, refuse(err)
	}
	var out segmentList
	out.Body.Items = []api.AuditSegment{}
	for i := range list {
		out.Body.Items = append(out.Body.Items, segmentView(&list[i]))
	}
	return &out, nil
}

func (a *API) auditArchive(ctx context.Context, in *archiveIn) (*segmentOut, error) {
	c, err := change(ctx, "")
	if err != nil {
		return nil, err
	}
	w := store.Archived{Last: in.Body.Last}
	for _, f := range []struct {
		name, text string
		to         *[32]byte
	}{{"last_hash", in.Body.LastHash, &w.LastHash}, {"file_sha256", in.Body.FileSHA256, &w.FileHash}} {
		b, err := hex.DecodeString(f.text)
		if err != nil || len(b) != len(f.to) {
			return nil, invalid(wire.Problem{Path: f.name, Message: "want 64 hex digits"})
		}
		copy(f.to[:], b)
	}
	var seg store.Segment
	err = a.maybe(ctx, in.DryRun, func(ctx context.Context) (err error) {
		seg, err = a.store.Archive(ctx, c, w)
		return err
	})
	if err != nil {
		return nil, refuse(err)
	}
	return &segmentOut{segmentView(&seg)}, nil
}

func (a *API) auditErase(ctx context.Context, in *eraseIn) (*erasedOut, error) {
	c, err := change(ctx, "")
	if err != nil {
		return nil, err
	}
	c.Reason = in.Reason
	var e store.Erased
	err = a.maybe(ctx, in.DryRun, func(ctx context.Context) (err error) {
		e, err = a.store.Erase(ctx, c, in.Body.Subject)
		return err
	})
	if err != nil {
		return nil, refuse(err)
	}
	return &erasedOut{api.AuditErased{Subject: e.Subject, Keys: e.Keys, Records: e.Records}}, nil
}

// maybe makes a change that no map can show, or only tries it.
func (a *API) maybe(ctx context.Context, dryRun bool, do func(context.Context) error) error {
	if dryRun {
		return a.store.Try(ctx, do)
	}
	return do(ctx)
}

// follow writes records as they come, one a line, until the client is gone or its token
// has ended. The token is looked at before each reading, so that the record of its end
// is the first that it does not see.
func (a *API) follow(ctx context.Context, w http.ResponseWriter, q store.AuditQuery, view func(*store.Entry) any) error {
	who := principal(ctx)
	if !who.until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, who.until)
		defer cancel()
	}
	c := http.NewResponseController(w)
	beat := time.NewTicker(streamBeat)
	defer beat.Stop()
	for {
		news := a.control.News() // before the reading: what comes later wakes us
		if err := a.auth.still(ctx, who); err != nil {
			return err
		}
		list, err := a.store.Audit(ctx, q)
		if err != nil {
			return err
		}
		if err := c.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
			return err
		}
		for i := range list {
			b, err := json.Marshal(view(&list[i]))
			if err != nil {
				return err
			}
			if _, err := w.Write(append(b, '\n')); err != nil {
				return err
			}
			q.After = list[i].Seq
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
		case <-a.control.Stopping():
			return nil
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

func auditView(e *store.Entry) api.AuditRecord {
	v := api.AuditRecord{Seq: e.Seq, At: e.At, Actor: e.Actor, Action: e.Action, Object: e.Object, Revision: e.Revision,
		Outcome: e.Outcome, Request: e.Request, Subject: e.Subject, Erased: e.Erased, Hash: fmt.Sprintf("%x", e.Hash)}
	if v.Outcome == "" { // the first format has none
		v.Outcome = audit.Done
	}
	if json.Valid([]byte(e.Clear)) {
		v.Detail = api.Detail(e.Clear)
	}
	return v
}

func segmentView(g *store.Segment) api.AuditSegment {
	return api.AuditSegment{First: g.First, Last: g.Last, FirstAt: g.FirstAt, LastAt: g.LastAt,
		FileSHA256: fmt.Sprintf("%x", g.FileHash), ArchivedAt: g.At}
}
