package control

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"enclave/control/admin"
	"enclave/wire"
	"enclave/wire/api"
)

const (
	// askFor is how long agents have to answer. A change may wait for it, so it is what
	// a person waits without wondering.
	askFor = 2 * time.Second
	// maxAsks is how many questions may wait for one agent.
	maxAsks = 4
	// maxFlows is how many flows one answer holds.
	maxFlows = 10_000
)

// ask is an open question to some agents.
type ask struct {
	wait map[wire.SystemID]bool // who has not answered; guarded by hub.mu
	told map[wire.SystemID]*wire.FlowReport
	done chan struct{} // closed when all have
}

// ask puts a question to systems, as far as they are connected, and returns what those
// say that answer in time. what makes the question for one of them.
func (h *hub) ask(ctx context.Context, ids []wire.SystemID, what func(wire.SystemID) wire.Ask) map[wire.SystemID]*wire.FlowReport {
	told, _ := h.askCounted(ctx, ids, what)
	return told
}

// askCounted is ask, and tells how many were asked.
func (h *hub) askCounted(ctx context.Context, ids []wire.SystemID, what func(wire.SystemID) wire.Ask) (told map[wire.SystemID]*wire.FlowReport, asked int) {
	q := &ask{wait: make(map[wire.SystemID]bool), told: make(map[wire.SystemID]*wire.FlowReport), done: make(chan struct{})}
	name := wire.NewID(16)
	h.mu.Lock()
	for _, id := range ids {
		if n := h.nodes[id]; n != nil && n.stream != nil && !q.wait[id] {
			msg := what(id)
			msg.ID = name
			select {
			case n.stream.asks <- &msg:
				q.wait[id] = true
			default: // it is behind with others
			}
		}
	}
	if asked = len(q.wait); asked == 0 {
		h.mu.Unlock()
		return nil, 0
	}
	h.asks[name] = q
	h.mu.Unlock()

	timer := time.NewTimer(askFor)
	defer timer.Stop()
	select {
	case <-q.done:
	case <-timer.C:
	case <-ctx.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.asks, name)
	return q.told, asked
}

func forFlows(wire.SystemID) wire.Ask { return wire.Ask{Flows: true} }

// counting are the connected systems that take part now.
func (h *hub) counting() (ids []wire.SystemID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, n := range h.nodes {
		if n.stream != nil && n.sys.Counts(h.clock.Now()) {
			ids = append(ids, id)
		}
	}
	return ids
}

// told takes an answer in. One to no open question, or from somebody who was not
// asked, is let go.
func (h *hub) told(id wire.SystemID, r *wire.FlowReport) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := h.asks[r.ID]
	if q == nil || !q.wait[id] {
		return
	}
	delete(q.wait, id)
	q.told[id] = r
	if len(q.wait) == 0 {
		close(q.done)
	}
}

// flows serves an agent's answer.
func (s *Server) flows(w http.ResponseWriter, r *http.Request) error {
	id, err := s.peer(r)
	if err != nil {
		return err
	}
	var rep wire.FlowReport
	if err := readMessage(w, r, &rep); err != nil {
		return err
	}
	if len(rep.Flows) > wire.MaxReportedFlows || len(rep.Peers) > wire.MaxReportedPeers || len(rep.Denied) > wire.MaxReportedDenials {
		return admin.NewProblem(http.StatusUnprocessableEntity, api.CodeInvalid,
			fmt.Sprintf("%d flows, %d peers, %d denials, at most %d, %d and %d", len(rep.Flows), len(rep.Peers), len(rep.Denied),
				wire.MaxReportedFlows, wire.MaxReportedPeers, wire.MaxReportedDenials), "")
	}
	for i := range rep.Flows {
		if problem := checkFlow(&rep.Flows[i]); problem != "" {
			return admin.NewProblem(http.StatusUnprocessableEntity, api.CodeInvalid, fmt.Sprintf("flows[%d]: %s", i, problem), "")
		}
	}
	if problem := checkReport(&rep); problem != "" {
		return admin.NewProblem(http.StatusUnprocessableEntity, api.CodeInvalid, problem, "")
	}
	s.hub.told(id, &rep)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// checkFlow bounds what an agent says of one flow: it goes into answers to others.
func checkFlow(f *wire.ReportedFlow) string {
	switch {
	case f.Proto < wire.Any || f.Proto > wire.ICMP:
		return "proto: want any, tcp, udp or icmp"
	case !f.Src.IsValid() || !f.Dst.IsValid() || f.Src.Addr().Zone() != "" || f.Dst.Addr().Zone() != "":
		return "src, dst: want addresses"
	case len(f.Policy) > wire.MaxNameLen || len(f.Run) > wire.MaxNameLen || len(f.Peer) > wire.MaxNameLen:
		return "longer than a name may be"
	}
	return ""
}

// Flows implements admin.Answers. A flow is told by its receiving end, which is where
// it is allowed, and believed where policy introduces the two.
func (h *hub) Flows(ctx context.Context) []api.LiveFlow {
	reports := h.ask(ctx, h.counting(), forFlows)
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.clock.Now()
	list := received(reports, func(to wire.SystemID, f *wire.ReportedFlow) bool {
		f.Run = cmp.Or(h.runOf(f.Peer), h.runOf(to)) // ours to say, not theirs
		return h.engine.Introduced(to, f.Peer, now)
	})
	h.people().flows(list)
	return list
}

// flowsCut returns the live flows that nothing would allow after a change, and of whom that
// is known.
func (h *hub) flowsCut(ctx context.Context, t *tried) ([]api.LiveFlow, *api.Asked) {
	receivers := t.receivers()
	own := make(map[wire.SystemID][]string, len(receivers))
	h.mu.Lock()
	for _, id := range receivers {
		if n := h.nodes[id]; n != nil {
			own[id] = []string{n.sys.IPv4.String(), n.sys.IPv6.String()}
		}
	}
	h.mu.Unlock()
	told, asked := h.askCounted(ctx, receivers, forFlows)
	list := received(told, func(to wire.SystemID, f *wire.ReportedFlow) bool {
		return t.before.Allows(f.Peer, to, f.Flow, slices.Contains(own[to], f.Dst.Addr().String())) &&
			!t.after.Allows(f.Peer, to, f.Flow, slices.Contains(own[to], f.Dst.Addr().String()))
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range list {
		list[i].Run = cmp.Or(h.runOf(list[i].From), h.runOf(list[i].To))
	}
	h.people().flows(list)
	return list, &api.Asked{Concerned: len(receivers), Asked: asked, Answered: len(told)}
}

func received(reports map[wire.SystemID]*wire.FlowReport, keep func(wire.SystemID, *wire.ReportedFlow) bool) []api.LiveFlow {
	out := []api.LiveFlow{}
	for to, r := range reports {
		for i := range r.Flows {
			if f := &r.Flows[i]; f.Inbound && keep(to, f) {
				out = append(out, api.LiveFlow{Flow: f.Flow, From: f.Peer, To: to, Since: f.Since, Bytes: f.Bytes})
			}
		}
	}
	slices.SortFunc(out, func(a, b api.LiveFlow) int { return a.Since.Compare(b.Since) })
	return out[:min(len(out), maxFlows)]
}
