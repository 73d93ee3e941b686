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

// The reconnection back-off: full jitter between nothing and a bound that doubles,
// so that a thousand agents do not return in step.
const (
	backoffFirst = 500 * time.Millisecond
	backoffMost  = 15 * time.Second
)

// backoff spaces attempts.
type backoff struct{ bound time.Duration }

func (b *backoff) reset() { b.bound = 0 }

// wait sleeps for the next pause, or returns false when ctx ends first.
func (b *backoff) wait(ctx context.Context) bool {
	b.bound = min(max(2*b.bound, backoffFirst), backoffMost)
	t := time.NewTimer(b.bound/4 + rand.N(b.bound*3/4))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// enrol buys an identity unless there is one. It waits for a control plane that is
// not there yet, and returns every refusal: asking again would not change it.
func (a *Agent) enrol(ctx context.Context) error {
	if a.st.System != "" {
		return nil
	}
	if a.cfg.Key == nil {
		return ErrNeedKey
	}
	secret, err := a.cfg.Key()
	if err != nil {
		return err
	}
	var b backoff
	for {
		resp, err := uplink.Enrol(ctx, a.endpoint(), wire.EnrolRequest{
			Version: wire.Version, Now: time.Now().UTC(), Secret: secret, Name: a.cfg.Name, Keys: a.keys, Host: a.host(),
		})
		if err == nil {
			return a.enrolled(resp)
		}
		if !temporary(err) {
			return fmt.Errorf("enrol: %w", err)
		}
		a.log.Warn("enrolment waits for the control plane", "control", a.cfg.Control, "error", err)
		if !b.wait(ctx) {
			return ctx.Err()
		}
	}
}

func (a *Agent) enrolled(r *wire.EnrolResponse) error {
	pool, err := svid.Pool(r.Roots)
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	id, leaf, err := svid.Verify(r.SVID, pool, r.Org, time.Now())
	if err != nil {
		return fmt.Errorf("enrol: the identity control sent: %w", err)
	}
	key, err := svid.IdentityKey(leaf)
	if err != nil || key != a.keys.Identity || id.SystemID() != r.System || r.System == "" {
		return fmt.Errorf("enrol: the identity control sent: %w", svid.ErrWrongPeer)
	}
	a.st.Control, a.st.Fingerprint = a.cfg.Control, a.cfg.Fingerprint
	a.st.System, a.st.Org, a.st.SVID, a.st.Roots = r.System, r.Org, r.SVID, r.Roots
	if err := a.st.save(a.cfg.Keeper); err != nil {
		return err
	}
	a.log.Info("enrolled", "system", r.System, "state", r.State)
	return a.useSVID(r.SVID)
}

// temporary reports whether asking again may help.
func temporary(err error) bool {
	var p *api.Problem
	if errors.As(err, &p) {
		return p.Status >= 500 || p.Status == 429
	}
	return errors.Is(err, uplink.ErrUnreachable) || errors.Is(err, uplink.ErrSilent)
}
