package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"enclave/agent/uplink"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

// steady is how long a stream must have lived for its end to count as a fresh
// failure rather than one more of the same.
const steady = 10 * time.Second

// follow keeps a map stream open for as long as ctx lives, with back-off between
// attempts. It ends by itself only when the identity does.
func (a *Agent) follow(ctx context.Context, messages chan<- *wire.Message) error {
	trust, err := a.trust()
	if err != nil {
		return err
	}
	var b backoff
	for {
		began := time.Now()
		err := a.attempt(ctx, trust, messages)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if fatal := identityEnded(err); fatal != nil {
			return fatal
		}
		a.events.post(event{control: &api.ControlStatus{URL: a.cfg.Control, Error: err.Error()}})
		if time.Since(began) > steady {
			b.reset()
		}
		a.log.Info("control is away", "error", err)
		if !b.wait(ctx) {
			return ctx.Err()
		}
	}
}

// identityEnded returns the error to stop with when control says that this identity
// counts no more.
func identityEnded(err error) error {
	var p *api.Problem
	if errors.As(err, &p) && (p.Code == wire.ByeRevoked || p.Status == 401 || p.Status == 410) {
		return fmt.Errorf("%w: %s", ErrRevoked, p.Error())
	}
	if errors.Is(err, ErrRevoked) || errors.Is(err, ErrReplaced) {
		return err
	}
	return nil
}

// attempt is one connection: the stream, the reports and the renewal, which end
// together.
func (a *Agent) attempt(ctx context.Context, trust svid.Trust, messages chan<- *wire.Message) error {
	c := uplink.New(a.endpoint(), trust, a.source)
	defer c.Close()
	if a.renewIn(time.Now()) <= 0 { // slept past it: renew before anything else
		if err := a.renew(ctx, c, trust); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{}, 2)
	go func() { cancel(a.report(ctx, c)); done <- struct{}{} }()
	go func() { cancel(a.renewal(ctx, c, trust)); done <- struct{}{} }()

	err := c.Stream(ctx, a.cfg.Beat, func(m *wire.Message) error {
		if m.Bye != nil {
			return bye(m.Bye)
		}
		select {
		case messages <- m:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	cancel(nil)
	<-done
	<-done
	return err
}

func bye(b *wire.Bye) error {
	switch b.Code {
	case wire.ByeRevoked:
		return fmt.Errorf("%w: %s", ErrRevoked, b.Message)
	case wire.ByeReplaced:
		return fmt.Errorf("%w: %s", ErrReplaced, b.Message)
	}
	return fmt.Errorf("%w: it said goodbye: %s", uplink.ErrUnreachable, b.Message)
}

// report sends what is applied and where this system is, whenever either changes.
func (a *Agent) report(ctx context.Context, c *uplink.Client) error {
	var sent wire.Report
	first := true
	for {
		changed := a.events.changed()
		r := a.current()
		out := wire.Report{Applied: r.Applied}
		if first || !sameReach(r.Reach, sent.Reach) {
			out.Reach = r.Reach
		}
		if first || out.Reach != nil || r.Applied != sent.Applied {
			if err := c.Report(ctx, out); err != nil {
				return err
			}
			sent, first = r, false
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// renewIn is how long until the SVID is to be renewed: at half its life.
func (a *Agent) renewIn(now time.Time) time.Duration {
	leaf := a.cert.Load().Leaf
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2).Sub(now)
}

// renewal renews the SVID at half its life, with a tenth of jitter, and tries again
// until it works: half a life is left for that.
func (a *Agent) renewal(ctx context.Context, c *uplink.Client, trust svid.Trust) error {
	for {
		in := max(a.renewIn(time.Now()), 0)
		t := time.NewTimer(in - in/10 + rand.N(in/5+time.Second))
		select {
		case <-t.C:
			if err := a.renew(ctx, c, trust); err != nil {
				return err
			}
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

func (a *Agent) renew(ctx context.Context, c *uplink.Client, trust svid.Trust) error {
	resp, err := c.Renew(ctx, wire.RenewRequest{Now: time.Now().UTC(), Host: a.host()})
	if err != nil {
		return err
	}
	id, leaf, err := svid.Verify(resp.SVID, trust.Roots, trust.Org, time.Now())
	if err != nil {
		return fmt.Errorf("renew: the SVID control sent: %w", err)
	}
	if key, err := svid.IdentityKey(leaf); err != nil || key != a.keys.Identity || id.SystemID() != a.st.System {
		return fmt.Errorf("renew: the SVID control sent: %w", svid.ErrWrongPeer)
	}
	if err := a.useSVID(resp.SVID); err != nil {
		return err
	}
	a.events.post(event{svid: resp.SVID})
	return nil
}
