package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"enclave/control/admin"
	"enclave/control/enrol"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

// agentRoutes serves the agent protocol. Who calls is known by the certificate of the
// connection, and looked up in the hub at every request: a connection can outlive an
// identity.
func (s *Server) agentRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+wire.PathEnrol, s.brief(s.enrol))
	mux.HandleFunc("POST "+wire.PathRenew, s.brief(s.renew))
	mux.HandleFunc("POST "+wire.PathReport, s.brief(s.report))
	mux.HandleFunc("POST "+wire.PathRelay, s.brief(s.moveRelay))
	mux.HandleFunc("POST "+wire.PathFlows, s.brief(s.flows))
	mux.HandleFunc("POST "+wire.PathRecord, s.brief(s.record))
	mux.HandleFunc("POST "+wire.PathLeave, s.brief(s.leave))
	mux.HandleFunc("GET "+wire.PathStream, s.stream)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		admin.WriteProblem(w, admin.NewProblem(http.StatusNotFound, api.CodeNotFound, "no such route", ""))
	})
	return mux
}

// brief wraps a handler of a request that is no stream: it has a deadline for all of
// it, and its error is its answer.
func (s *Server) brief(handle func(w http.ResponseWriter, r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		deadline := time.Now().Add(requestTimeout)
		c := http.NewResponseController(w)
		if err := errors.Join(c.SetReadDeadline(deadline), c.SetWriteDeadline(deadline)); err != nil {
			s.log.Error("request without a deadline refused", "error", err)
			return
		}
		if err := handle(w, r.WithContext(ctx)); err != nil {
			s.refuse(w, r, err)
		}
	}
}

// refuse answers an error; one that is no answer yet is ours, and is not shown.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var p *api.Problem
	if !errors.As(err, &p) {
		if r.Context().Err() != nil {
			return // the caller is gone
		}
		s.log.Error("agent request failed", "path", r.URL.Path, "from", r.RemoteAddr, "error", err)
		p = admin.NewProblem(http.StatusServiceUnavailable, api.CodeTryAgain, "the request could not be served now", "try again later")
	} else {
		s.strangers.Info("agent request refused", "path", r.URL.Path, "from", r.RemoteAddr, "code", p.Code, "detail", p.Error())
	}
	admin.WriteProblem(w, p)
}

// peer returns the system that calls. An unknown or revoked one is told so with the
// code of the Bye, whichever route it calls.
func (s *Server) peer(r *http.Request) (wire.SystemID, error) {
	id, key, err := svid.Peer(r.TLS, s.cfg.Store.Now())
	switch {
	case errors.Is(err, svid.ErrNoPeer):
		return "", admin.NewProblem(http.StatusForbidden, api.CodeForbidden, "this route takes a client certificate", "enrol first")
	case err != nil:
		return "", admin.NewProblem(http.StatusForbidden, api.CodeForbidden, err.Error(), "renew the certificate and connect again")
	case id.SystemID() == "":
		return "", admin.NewProblem(http.StatusForbidden, api.CodeForbidden, "this route is for systems", "")
	}
	if _, ok := s.hub.known(id.SystemID(), key); !ok {
		return "", revoked()
	}
	if !s.limits.messages.take(string(id.SystemID()), time.Now()) {
		return "", tooFast("messages from this system")
	}
	return id.SystemID(), nil
}

func revoked() *api.Problem {
	return admin.NewProblem(http.StatusGone, wire.ByeRevoked, "this identity has been removed or revoked", "enrol again with a new key")
}

// readMessage reads a request body: JSON, strict, within its limit.
func readMessage(w http.ResponseWriter, r *http.Request, v any) error {
	if ct, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || ct != "application/json" {
		return admin.NewProblem(http.StatusUnsupportedMediaType, api.CodeBadRequest, "a request body is application/json", "")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, wire.MaxRequestBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return admin.NewProblem(http.StatusRequestEntityTooLarge, api.CodeTooLarge, fmt.Sprintf("a request body has at most %d bytes", wire.MaxRequestBody), "")
	}
	if err != nil {
		return admin.NewProblem(http.StatusBadRequest, api.CodeBadRequest, "the request body ended early", "")
	}
	if err := wire.Unmarshal(body, v); err != nil {
		return admin.NewProblem(http.StatusBadRequest, api.CodeBadRequest, err.Error(), "")
	}
	return nil
}

func answer(w http.ResponseWriter, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, err = w.Write(b)
	return err
}

func (s *Server) enrol(w http.ResponseWriter, r *http.Request) error {
	var req wire.EnrolRequest
	if err := readMessage(w, r, &req); err != nil {
		return err
	}
	if err := s.enrolWith(w, r, &req); err != nil {
		s.denied(r, "enrol.deny", "enrolment", err, map[string]any{"name": cut(req.Name)})
		return err
	}
	return nil
}

