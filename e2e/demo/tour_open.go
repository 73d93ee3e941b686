package demo

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"enclave/e2e/natlab"
	"enclave/e2e/world"
	"enclave/tui/tour"
	"enclave/wire"
	"enclave/wire/api"
)

// meshStage: see the mesh, and let one more system in.
type meshStage struct {
	*Tour
	plain
	newcomer *world.Agent
}

const newcomer = "laptop-dee"

func (*meshStage) step() tour.Step {
	return tour.Step{Title: "see the mesh", Do: "Press 2 for the systems. " + newcomer + " has just enrolled and waits: move to it with the arrows, press a to approve it, then y."}
}

func (s *meshStage) enter(ctx context.Context) error {
	if s.newcomer != nil {
		return nil
	}
	key, err := s.API.CreateKey(ctx, api.KeyCreate{Name: newcomer, Approval: "manual", Tags: []wire.Tag{"developers"}})
	if err != nil {
		return err
	}
	lan := s.Lab.Router("home-dee", s.Lab.Internet(), natlab.EasyAF()).LAN()
	s.newcomer, err = s.Agent(ctx, newcomer, lan, key.Secret, natlab.Over(natlab.LinkConfig{Latency: 5 * time.Millisecond}))
	if err != nil {
		return err
	}
	return eventually(ctx, 15*time.Second, newcomer+" does not enrol", func() bool { return s.newcomer.Status().State != api.AgentStarting })
}

func (s *meshStage) look(context.Context) (tour.Sight, error) {
	peers, keys := 0, 0
	for _, a := range append(s.everyone, s.newcomer) {
		st := a.Status()
		peers += len(st.Peers)
		keys += len(a.Keys())
	}
	known := fmt.Sprintf("Peers that the %d systems know of each other: %d. Keys they hold: %d.", len(s.everyone)+1, peers, keys)
	if state := s.newcomer.Status().State; state != api.AgentRunning {
		return tour.Sight{Lines: []string{newcomer + " is " + state + ".", known}}, nil
	}
	return tour.Sight{Done: true, Lines: []string{newcomer + " is in and follows its map.", known, "Being enrolled is not being known: that takes a policy."}}, nil
}

// openStage: one policy is enabled, and the right pairs find each other.
type openStage struct {
	*Tour
	plain
	stop func()

	mu         sync.Mutex // guards what follows
	known, got time.Time  // when ana knew of pod-1, and had its page
	page       string
	err        error
}

func (*openStage) step() tour.Step {
	return tour.Step{Title: "open a policy", Do: "Press 3, move to " + kubernetes + " and press e: it shows whom it lets in, before it does. y makes it so."}
}

