package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"enclave/agent/uplink"
	"enclave/wire"
	"enclave/wire/svid"
)

// renewIn is how long until the SVID is to be renewed: at half its life.
func (a *Agent) renewIn(now time.Time) time.Duration {
	leaf := a.cert.Load().Leaf
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2).Sub(now)
}

// renewal renews the SVID at half its life, give or take a tenth, and tries again
// until it works: half a life is left for that. It returns an error only when the
// identity has ended.
func (a *Agent) renewal(ctx context.Context, c *uplink.Client, trust svid.Trust) error {
	b := backoff{most: renewMost}
	for {
		in := max(a.renewIn(time.Now()), 0)
		t := time.NewTimer(in - in/10 + rand.N(in/5+time.Second))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
		err := a.renew(ctx, c, trust)
		switch {
		case err == nil:
			b.reset()
		case identityEnded(err) != nil:
			return err
		case !b.wait(ctx):
			return ctx.Err()
		}
	}
}

// renew buys a new SVID with the one at hand. A failure is told in the status until
// it works.
func (a *Agent) renew(ctx context.Context, c *uplink.Client, trust svid.Trust) error {
	resp, err := c.Renew(ctx, wire.RenewRequest{Now: time.Now().UTC(), Host: a.host()})
	if err == nil {
		if err = a.own(resp.SVID, trust, a.st.System); err != nil {
			err = fmt.Errorf("renew: the SVID control sent: %w", err)
		}
	}
	if err != nil {
		err = clockError(err)
		if ctx.Err() == nil {
			a.unproved.Store(&err)
			a.log.Warn("the identity is not renewed yet", "until", a.cert.Load().Leaf.NotAfter, "error", err)
			a.events.announce()
		}
		return err
	}
	if err := a.useSVID(resp.SVID); err != nil {
		return err
	}
	a.unproved.Store(nil)
	a.log.Debug("identity renewed", "until", a.cert.Load().Leaf.NotAfter)
	return a.tell(ctx, word{svid: resp.SVID})
}