// address is where a caller calls from, without its port: what a key's ranges hold or do
// not, and what is remembered of a system.
func address(remote string) string {
	if at, err := netip.ParseAddrPort(remote); err == nil {
		return at.Addr().Unmap().WithZone("").String()
	}
	return remote
}

// cut bounds what a stranger says of itself.
func cut(s string) string { return s[:min(len(s), wire.MaxNameLen)] }

// denied records that authority refused a request of an agent: a key or an identity that
// does not count. Mistakes and failures are no refusals.
func (s *Server) denied(r *http.Request, action, object string, err error, detail map[string]any) {
	var p *api.Problem
	if !errors.As(err, &p) {
		return
	}
	switch p.Code {
	case api.CodeKeyUnknown, api.CodeKeyExpired, api.CodeKeyUsedUp, api.CodeKeyElsewhere, api.CodeForbidden, wire.ByeRevoked:
		detail["code"] = p.Code
		s.api.Denied(r.Context(), admin.Denial{Action: action, Object: object, From: r.RemoteAddr, Detail: detail})
	}
}

func (s *Server) enrolWith(w http.ResponseWriter, r *http.Request, req *wire.EnrolRequest) error {
	// Whoever has no key gets no further than this: the turn is for those that may
	// change something. Who guesses is heard less and less.
	from, asked := wire.SubscriberOf(r.RemoteAddr), time.Now()
	if s.limits.strays.spent(from, asked) {
		return tooFast("wrong secrets from this address")
	}
	secret, err := enrol.Check(req, s.cfg.Store.Now())
	if err != nil {
		return err
	}
	known, err := s.cfg.Store.KnowsSecret(r.Context(), secret.Hash(), req.Keys.Identity)
	if err != nil {
		return err
	}
	if !known {
		s.limits.strays.take(from, asked)
		return enrol.Refusal(store.ErrKeyUnknown)
	}
	// A caller that hangs up must not leave half an enrolment behind.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), requestTimeout)
	defer cancel()
	var resp *wire.EnrolResponse
	_, err = s.hub.Change(ctx, func(ctx context.Context) (admin.Touched, wire.Revision, error) {
		var err error
		if resp, err = s.desk.Enrol(ctx, req, address(r.RemoteAddr), s.cfg.Store.Now()); err != nil {
			// A refusal changed nothing. Another failure may have come half-way, with an
			// identity in the store that has no name here.
			var p *api.Problem
			return admin.Touched{All: !errors.As(err, &p)}, 0, err
		}
		if resp.Relay != "" {
			return admin.Touched{Relays: true}, 0, nil
		}
		return admin.Touched{Systems: []wire.SystemID{resp.System}}, 0, nil
	})
	if err != nil {
		return err
	}
	who := slog.String("system", string(resp.System))
	if resp.Relay != "" {
		who = slog.String("relay", string(resp.Relay))
	}
	s.log.Info("enrolled", who, "name", req.Name, "state", resp.State, "from", r.RemoteAddr)
	return answer(w, resp)
}

func (s *Server) renew(w http.ResponseWriter, r *http.Request) error {
	id, key, err := svid.PeerToRenew(r.TLS)
	if err != nil {
		return admin.NewProblem(http.StatusForbidden, api.CodeForbidden, "this route takes a client certificate", "enrol first")
	}
	if sys := id.SystemID(); sys != "" {
		if _, ok := s.hub.known(sys, key); !ok {
			s.denied(r, "renew.deny", "system:"+string(sys), revoked(), map[string]any{})
			return revoked()
		}
	}
	if !s.limits.renewals.take(id.String(), time.Now()) {
		return tooFast("renewals")
	}
	var req wire.RenewRequest
	if err := readMessage(w, r, &req); err != nil {
		return err
	}
	var resp *wire.RenewResponse
	_, err = s.hub.Change(r.Context(), func(ctx context.Context) (touched admin.Touched, _ wire.Revision, err error) {
		if sys := id.SystemID(); sys != "" {
			touched.Systems = []wire.SystemID{sys}
		}
		resp, err = s.desk.Renew(ctx, id, key, &req, s.cfg.Store.Now())
		return touched, 0, err
	})
	if err != nil {
		return err
	}
	return answer(w, resp)
}

