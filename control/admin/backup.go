package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"enclave/store"
	"enclave/store/backup"
	"enclave/store/seal"
	"enclave/wire"
	"enclave/wire/api"
)

// BackupHeader is the header of an answer that carries the head of a backup, which the
// caller may not be able to open.
const BackupHeader = "Enclave-Backup"

// maxBackupRecipients is more than anybody needs; each makes a stream a little longer.
const maxBackupRecipients = 16

type (
	backupIn  struct{ Body api.BackupOrder }
	backupOut struct{ Body func(huma.Context) }
	healthIn  struct {
		Full bool `query:"full" doc:"Read and check every page and every audit record"`
	}
	healthOut struct{ Body api.Health }
)

func (a *API) routeBackup() {
	route(a, "backup-create", func(ctx context.Context, in *backupIn) (*backupOut, error) {
		if len(in.Body.Recipients) > maxBackupRecipients {
			return nil, invalid(wire.Problem{Path: "recipients", Message: "too many"})
		}
		var to []seal.Recipient
		for _, text := range in.Body.Recipients {
			r, err := seal.ParseRecipient(text)
			if err != nil {
				return nil, invalid(wire.Problem{Path: "recipients", Message: err.Error()})
			}
			to = append(to, r)
		}
		c, _ := change(ctx, "")
		return &backupOut{func(hctx huma.Context) {
			_, w := humago.Unwrap(hctx)
			a.sendBackup(ctx, w, c, to)
		}}, nil
	})
	route(a, "health", func(ctx context.Context, in *healthIn) (*healthOut, error) {
		h, err := a.health(ctx, in.Full)
		if err != nil {
			return nil, refuse(err)
		}
		return &healthOut{h}, nil
	})
}

// sendBackup streams a backup. What goes wrong before its first byte is an answer; after
// that the connection is cut, and the stream without its end says so. That it was begun is
// recorded first: who has a part of it has that part, and could leave before the end.
func (a *API) sendBackup(ctx context.Context, w http.ResponseWriter, c store.Change, to []seal.Recipient) {
	out := &slowWriter{w: w, c: http.NewResponseController(w)}
	_, err := a.store.Backup(ctx, out, store.BackupConfig{To: to, Made: c.At, Program: a.version, Ready: func(h backup.Head) error {
		err := a.store.Record(ctx, c, "backup.create", "state", map[string]any{
			"records": h.Audit.Records, "pages": h.Pages, "recipients": len(to)})
		if err != nil {
			return err
		}
		text, err := json.Marshal(h)
		if err != nil {
			return err
		}
		w.Header().Set(BackupHeader, string(text))
		w.Header().Set("Content-Type", "application/octet-stream")
		return nil
	}})
	if err == nil {
		return
	}
	if out.sent > 0 {
		a.log.Warn("a backup did not come to its end", "error", err)
		panic(http.ErrAbortHandler)
	}
	w.Header().Del(BackupHeader)
	var p *problem
	if !errors.As(refuse(err), &p) {
		a.log.Error("backup failed", "error", err)
		p = &problem{*NewProblem(http.StatusInternalServerError, api.CodeInternal, "something went wrong here; the log has it", "")}
	}
	WriteProblem(w, &p.Problem)
}

// slowWriter gives each write its own deadline: a backup takes as long as it takes, but
// a client that reads nothing would keep the log of the database growing.
type slowWriter struct {
	w    io.Writer
	c    *http.ResponseController
	sent int64
}

func (s *slowWriter) Write(b []byte) (int, error) {
	if err := s.c.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
		return 0, err
	}
	n, err := s.w.Write(b)
	s.sent += int64(n)
	return n, err
}

// health looks at the state, and with full reads all of it.
func (a *API) health(ctx context.Context, full bool) (api.Health, error) {
	h := api.Health{Version: a.version, Now: time.Now().UTC(), Checked: full}
	c, err := a.store.CheckUp(ctx, full, nil)
	if err != nil {
		return h, err
	}
	h.Latest, _, h.BehindSince = a.store.Clock().Look()
	h.Latest = h.Latest.UTC()
	h.Revision, h.Schema, h.Pages, h.Records = c.Revision, c.Schema, c.Pages, c.Records
	if c.Newest > 0 {
		h.Newest = time.Unix(0, c.Newest).UTC()
	}
	for _, e := range []struct {
		err  error
		text *string
	}{{c.PagesErr, &h.PagesErr}, {c.IntegrityErr, &h.IntegrErr}, {c.ChainErr, &h.ChainErr}} {
		if e.err != nil {
			*e.text = e.err.Error()
		}
	}
	if a.backups != nil {
		h.Backup = a.backups()
	}
	return h, nil
}
