package agent

import (
	"context"
	"errors"

	"enclave/wire"
	"enclave/wire/api"
)

// Ready waits until this system has its first map and its data plane stands, and
// returns its ID. It returns early with ctx only; Run says what else went wrong.
func (a *Agent) Ready(ctx context.Context) (wire.SystemID, error) {
	if _, err := a.ready(ctx); err != nil {
		return "", err
	}
	return a.st.System, nil
}

// Record has a record of this run kept in control's audit trail. It returns when the
// record is on control's disk.
func (a *Agent) Record(ctx context.Context, r wire.RunRecord) error {
	c := a.client.Load()
	if c == nil {
		return ErrNotReady
	}
	return c.Record(ctx, r)
}

// Leave ends this run's identity. Its Run ends with ErrRevoked soon after.
func (a *Agent) Leave(ctx context.Context) error {
	c := a.client.Load()
	if c == nil {
		return ErrNotReady
	}
	err := c.Leave(ctx)
	var p *api.Problem
	if errors.As(err, &p) && p.Code == wire.ByeRevoked {
		return nil // it had ended already
	}
	return err
}
