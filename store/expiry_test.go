package store

import (
	"path/filepath"
	"testing"
	"time"

	"enclave/wire"
)

// TestZonesThatChangeMoveTheirExpiries keeps instants that other rules have given, as an
// older program with older zones would have.
func TestZonesThatChangeMoveTheirExpiries(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := Change{By: "test", At: start}
	if _, err := s.Init(t.Context(), c, InitParams{ID: wire.NewOrgID(start), Name: "lab", CACert: []byte("c"), CAKey: []byte("k"), TicketKey: []byte("t")}); err != nil {
		t.Fatal(err)
	}
	local := &wire.LocalTime{Time: "2099-07-01T18:00", Zone: "Europe/London"}
	want := time.Date(2099, 7, 1, 17, 0, 0, 0, time.UTC)
	k, err := s.CreateKey(t.Context(), c, KeyParams{Name: "key", Automatic: true, Expires: End{Local: local}, Secret: SecretHash{1}})
	if err != nil {
		t.Fatal(err)
	}
	sys, _, err := s.Enrol(t.Context(), start, EnrolParams{Secret: SecretHash{1}, Name: "box", Keys: keys32(1)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetSystemExpiry(t.Context(), c, sys.ID, End{Local: local}); err != nil {
		t.Fatal(err)
	}
	p, _, err := s.CreatePolicy(t.Context(), c, wire.Policy{Name: "p", Kind: wire.Direct, ExpiresLocal: local})
	if err != nil {
		t.Fatal(err)
	}
	stale := want.Add(time.Hour).UnixNano()
	for _, table := range []string{"systems", "enrolment_keys", "policies"} {
		if _, err := s.write.ExecContext(t.Context(), "UPDATE "+table+" SET expires_at = ?", stale); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time there is nothing to move
		if err := s.FollowZones(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	sys, _ = s.System(t.Context(), sys.ID)
	k, _ = s.FindKey(t.Context(), string(k.ID))
	p, _ = s.Policy(t.Context(), p.ID)
	for name, at := range map[string]time.Time{"system": sys.ExpiresAt, "key": k.ExpiresAt, "policy": p.EndsAt} {
		if !at.Equal(want) {
			t.Errorf("the %s ends %s, want %s", name, at, want)
		}
	}
	log, err := s.Audit(t.Context(), AuditQuery{})
	moves := 0
	for _, r := range log {
		if r.Action == "expiry.move" {
			moves++
		}
	}
	if err != nil || moves != 3 {
		t.Errorf("%d moves in the log, %v", moves, err)
	}
}
