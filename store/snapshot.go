package store

import (
	"context"
	"encoding/json"

	"enclave/wire"
)

// Snapshot is everything that decides who reaches whom, read at one instant.
type Snapshot struct {
	Revision wire.Revision
	Systems  []System // by ID
	Policies []Policy // oldest first
	TagTrust map[wire.Tag][]string
	Relays   []Relay // by ID
	DNS      DNS
	Rules
}

// Rules is what else of the policy set decides or guards.
type Rules struct {
	Requirements []Requirement // by ID
	Tests        []wire.Assertion
	TestsBroken  string   // why the stored tests cannot be read
	Pending      *Pending // nil: no change waits for its confirmation
}

// Snapshot reads the whole policy state of one revision, so that what is compiled
// from it never mixes two.
func (s *Store) Snapshot(ctx context.Context) (snap Snapshot, err error) {
	err = s.view(ctx, "read state", func(r reader, org wire.OrgID) (err error) {
		if snap.Revision, err = revision(ctx, r, org); err != nil {
			return err
		}
		if snap.Systems, err = systems(ctx, r, org); err != nil {
			return err
		}
		if snap.Policies, err = policies(ctx, r, org); err != nil {
			return err
		}
		if snap.TagTrust, err = tagTrust(ctx, r, org); err != nil {
			return err
		}
		if snap.Relays, err = relays(ctx, r, org); err != nil {
			return err
		}
		if snap.DNS, err = readDNS(ctx, r, org); err != nil {
			return err
		}
		snap.Rules, err = readRules(ctx, r, org)
		return err
	})
	return snap, err
}

// Rules reads requirements, tests, tag trust and the pending change at one instant.
func (s *Store) Rules(ctx context.Context) (rules Rules, trust map[wire.Tag][]string, err error) {
	err = s.view(ctx, "read rules", func(r reader, org wire.OrgID) (err error) {
		if rules, err = readRules(ctx, r, org); err != nil {
			return err
		}
		trust, err = tagTrust(ctx, r, org)
		return err
	})
	return rules, trust, err
}

func readRules(ctx context.Context, r reader, org wire.OrgID) (rules Rules, err error) {
	if rules.Requirements, err = requirements(ctx, r, org); err != nil {
		return rules, err
	}
	err = rows(ctx, r, "SELECT document FROM policy_tests WHERE org_id = ?", []any{org}, func(scan func(...any) error) error {
		var text string
		if err := scan(&text); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(text), &rules.Tests); err != nil {
			rules.Tests, rules.TestsBroken = nil, err.Error()
		}
		return nil
	})
	if err != nil {
		return rules, err
	}
	p, waits, err := pending(ctx, r, org)
	if waits {
		rules.Pending = &p
	}
	return rules, err
}
