package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"enclave/agent/uplink"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

// steady is how long a connection must have lived for its end to count as a fresh
// failure rather than one more of the same.
const steady = 10 * time.Second

// follow keeps a map stream open for as long as ctx lives, with back-off between
// attempts. It ends by itself only when the identity does.
func (a *Agent) follow(ctx context.Context) error {
	trust, err := a.trust()
	if err != nil {
		return err
	}
	b := backoff{most: backoffMost}
	said := ""
	for {
		began := time.Now()
		err := a.attempt(ctx, trust)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := identityEnded(err); err != nil {
			_ = a.tell(ctx, word{away: err}) // fails with ctx only
			return err
		}
		_ = a.tell(ctx, word{away: err}) // fails with ctx only
		lived := time.Since(began) > steady
		if lived {
			b.reset()
		}
		if lived || err.Error() != said { // once, not four times a minute all night
			said = err.Error()
			a.log.Warn("control is away; trying again until it is back", "control", a.cfg.Control, "error", err)
		}
		if !b.wait(ctx) {
			return ctx.Err()
		}
	}
}

// identityEnded returns the error to stop with when control says that this identity
// counts no more. Only its own word for it does: the status of an answer may come
// from a machine in between, and a disabled system is one that waits
// (docs/decisions/0092).
func identityEnded(err error) error {
	var p *api.Problem
	if errors.As(err, &p) && p.Code == wire.ByeRevoked {
		return fmt.Errorf("%w: %s", ErrRevoked, p.Error())
	}
	if errors.Is(err, ErrRevoked) || errors.Is(err, ErrReplaced) {
		return err
	}
	return nil
}

// attempt is one connection: the stream, the reports and the renewal, which end
// together. Only the stream and the identity end it.
func (a *Agent) attempt(ctx context.Context, trust svid.Trust) error {
	c := uplink.New(a.endpoint(), trust, a.source)
	defer c.Close()
	a.client.Store(c)
	defer a.client.Store(nil)
	if now := time.Now(); a.renewIn(now) <= 0 {
		// Before anything else: control may find that the SVID has expired, also where
		// the clock here does not.
		err := a.renew(ctx, c, trust)
		if err != nil && (now.After(a.cert.Load().Leaf.NotAfter) || identityEnded(err) != nil) {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel(nil)
	for _, work := range []func() error{
		func() error { return a.report(ctx, c) },
		func() error { return a.renewal(ctx, c, trust) },
	} {
		beside.Go(func() { cancel(work()) })
	}
	asks := make(chan struct{}, maxAsks)
	err := c.Stream(ctx, a.cfg.Beat, a.witnessed.Load(), func(m *wire.Message) error {
		if m.Bye != nil {
			return bye(m.Bye)
		}
		if m.Ask != nil {
			select {
			case asks <- struct{}{}:
				beside.Go(func() {
					defer func() { <-asks }()
					a.answerAsk(ctx, c, m.Ask)
				})
			default: // control asks less than that; whoever asks without end gets no answer
			}
			return nil
		}
		return a.tell(ctx, word{msg: m})
	})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// maxAsks is how many questions are answered at once: control has four open with one agent.
const maxAsks = 8

func bye(b *wire.Bye) error {
	message := b.Message[:min(len(b.Message), wire.MaxCauseLen)] // a line of the log holds it
	switch b.Code {
	case wire.ByeRevoked:
		return fmt.Errorf("%w: %s", ErrRevoked, message)
	case wire.ByeReplaced:
		return fmt.Errorf("%w: %s", ErrReplaced, message)
	}
	return fmt.Errorf("%w: it said goodbye: %s", uplink.ErrUnreachable, message)
}

// nothing is the revision of a report that was never sent.
const nothing = ^wire.Revision(0)

// report sends what is applied and where this system is, whenever either changes.
// What changes while one is under way goes into the next. It returns an error only
// when the identity has ended: a report that is refused or lost leaves the stream as
// it is.
func (a *Agent) report(ctx context.Context, c *uplink.Client) error {
	sent := wire.Report{Applied: nothing}
	b := backoff{most: backoffMost}
	for {
		changed := a.events.changed()
		now := a.current()
		out := wire.Report{Applied: now.Applied}
		if !sameReach(now.Reach, sent.Reach) {
			out.Reach = now.Reach
		}
		if out.Reach == nil && out.Applied == sent.Applied {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		switch err := c.Report(ctx, out); {
		case err == nil:
			sent = now
			b.reset()
		case identityEnded(err) != nil:
			return err
		case temporary(err):
			if !b.wait(ctx) {
				return ctx.Err()
			}
		default:
			a.log.Warn("control refuses a report", "applied", out.Applied, "with_reach", out.Reach != nil, "error", err)
			if sent.Reach = now.Reach; out.Reach == nil { // else once more, without the reach
				sent = now
			}
		}
	}
}
