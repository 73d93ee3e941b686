package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"enclave/e2e/world"
	"enclave/tui/tour"
	"enclave/wire/api"
)

// relayStage: the relay dies and comes back.
type relayStage struct {
	*Tour
	said            string
	direct, relayed *download
	killed, back    time.Time
	stopped         <-chan error  // tells once that the relay has ended
	silent          time.Time     // the last byte over the relay
	gap             time.Duration // until it flowed again
	kept            int64         // bytes on the direct path while it was dead
	before          int64
}

func (*relayStage) step() tour.Step {
	return tour.Step{Title: "kill the relay", Do: "Two downloads from pod-1: laptop-ana's is direct, laptop-ben's is relayed (he is back at the hotel). ctrl+g kills the relay; then starts it again."}
}

func (s *relayStage) enter(ctx context.Context) (err error) {
	s.killed, s.back, s.gap = time.Time{}, time.Time{}, 0
	if s.said, err = s.enable(ctx); err != nil {
		return err
	}
	if s.ben.Host.Network() != s.hotel {
		s.ben.Host.MoveTo(s.hotel)
	}
	if _, err := s.route(ctx, s.ben, s.pod1, "relay"); err != nil {
		return err
	}
	if _, err := s.route(ctx, s.ana, s.pod1, "direct"); err != nil {
		return err
	}
	if s.direct, err = s.load(ctx, s.ana, "http://pod-1.enclave/download"); err != nil {
		return err
	}
	s.relayed, err = s.load(ctx, s.ben, "http://pod-1.enclave/download")
	return err
}

func (s *relayStage) act(ctx context.Context) error {
	if s.killed.IsZero() || !s.back.IsZero() {
		_, s.before, _ = s.direct.progress()
		s.killed, s.back, s.gap = time.Now(), time.Time{}, 0
		stopped := make(chan error, 1)
		go func() { stopped <- s.KillRelay() }() // it hears its clients out, though they hear nothing more
		s.stopped = stopped
		return nil
	}
	s.silent, _, _ = s.relayed.progress()
	err := s.revive(ctx)
	_, n, _ := s.direct.progress()
	s.kept = n - s.before
	return err
}