func (s *openStage) enter(ctx context.Context) error {
	if p, err := s.API.Policy(ctx, kubernetes); err != nil {
		return err
	} else if p.Enabled {
		if _, err := s.change(ctx, func() (api.Changed, error) { return s.API.PolicyDo(ctx, kubernetes, "disable") }); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.known, s.got, s.page, s.err = time.Time{}, time.Time{}, "", nil
	s.mu.Unlock()
	watch, cancel := context.WithCancel(s.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.watch(watch)
	}()
	s.stop = func() { cancel(); <-done }
	return nil
}

// watch waits until ana knows of pod-1, then asks it for its page.
func (s *openStage) watch(ctx context.Context) {
	err := eventually(ctx, 24*time.Hour, "never", func() bool {
		for _, p := range s.ana.Status().Peers {
			if p.Name == s.pod1.Name {
				return true
			}
		}
		return false
	})
	if err != nil {
		return
	}
	known := time.Now()
	status, body, err := get(ctx, s.ana.Agent, "http://pod-1.enclave/")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("pod-1 answers %d", status)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known, s.got, s.page, s.err = known, time.Now(), body, err
}

func (s *openStage) look(ctx context.Context) (tour.Sight, error) {
	s.mu.Lock()
	known, got, page, err := s.known, s.got, s.page, s.err
	s.mu.Unlock()
	switch {
	case err != nil:
		return tour.Sight{}, err
	case got.IsZero():
		return tour.Sight{Lines: []string{"laptop-ana asks for http://pod-1.enclave/: she knows no such name."}}, nil
	}
	lines := []string{fmt.Sprintf("GET http://pod-1.enclave/ from laptop-ana: %.*q", 40, page[:max(0, len(page)-1)])}
	r, ok, err := s.cause(ctx, known)
	if ok {
		lines = append(lines, fmt.Sprintf("Record %d, %s: %s later she knew pod-1, and after %s more the page was there, over a tunnel that did not exist before.",
			r.Seq, r.Action, ms(known.Sub(r.At)), ms(got.Sub(known))))
	}
	return tour.Sight{Done: true, Lines: lines}, err
}

func (s *openStage) leave(context.Context) error {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
	return nil
}

// pathStage: a relayed path becomes a direct one.
type pathStage struct {
	*Tour
	said  string
	dl    *download
	moved time.Time
	swift time.Duration // from the move to a direct path
	was   string        // the route before
}

func (*pathStage) step() tour.Step {
	return tour.Step{Title: "from relay to direct", Do: "laptop-ben downloads from pod-1. His hotel's symmetric NAT lets no direct path through, so the relay carries it (sealed). ctrl+g sends him to a cafe."}
}

func (s *pathStage) enter(ctx context.Context) (err error) {
	s.moved, s.swift = time.Time{}, 0
	if s.said, err = s.enable(ctx); err != nil {
		return err
	}
	if s.ben.Host.Network() != s.hotel {
		s.ben.Host.MoveTo(s.hotel)
	}
	if s.was, err = s.route(ctx, s.ben, s.pod1, "relay"); err != nil {
		return err
	}
	s.dl, err = s.load(ctx, s.ben, "http://pod-1.enclave/download")
	return err
}

// load starts a download that outlives the call.
func (t *Tour) load(_ context.Context, from *world.Agent, url string) (*download, error) {
	return startDownload(t.ctx, from.Agent, url)
}

func (s *pathStage) act(context.Context) error {
	s.swift = 0
	if s.ben.Host.Network() == s.hotel {
		s.ben.Host.MoveTo(s.cafe)
		s.moved = time.Now()
		return nil
	}
	s.ben.Host.MoveTo(s.hotel)
	s.moved = time.Time{}
	return nil
}

func (t *Tour) peer(of, to *world.Agent) (p api.AgentPeer) {
	for _, p = range of.Status().Peers {
		if p.Name == to.Name {
			return p
		}
	}
	return api.AgentPeer{Route: "none"}
}

func (s *pathStage) look(context.Context) (tour.Sight, error) {
	if s.dl == nil {
		return tour.Sight{}, nil
	}
	p := s.peer(s.ben, s.pod1)
	way := "laptop-ben → pod-1: " + p.Route
	if p.Via != "" {
		way += " via " + p.Via
	}
	if p.RTT > 0 {
		way += ", round trip " + ms(p.RTT)
	}
	_, n, err := s.dl.progress()
	if err != nil {
		return tour.Sight{Lines: []string{way}}, fmt.Errorf("the download ended: %w; ctrl+p and ctrl+n begin the step anew", err)
	}
	now := tour.Sight{Lines: []string{way, kB(n) + " so far on one connection."}, Action: "he goes to a cafe with an ordinary NAT"}
	if s.said != "" {
		now.Lines = append(now.Lines, s.said)
	}
	switch {
	case s.moved.IsZero():
		return now, nil
	case p.Route != "direct":
		now.Lines = append([]string{fmt.Sprintf("He moved %.1f s ago and has a new address.", time.Since(s.moved).Seconds())}, now.Lines...)
		now.Action = "he goes back to the hotel"
		return now, nil
	case s.swift == 0:
		s.swift = time.Since(s.moved)
		if p.Since.After(s.moved) {
			s.swift = p.Since.Sub(s.moved)
		}
	}
	now.Done, now.Action = true, "he goes back to the hotel"
	now.Lines = []string{fmt.Sprintf("Direct %.1f s after he moved: %s.", s.swift.Seconds(), way),
		fmt.Sprintf("Before: %s. The download went on: %s on one connection.", s.was, kB(n))}
	return now, nil
}

func (s *pathStage) leave(context.Context) error {
	if s.dl != nil {
		s.dl.stop()
		s.dl = nil
	}
	return nil
}
