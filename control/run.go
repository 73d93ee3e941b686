package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"enclave/control/admin"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

// runOf is the name of a run, which is its ID, and "" for another system; mu is held.
func (h *hub) runOf(id wire.SystemID) string {
	if n := h.nodes[id]; n != nil && n.sys.Kind == store.Run {
		return n.sys.Name
	}
	return ""
}

// run returns the run that calls. Other systems have no business here.
func (s *Server) run(r *http.Request) (wire.SystemID, string, error) {
	id, err := s.peer(r)
	if err != nil {
		return "", "", err
	}
	s.hub.mu.Lock()
	name := s.hub.runOf(id)
	s.hub.mu.Unlock()
	if name == "" {
		return "", "", admin.NewProblem(http.StatusForbidden, api.CodeForbidden, "this route is for runs of a sandbox", "")
	}
	return id, name, nil
}

// record puts what a run says about itself into the audit trail, under its own name.
func (s *Server) record(w http.ResponseWriter, r *http.Request) error {
	id, name, err := s.run(r)
	if err != nil {
		return err
	}
	var rec wire.RunRecord
	if err := readMessage(w, r, &rec); err != nil {
		return err
	}
	var detail map[string]any
	switch {
	case !slices.Contains(wire.RunActions(), rec.Action):
		return admin.NewProblem(http.StatusUnprocessableEntity, api.CodeInvalid, "action: a run has no such record", "")
	case len(rec.Detail) > wire.MaxRunRecord:
		return admin.NewProblem(http.StatusUnprocessableEntity, api.CodeInvalid, fmt.Sprintf("detail: %d bytes, at most %d", len(rec.Detail), wire.MaxRunRecord), "")
	case json.Unmarshal(rec.Detail, &detail) != nil || detail == nil:
		return admin.NewProblem(http.StatusUnprocessableEntity, api.CodeInvalid, "detail: want an object", "")
	case !s.hub.mayRecord(id):
		return admin.NewProblem(http.StatusTooManyRequests, api.CodeForbidden, fmt.Sprintf("a run has %d records, the most there are", wire.MaxRunRecords), "")
	}
	c := store.Change{By: store.Actor("run:" + name), At: s.cfg.Store.Now()}
	if err := s.cfg.Store.Record(r.Context(), c, rec.Action, "system:"+string(id), detail); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *hub) mayRecord(id wire.SystemID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.nodes[id]
	if n == nil || n.records >= wire.MaxRunRecords {
		return false
	}
	n.records++
	return true
}

// leave ends a run's identity at its own word: nobody knows it any more, and what it
// had open is cut.
func (s *Server) leave(w http.ResponseWriter, r *http.Request) error {
	id, name, err := s.run(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), requestTimeout)
	defer cancel()
	_, err = s.hub.Change(ctx, func(ctx context.Context) (admin.Touched, wire.Revision, error) {
		c := store.Change{By: store.Actor("run:" + name), At: s.cfg.Store.Now(), Reason: "the run has ended"}
		rev, err := s.cfg.Store.DeleteSystem(ctx, c, id)
		return admin.Touched{Systems: []wire.SystemID{id}}, rev, err
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