// revive starts the relay. Its port may be held by connections of the one before for a
// moment.
func (s *relayStage) revive(ctx context.Context) error {
	select {
	case err := <-s.stopped:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	var err error
	slow := eventually(ctx, 10*time.Second, "the relay does not start", func() bool {
		s.back = time.Now()
		err = s.StartRelay(ctx)
		return err == nil
	})
	if slow != nil {
		s.back = time.Time{}
		return errors.Join(slow, err)
	}
	return nil
}

func (s *relayStage) look(context.Context) (tour.Sight, error) {
	if s.direct == nil || s.relayed == nil {
		return tour.Sight{}, nil
	}
	_, a, errA := s.direct.progress()
	last, b, errB := s.relayed.progress()
	if err := errors.Join(errA, errB); err != nil {
		return tour.Sight{}, fmt.Errorf("a download ended: %w; ctrl+p and ctrl+n begin the step anew", err)
	}
	state := fmt.Sprintf("laptop-ana, direct: %s. laptop-ben, relayed: %s", kB(a), kB(b))
	switch {
	case s.killed.IsZero():
		lines := []string{state + "."}
		if s.said != "" {
			lines = append(lines, s.said)
		}
		return tour.Sight{Action: "kill the relay", Lines: lines}, nil
	case s.back.IsZero():
		quiet := time.Since(last)
		if quiet < 200*time.Millisecond {
			return tour.Sight{Lines: []string{state + "."}}, nil
		}
		return tour.Sight{Action: "start the relay again", Lines: []string{fmt.Sprintf("%s, silent for %.1f s: last byte %s the kill. The direct path did not notice.", state, quiet.Seconds(), sign(last.Sub(s.killed)))}}, nil
	case !last.After(s.back):
		return tour.Sight{Lines: []string{fmt.Sprintf("The relay is up again for %.1f s; laptop-ben finds it anew.", time.Since(s.back).Seconds()), state + "."}}, nil
	}
	if s.gap == 0 {
		s.gap = time.Since(s.back)
	}
	return tour.Sight{Done: true, Action: "kill the relay once more", Lines: []string{
		fmt.Sprintf("Bytes again within %.1f s of its start, on the same connection: %s.", s.gap.Seconds(), kB(b)),
		fmt.Sprintf("Silent in between: %.1f s. The direct path carried %s meanwhile.", s.back.Sub(s.silent).Seconds(), kB(s.kept))}}, nil
}

func (s *relayStage) leave(ctx context.Context) error {
	for _, dl := range []*download{s.direct, s.relayed} {
		if dl != nil {
			dl.stop()
		}
	}
	s.direct, s.relayed = nil, nil
	if !s.killed.IsZero() && s.back.IsZero() {
		return s.revive(ctx)
	}
	return nil
}

// partitionStage: control is cut off from everything, and comes back.
type partitionStage struct {
	*Tour
	said         string
	dl           *download
	away, healed time.Time
	before       int64
	page         string        // what a new flow got meanwhile
	whole        time.Duration // until everybody was back
	kept         int64
}

func (*partitionStage) step() tour.Step {
	return tour.Step{Title: "partition control", Do: "ctrl+g cuts control off from all systems and the relay; this terminal still reaches it. See them go on screen 2, and what goes on without it. Then heal it."}
}

func (s *partitionStage) enter(ctx context.Context) (err error) {
	s.away, s.healed, s.page, s.whole = time.Time{}, time.Time{}, "", 0
	if s.said, err = s.enable(ctx); err != nil {
		return err
	}
	s.dl, err = s.load(ctx, s.ana, "http://pod-1.enclave/download")
	return err
}

func (s *partitionStage) act(context.Context) error {
	if s.away.IsZero() || !s.healed.IsZero() {
		_, s.before, _ = s.dl.progress()
		s.away, s.healed, s.page, s.whole = time.Now(), time.Time{}, "", 0
		s.PartitionControl()
		return nil
	}
	_, n, _ := s.dl.progress()
	s.kept, s.healed = n-s.before, time.Now()
	s.HealControl()
	return nil
}

// connected counts systems that hear control.
func (t *Tour) connected() (n, of int) {
	t.everyAgent(func(a *world.Agent) {
		of++
		if a.Status().Control.Connected {
			n++
		}
	})
	return n, of
}

func (t *Tour) everyAgent(f func(a *world.Agent)) {
	for _, a := range t.everyone {
		f(a)
	}
	if m := t.stages[0].(*meshStage); m.newcomer != nil && m.newcomer.Status().State != api.AgentPending {
		f(m.newcomer)
	}
}

func (s *partitionStage) look(ctx context.Context) (tour.Sight, error) {
	if s.dl == nil {
		return tour.Sight{}, nil
	}
	_, n, _ := s.dl.progress()
	last, cut, err := s.dl.ended()
	if err != nil || (cut && s.away.IsZero()) {
		return tour.Sight{}, fmt.Errorf("the download ended (%w); ctrl+p and ctrl+n begin the step anew", cmp.Or(err, error(syscall.ECONNRESET)))
	}
	hear, of := s.connected()
	flow := "The download from laptop-ana: " + kB(n) + "."
	switch {
	case cut && !s.healed.IsZero() && last.After(s.healed):
		flow = "What you changed meanwhile came with the healing: last byte " + sign(last.Sub(s.healed)) + " it, then a reset."
	case cut:
		flow = "The download was cut, after " + kB(n) + "."
	}
	state := fmt.Sprintf("%d of %d systems hear control. %s", hear, of, flow)
	switch {
	case s.away.IsZero():
		lines := []string{state}
		if s.said != "" {
			lines = append(lines, s.said)
		}
		return tour.Sight{Action: "partition control", Lines: lines}, nil
	case s.healed.IsZero() && hear > 0:
		return tour.Sight{Lines: []string{fmt.Sprintf("Partitioned for %.1f s.", time.Since(s.away).Seconds()), state}}, nil
	case s.healed.IsZero():
		if s.page == "" {
			if s.page, err = s.fetch(ctx, s.ana, s.pod2); err != nil {
				return tour.Sight{Action: "heal the partition", Lines: []string{state}}, err
			}
		}
		return tour.Sight{Action: "heal the partition", Lines: []string{state,
			"Try it: disable the policy on screen 3. The change waits for the systems; the last line counts them.",
			"A new connection meanwhile, laptop-ana to pod-2: " + s.page}}, nil
	case hear < of:
		return tour.Sight{Lines: []string{fmt.Sprintf("Healed %.1f s ago.", time.Since(s.healed).Seconds()), state}}, nil
	}
	if s.whole == 0 {
		s.whole = time.Since(s.healed)
	}
	lines := []string{fmt.Sprintf("All %d are back within %.1f s of the healing. Away for %.1f s, in which the download carried %s.", of, s.whole.Seconds(), s.healed.Sub(s.away).Seconds(), kB(s.kept))}
	if cut {
		return tour.Sight{Done: true, Lines: append(lines, flow)}, nil
	}
	return tour.Sight{Done: true, Action: "partition it once more", Lines: append(lines, "A new connection meanwhile: "+s.page)}, nil
}

func (s *partitionStage) leave(context.Context) error {
	if s.dl != nil {
		s.dl.stop()
		s.dl = nil
	}
	if !s.away.IsZero() && s.healed.IsZero() {
		s.healed = time.Now()
		s.HealControl()
	}
	return nil
}
