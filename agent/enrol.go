package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"enclave/agent/uplink"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

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
	b := backoff{most: backoffMost}
	for {
		resp, err := uplink.Enrol(ctx, a.endpoint(), wire.EnrolRequest{
			Version: wire.Version, Now: time.Now().UTC(), Secret: secret, Name: a.cfg.Name, Keys: a.keys, Host: a.host(), Run: a.cfg.Run,
		})
		if err == nil {
			return a.enrolled(resp)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !temporary(err) {
			return fmt.Errorf("enrol: %w", clockError(err))
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
	if _, err := wire.ParseSystemID(string(r.System)); err != nil {
		return fmt.Errorf("enrol: the identity control sent: %w", err)
	}
	if err := a.own(r.SVID, svid.Trust{Org: r.Org, Roots: pool}, r.System); err != nil {
		return fmt.Errorf("enrol: the identity control sent: %w", clockError(err))
	}
	a.st.Control, a.st.Fingerprint = a.cfg.Control, a.cfg.Fingerprint
	a.st.System, a.st.Org, a.st.SVID, a.st.Roots = r.System, r.Org, r.SVID, r.Roots
	if err := a.st.save(a.cfg.Keeper); err != nil {
		return err
	}
	a.log.Info("enrolled", "system", r.System, "state", r.State)
	return a.useSVID(r.SVID)
}

// own reports whether chain is an SVID of trust for this agent's key.
func (a *Agent) own(chain [][]byte, trust svid.Trust, id wire.SystemID) error {
	if _, _, err := svid.Verify(chain, trust.Roots, trust.Org, time.Now()); err != nil {
		return err
	}
	_, err := ownLeaf(chain, a.keys.Identity, id)
	return err
}

// ownLeaf returns the certificate of chain, which must be of that key and system.
func ownLeaf(chain [][]byte, key wire.IdentityKey, id wire.SystemID) (*x509.Certificate, error) {
	if len(chain) == 0 {
		return nil, fmt.Errorf("%w: no certificate", svid.ErrMalformed)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("%w: %v", svid.ErrMalformed, err)
	}
	name, err := svid.FromCert(leaf)
	if err != nil {
		return nil, err
	}
	if have, err := svid.IdentityKey(leaf); err != nil || have != key || name.SystemID() != id {
		return nil, svid.ErrWrongPeer
	}
	return leaf, nil
}

// clockError marks refusals whose reason is this machine's clock. A certificate that
// has expired is not among them: it may be control's own fault, and its sentence
// names both.
func clockError(err error) error {
	var p *api.Problem
	if (errors.As(err, &p) && p.Code == api.CodeClockSkew) || errors.Is(err, svid.ErrNotYetValid) {
		return fmt.Errorf("%w: %w", ErrClock, err)
	}
	return err
}

// temporary reports whether asking again may help.
func temporary(err error) bool {
	var p *api.Problem
	if errors.As(err, &p) {
		return p.Status >= 500 || p.Status == 429
	}
	return errors.Is(err, uplink.ErrUnreachable) || errors.Is(err, uplink.ErrSilent)
}
