package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"enclave/tui/tour"
	"enclave/wire"
	"enclave/wire/api"
)

// ended says how a download stands: when its last byte came, once it was reset.
func (d *download) ended() (last time.Time, cut bool, err error) {
	select {
	case <-d.done:
	default:
		return time.Time{}, false, nil
	}
	last, _, err = d.progress()
	if !errors.Is(err, syscall.ECONNRESET) {
		return last, false, fmt.Errorf("the download ended with %w, not with a reset", err)
	}
	return last, true, nil
}

// cutStage: a live download is cut by a change of policy.
type cutStage struct {
	*Tour
	plain
	said string
	dl   *download
}

func (*cutStage) step() tour.Step {
	return tour.Step{Title: "cut a live download", Do: "laptop-ana downloads from pod-1. Press 3, move to " + kubernetes + ", d: what would be lost, and which flows. Then y."}
}

func (s *cutStage) enter(ctx context.Context) (err error) {
	if s.said, err = s.enable(ctx); err != nil {
		return err
	}
	s.dl, err = s.load(ctx, s.ana, "http://pod-1.enclave/download")
	return err
}

func (s *cutStage) look(ctx context.Context) (tour.Sight, error) {
	if s.dl == nil {
		return tour.Sight{}, nil
	}
	last, cut, err := s.dl.ended()
	_, n, _ := s.dl.progress()
	if err != nil || !cut {
		lines := []string{kB(n) + " so far, a chunk each 2 ms."}
		if s.said != "" {
			lines = append(lines, s.said)
		}
		return tour.Sight{Lines: lines}, err
	}
	lines := []string{"Connection reset after " + kB(n) + "."}
	r, ok, err := s.cause(ctx, last.Add(time.Second))
	if ok {
		lines = []string{fmt.Sprintf("Last byte %s record %d was written (%s by %s). Then a reset.", sign(last.Sub(r.At)), r.Seq, r.Action, r.Actor)}
	}
	if !slices.Contains(s.ana.Keys(), s.pod1.PublicKey()) && !slices.Contains(s.pod1.Keys(), s.ana.PublicKey()) {
		lines = append(lines, "Both have forgotten each other: no key, no address, no name is left.")
	}
	return tour.Sight{Done: true, Lines: lines}, err
}

func (s *cutStage) leave(context.Context) error {
	if s.dl != nil {
		s.dl.stop()
		s.dl = nil
	}
	return nil
}

// hoursStage: active hours end under a download.
type hoursStage struct {
	*Tour
	dl   *download
	ends time.Time // zero: no end was set
}

const officeHours = "Builds in office hours"

func (*hoursStage) step() tour.Step {
	return tour.Step{Title: "let the hours end", Do: "The contractor downloads from the build server while \"" + officeHours + "\" is active. ctrl+g lets its hours end at the next minute; watch it on screen 3."}
}

func everyDay(end string) wire.Windows {
	return wire.Windows{{Zone: "UTC", Days: []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}, Start: "00:00", End: end}}
}

func (s *hoursStage) enter(ctx context.Context) error {
	s.ends = time.Time{}
	if err := s.hours(ctx, "24:00"); err != nil {
		return err
	}
	var err error
	s.dl, err = s.load(ctx, s.cleo, "http://build.enclave/download")
	return err
}

// hours makes or changes the policy and waits until it is in force.
func (s *hoursStage) hours(ctx context.Context, end string) error {
	p, err := s.API.Policy(ctx, officeHours)
	var gone *api.Problem
	if errors.As(err, &gone) && gone.Status == 404 {
		p, err = s.API.CreatePolicy(ctx, wire.Policy{Name: officeHours, Kind: wire.Direct, Enabled: true, Notes: "made for the tour",
			SenderTags: []wire.Tag{"contractors"}, ReceiverTags: []wire.Tag{"builders"}, ACLs: []wire.ACL{allow(wire.TCP, 80)}, ActiveHours: everyDay(end)})
	} else if err == nil {
		p.Enabled, p.ActiveHours = true, everyDay(end)
		p, err = s.API.UpdatePolicy(ctx, officeHours, p.Policy, p.Version)
	}
	if err != nil {
		return err
	}
	return s.applied(ctx, p.Version)
}

func (s *hoursStage) act(ctx context.Context) error {
	if over, _, _ := s.dl.ended(); !over.IsZero() {
		return s.enter(ctx)
	}
	ends := time.Now().UTC().Add(time.Minute + 5*time.Second).Truncate(time.Minute)
	text := ends.Format("15:04")
	if text == "00:00" {
		text = "24:00"
	}
	if err := s.hours(ctx, text); err != nil {
		return err
	}
	s.ends = ends
	return nil
}

func (s *hoursStage) look(context.Context) (tour.Sight, error) {
	if s.dl == nil {
		return tour.Sight{}, nil
	}
	last, cut, err := s.dl.ended()
	_, n, _ := s.dl.progress()
	switch {
	case err != nil:
		return tour.Sight{Action: "begin again"}, err
	case !cut && s.ends.IsZero():
		return tour.Sight{Action: "its hours end at the next full minute", Lines: []string{kB(n) + " so far."}}, nil
	case !cut:
		return tour.Sight{Lines: []string{fmt.Sprintf("The hours end in %.0f s, at %s UTC. %s so far.", time.Until(s.ends).Seconds(), s.ends.Format("15:04:05"), kB(n))}}, nil
	case s.ends.IsZero() || last.Sub(s.ends).Abs() > time.Second:
		return tour.Sight{Action: "begin again", Lines: []string{"Something else cut it, after " + kB(n) + ": look at the newest records on the audit screen."}}, nil
	}
	return tour.Sight{Done: true, Lines: []string{fmt.Sprintf("Last byte %s %s, then a reset.", sign(last.Sub(s.ends)), s.ends.Format("15:04:05")),
		"Nobody pressed a key and no message was sent: each end had the instant with its grant, and would have kept it with control dead."}}, nil
}

func (s *hoursStage) leave(context.Context) error {
	if s.dl != nil {
		s.dl.stop()
		s.dl = nil
	}
	return nil
}