// moveRelay takes where a relay is reached now. It makes a change only when that is news.
func (s *Server) moveRelay(w http.ResponseWriter, r *http.Request) error {
	id, key, err := svid.Peer(r.TLS, s.cfg.Store.Now())
	switch {
	case errors.Is(err, svid.ErrNoPeer):
		return admin.NewProblem(http.StatusForbidden, api.CodeForbidden, "this route takes a client certificate", "enrol first")
	case err != nil:
		return admin.NewProblem(http.StatusForbidden, api.CodeForbidden, err.Error(), "renew the certificate and connect again")
	case id.RelayID() == "":
		return admin.NewProblem(http.StatusForbidden, api.CodeForbidden, "this route is for relays", "")
	}
	if !s.limits.renewals.take(id.String()+" moves", time.Now()) {
		return tooFast("moves of this relay")
	}
	var info wire.RelayInfo
	if err := readMessage(w, r, &info); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), requestTimeout)
	defer cancel()
	moved := false
	_, err = s.hub.Change(ctx, func(ctx context.Context) (admin.Touched, wire.Revision, error) {
		var err error
		moved, err = s.desk.Move(ctx, id.RelayID(), key, &info, s.cfg.Store.Now())
		return admin.Touched{Relays: moved}, 0, err
	})
	if err != nil {
		return err
	}
	if moved {
		s.log.Info("relay moved", "relay", id.RelayID(), "addr", info.Addr, "from", r.RemoteAddr)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) report(w http.ResponseWriter, r *http.Request) error {
	id, err := s.peer(r)
	if err != nil {
		return err
	}
	var rep wire.Report
	if err := readMessage(w, r, &rep); err != nil {
		return err
	}
	if rep.Reach != nil {
		if problem := checkReach(rep.Reach); problem != "" {
			return admin.NewProblem(http.StatusUnprocessableEntity, api.CodeInvalid, problem, "")
		}
	}
	now, fast := s.cfg.Store.Now(), false
	if rep.Reach != nil && !s.limits.reach.take(string(id), now) {
		rep.Reach, fast = nil, true // what is applied counts all the same: somebody waits for it
	}
	if s.hub.heard(id, &rep, now) {
		if err := s.cfg.Store.SetReach(r.Context(), id, now, *rep.Reach); err != nil {
			return err
		}
	}
	if fast {
		return tooFast("reports of another reach")
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// checkReach bounds what a system tells its peers about itself. Whether an address is
// true is for them to probe.
func checkReach(r *wire.Reach) string {
	switch {
	case len(r.Candidates) > wire.MaxCandidates:
		return fmt.Sprintf("reach: %d candidates, at most %d", len(r.Candidates), wire.MaxCandidates)
	case len(r.Relay) > wire.MaxNameLen:
		return "reach: relay: too long"
	case len(r.Unreachable) > wire.MaxRelays:
		return fmt.Sprintf("reach: %d unreachable relays, at most %d", len(r.Unreachable), wire.MaxRelays)
	case slices.ContainsFunc(r.Unreachable, func(id wire.RelayID) bool { return id == "" || len(id) > wire.MaxNameLen }):
		return "reach: unreachable: no such relay"
	case !slices.Contains([]string{"", "none", "easy", "hard", "blocked"}, r.NAT):
		return "reach: nat: want none, easy, hard or blocked"
	}
	for i, c := range r.Candidates {
		switch {
		case !slices.Contains([]wire.CandidateKind{wire.HostCandidate, wire.ObservedCandidate, wire.MappedCandidate, wire.TCPCandidate}, c.Kind):
			return fmt.Sprintf("reach: candidates[%d]: unknown kind", i)
		case c.Addr.Addr().Zone() != "":
			return fmt.Sprintf("reach: candidates[%d]: a zone means nothing elsewhere", i)
		case !c.Addr.IsValid() || c.Addr.Port() == 0 || c.Addr.Addr().IsUnspecified() || c.Addr.Addr().IsMulticast():
			return fmt.Sprintf("reach: candidates[%d]: no address to send to", i)
		}
	}
	return ""
}

// stream serves a system's map stream until either side ends it.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	id, err := s.peer(r)
	if err == nil && !s.limits.streams.take(string(id), time.Now()) {
		err = tooFast("connections of this system")
	}
	if err != nil {
		s.denied(r, "connect.deny", "agents", err, map[string]any{})
		s.refuse(w, r, err)
		return
	}
	ctx := r.Context()
	st := newStream(id, r.RemoteAddr, s.cfg.Store.Now())
	st.witness.Store(witnessSize(r))
	if err := s.hub.connect(ctx, st); err != nil {
		s.refuse(w, r, err)
		return
	}
	log := s.log.With("system", id, "from", r.RemoteAddr)
	log.Info("stream opened")
	defer func() {
		// The request is over, its context with it; what it leaves behind is not.
		if err := s.hub.disconnect(context.WithoutCancel(ctx), st, s.cfg.Store.Now()); err != nil {
			log.Error("the end of a stream could not be stored", "error", err)
		}
	}()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	out := &lines{w: w, control: http.NewResponseController(w), timeout: writeTimeout}
	sender := &sender{hub: s.hub, st: st}
	err = sender.run(ctx, out, s.cfg.Heartbeat, r.TLS.PeerCertificates[0].NotAfter)
	log.Info("stream ended", "cause", err)
}
