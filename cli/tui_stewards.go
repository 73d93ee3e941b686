package cli

import (
	"context"
	"net/http"
	"time"

	"enclave/cli/client"
	"enclave/tui/screen"
	"enclave/wire"
	"enclave/wire/api"
)

// KeyVerb enables, disables or deletes an enrolment key.
func (t tuiClient) KeyVerb(ctx context.Context, dry bool, id, verb string) (api.Impact, error) {
	return t.try(dry, func(c *client.Client) (err error) {
		if verb == "delete" {
			_, err = c.DeleteKey(ctx, id)
		} else {
			_, err = c.KeyDo(ctx, id, verb)
		}
		return err
	})
}

// Mark says that a system meets a requirement.
func (t tuiClient) Mark(ctx context.Context, dry bool, system, requirement string, until time.Time) (api.Impact, error) {
	return t.try(dry, func(c *client.Client) error {
		_, err := c.SetTrust(ctx, system, requirement, until, nil)
		return err
	})
}

// Unmark takes that back.
func (t tuiClient) Unmark(ctx context.Context, dry bool, system, requirement string) (api.Impact, error) {
	return t.try(dry, func(c *client.Client) error { _, err := c.DropTrust(ctx, system, requirement); return err })
}

// AddRequirement makes a requirement.
func (t tuiClient) AddRequirement(ctx context.Context, dry bool, r wire.Requirement) (api.Impact, error) {
	return t.try(dry, func(c *client.Client) error { _, err := c.SetRequirement(ctx, r); return err })
}

// DropRequirement removes a requirement.
func (t tuiClient) DropRequirement(ctx context.Context, dry bool, id string) (api.Impact, error) {
	return t.try(dry, func(c *client.Client) error { _, err := c.DeleteRequirement(ctx, id); return err })
}

// AddZone makes a DNS zone.
func (t tuiClient) AddZone(ctx context.Context, dry bool, z wire.Zone) (api.Impact, error) {
	return t.try(dry, func(c *client.Client) error { _, err := c.CreateZone(ctx, z); return err })
}

// AddRecord makes a DNS record.
func (t tuiClient) AddRecord(ctx context.Context, dry bool, r wire.Record) (api.Impact, error) {
	return t.try(dry, func(c *client.Client) error { _, err := c.CreateRecord(ctx, r); return err })
}

// DropName removes a zone or a record.
func (t tuiClient) DropName(ctx context.Context, dry bool, name string, zone bool) (api.Impact, error) {
	return t.try(dry, func(c *client.Client) error {
		if zone {
			_, err := c.DeleteZone(ctx, name)
			return err
		}
		_, err := c.DeleteRecord(ctx, name)
		return err
	})
}

// sandboxAt is a sandbox server; nil is none.
type sandboxAt struct {
	url, token string
	http       *http.Client
}

// Sessions lists the runs that the sandbox server holds for this token.
func (t tuiClient) Sessions(ctx context.Context) ([]screen.Session, error) {
	if t.sandbox == nil {
		return nil, screen.ErrNoSandbox
	}
	return t.sandbox.sessions(ctx)
}

// CancelSession cancels one of them.
func (t tuiClient) CancelSession(ctx context.Context, id string) error {
	if t.sandbox == nil {
		return screen.ErrNoSandbox
	}
	return t.sandbox.cancel(ctx, id)
}
