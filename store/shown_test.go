package store

import (
	"context"
	"testing"
	"time"
)

// TestShownSecret: a secret that is to be shown again outlives rotations, and goes with the
// first use, which fails for nobody's sake but its own.
func TestShownSecret(t *testing.T) {
	dir := stateDir(t)
	s := made(t, dir, InitParams{})
	want := func(s *Store, want string) {
		t.Helper()
		if got, err := s.ShownSecret(t.Context(), start.Add(time.Hour)); err != nil || got != want {
			t.Errorf("%q, want %q: %v", got, want, err)
		}
	}
	want(s, "")
	for _, p := range []KeyParams{
		{Secret: SecretHash{1}},
		{Secret: SecretHash{2}, Shown: "expired", Expires: End{At: start.Add(time.Minute)}},
		{Secret: SecretHash{3}, Shown: "first", Sources: []string{"192.0.2.0/24"}},
	} {
		if _, err := s.CreateKey(t.Context(), by(start), p); err != nil {
			t.Fatal(err)
		}
	}
	want(s, "first")
	if _, err := s.Rotate(t.Context(), by(start), nil); err != nil {
		t.Fatal(err)
	}
	want(s, "first")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Rotate(t.Context(), dir, by(start)); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want(s, "first")
	enrol := func(admit bool) error {
		_, _, err := s.Enrol(context.Background(), start, EnrolParams{Secret: SecretHash{3}, Name: "a", Keys: keys32(1), Admit: func([]string) bool { return admit }})
		return err
	}
	if enrol(false) == nil {
		t.Error("admitted from elsewhere")
	}
	want(s, "first") // who was refused has not used it
	if err := enrol(true); err != nil {
		t.Fatal(err)
	}
	want(s, "")
	var kept int
	if err := s.read.QueryRow("SELECT count(*) FROM enrolment_keys WHERE secret IS NOT NULL AND secret_hash = ?", append([]byte{3}, make([]byte, 31)...)).Scan(&kept); err != nil || kept != 0 {
		t.Errorf("%d kept, %v", kept, err)
	}
}
