package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"enclave/e2e/natlab"
	"enclave/tui/tour"
	"enclave/wire"
	"enclave/wire/api"
)

// Tour is the demo walked by a person: the same enclave, with the tour of the terminal UI
// as its director. What it tells was seen in the lab or asked of the API.
type Tour struct {
	*demo
	ctx    context.Context // of what goes on between two calls
	end    func()
	cafe   *natlab.Network
	stages []stage

	mu  sync.Mutex // guards now
	now int        // the stage that was entered; -1 is none
}

// stage is a step of the tour.
type stage interface {
	step() tour.Step
	enter(ctx context.Context) error
	look(ctx context.Context) (tour.Sight, error)
	act(ctx context.Context) error
	leave(ctx context.Context) error
}

// plain is a stage without what most do not need.
type plain struct{}

func (plain) act(context.Context) error   { return nil }
func (plain) leave(context.Context) error { return nil }

// OpenTour starts the enclave; cfg.API must be set.
func OpenTour(ctx context.Context, cfg Config) (*Tour, error) {
	d, ctx, end, err := begin(ctx, cfg)
	if err != nil {
		return nil, err
	}
	t := &Tour{demo: d, ctx: ctx, end: end, now: -1, cafe: d.Lab.Router("cafe", d.Lab.Internet(), natlab.Easy()).LAN()}
	t.stages = []stage{
		&meshStage{Tour: t}, &openStage{Tour: t}, &pathStage{Tour: t}, &cutStage{Tour: t}, &hoursStage{Tour: t},
		&relayStage{Tour: t}, &partitionStage{Tour: t}, &scriptStage{Tour: t}, &tamperStage{Tour: t},
	}
	for _, a := range d.everyone {
		err := eventually(ctx, 30*time.Second, a.Name+" is not up", func() bool { return a.Status().State == api.AgentRunning })
		if err != nil {
			end()
			return nil, err
		}
	}
	_, err = d.API.CreatePolicy(ctx, wire.Policy{Name: kubernetes, Kind: wire.Direct, Notes: "made for the tour",
		SenderTags: []wire.Tag{"developers", "contractors"}, ReceiverTags: []wire.Tag{"pods"}, ACLs: []wire.ACL{allow(wire.TCP, 80)}})
	if err != nil {
		end()
		return nil, err
	}
	return t, nil
}

// Token signs in to the API at APIAddr.
func (t *Tour) Token() string { return t.First.Token }

// Close ends the stage that is on, and the enclave.
func (t *Tour) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	t.mu.Lock()
	if t.now >= 0 {
		_ = t.stages[t.now].leave(ctx)
		t.now = -1
	}
	t.mu.Unlock()
	t.end()
}

// Steps of the tour.
func (t *Tour) Steps() []tour.Step {
	var out []tour.Step
	for _, s := range t.stages {
		out = append(out, s.step())
	}
	return out
}

// Enter leaves the stage that is on and makes the next ready.
func (t *Tour) Enter(ctx context.Context, step int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var left error
	if t.now >= 0 {
		left = t.stages[t.now].leave(ctx)
	}
	t.now = step
	return errors.Join(left, t.stages[step].enter(ctx))
}

// Look says how the stage stands.
func (t *Tour) Look(ctx context.Context) (tour.Sight, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now < 0 {
		return tour.Sight{}, nil
	}
	return t.stages[t.now].look(ctx)
}

// Act does what the stage's last Sight announced.
func (t *Tour) Act(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now < 0 {
		return nil
	}
	return t.stages[t.now].act(ctx)
}

// enable has the policy in force everywhere, and says in words if that was a change.
func (t *Tour) enable(ctx context.Context) (said string, err error) {
	p, err := t.API.Policy(ctx, kubernetes)
	var gone *api.Problem
	switch {
	case errors.As(err, &gone) && gone.Status == 404:
		return "", fmt.Errorf("%q is gone: this step needs it; restore it from the history, or run the demo again", kubernetes)
	case err != nil:
		return "", err
	case p.State == "active":
		return "", nil
	}
	_, err = t.change(ctx, func() (api.Changed, error) { return t.API.PolicyDo(ctx, kubernetes, "enable") })
	return fmt.Sprintf("(%q was enabled for this step)", kubernetes), err
}

// cause finds the newest change of policy that was recorded before an instant.
func (t *Tour) cause(ctx context.Context, before time.Time) (r api.AuditRecord, ok bool, err error) {
	list, err := t.API.Audit(ctx, nil, 100)
	for _, one := range slices.Backward(list) {
		if one.Revision > 0 && one.Outcome == "ok" && !one.At.After(before) {
			return one, true, err
		}
	}
	return r, false, err
}

// kB says bytes in words.
func kB(n int64) string {
	if n >= 10_000_000 {
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%d kB", n/1000)
}

// sign says how far from an instant something was.
func sign(d time.Duration) string {
	if d < 0 {
		return ms(-d) + " before"
	}
	return ms(d) + " after"
}
