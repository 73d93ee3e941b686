package store

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"enclave/wire"
)

// TestLatest steps the two clocks.
func TestLatest(t *testing.T) {
	const day = 24 * time.Hour
	var l latest
	for i, step := range []struct {
		wall, own    time.Duration // since the start
		want, behind time.Duration
	}{
		{0, 0, 0, 0},
		{time.Hour, time.Hour, time.Hour, 0},
		// A correction: it stands still until the wall clock has come along.
		{time.Hour - 2*time.Second, time.Hour + time.Second, time.Hour, 2 * time.Second},
		{time.Hour + time.Second, time.Hour + 4*time.Second, time.Hour + time.Second, 0},
		// Set back a day: it goes on by itself.
		{2*time.Hour - day, 2 * time.Hour, 2*time.Hour - 3*time.Second, day - 3*time.Second},
		{3*time.Hour - day, 3 * time.Hour, 3*time.Hour - 3*time.Second, day - 3*time.Second},
		// A monotonic clock that stood still, as in a machine that sleeps, or went back.
		{4*time.Hour - day, 3 * time.Hour, 3*time.Hour - 3*time.Second, 23*time.Hour - 3*time.Second},
		{4*time.Hour - day, 2 * time.Hour, 3*time.Hour - 3*time.Second, 23*time.Hour - 3*time.Second},
		// Set right, a bit too early and then right.
		{3*time.Hour - time.Minute, 2 * time.Hour, 3*time.Hour - 3*time.Second, 57 * time.Second},
		{4 * time.Hour, 3 * time.Hour, 4 * time.Hour, 0},
		// Sleep: the wall clock is ahead of the monotonic one.
		{9 * time.Hour, 3 * time.Hour, 9 * time.Hour, 0},
	} {
		now, behind := l.look(start.Add(step.wall), step.own)
		if got := now.Sub(start); got != step.want || behind != step.behind {
			t.Errorf("step %d: %s, %s behind, want %s and %s", i, got, behind, step.want, step.behind)
		}
	}
}

// TestClockSetBackMeanwhile stops a state, sets the clock back and starts again: what had
// ended stays so, until an operator says that the clock is right. A bubble's time begins
// anew, so each is a machine whose clock was set back to the same instant.
func TestClockSetBackMeanwhile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	ends := func() time.Time { return time.Now().Add(time.Hour) }
	use := func(s *Store, n int) error {
		_, _, err := s.Enrol(context.Background(), s.Now(), EnrolParams{Secret: SecretHash{1}, Name: "a", Keys: keys32(n)})
		return err
	}
	token := func(s *Store) error {
		_, err := s.Token(context.Background(), SecretHash{2}, s.Now())
		return err
	}
	open := func(t *testing.T) *Store {
		s, err := Open(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		_, err := s.Init(t.Context(), by(time.Now()), InitParams{ID: wire.NewOrgID(start), CACert: []byte{1}, CAKey: []byte{2}, TicketKey: []byte{3}})
		_, err2 := s.CreateKey(t.Context(), by(s.Now()), KeyParams{Secret: SecretHash{1}, Expires: End{At: ends()}})
		_, err3 := s.CreateToken(t.Context(), by(s.Now()), TokenParams{Scopes: []string{"read"}, Secret: SecretHash{2}, ExpiresAt: ends()})
		if err := errors.Join(err, err2, err3, use(s, 1), token(s)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		if err := errors.Join(s.KeepTime(t.Context()), s.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := BelieveClock(t.Context(), dir, by(time.Now()), false); !errors.Is(err, ErrClockRight) {
			t.Errorf("a clock that is right: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		now, behind, since := s.Clock().Look()
		if behind != 2*time.Hour || !since.Equal(time.Now()) || !s.Now().Equal(time.Now().Add(2*time.Hour)) {
			t.Errorf("%s behind since %s", behind, since)
		}
		if err := token(s); !errors.Is(err, ErrTokenExpired) {
			t.Errorf("a token that had expired: %v", err)
		}
		if err := use(s, 2); !errors.Is(err, ErrKeyExpired) {
			t.Errorf("a key that had expired: %v", err)
		}
		// New work goes on, and its time with it.
		if _, err := s.CreateKey(t.Context(), by(s.Now()), KeyParams{Secret: SecretHash{3}, Expires: End{At: s.Now().Add(time.Hour)}}); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if s.Now().Sub(now) != time.Minute {
			t.Errorf("it stands still: %s", s.Now().Sub(now))
		}
		if err := errors.Join(s.KeepTime(t.Context()), s.Close()); err != nil {
			t.Fatal(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		want := 2*time.Hour + time.Minute // the minute counts
		for _, dry := range []bool{true, false} {
			if seen, err := BelieveClock(t.Context(), dir, by(time.Now()), dry); err != nil || time.Until(seen) != want {
				t.Fatalf("dry %v: had seen %s, %v", dry, time.Until(seen), err)
			}
		}
		s := open(t)
		defer s.Close()
		if _, behind, _ := s.Clock().Look(); behind != 0 || !s.Now().Equal(time.Now()) {
			t.Errorf("%s behind after the operator's word", behind)
		}
		if err := errors.Join(use(s, 3), token(s)); err != nil {
			t.Error(err)
		}
		list, err := s.Audit(t.Context(), AuditQuery{Action: "clock.believe"})
		if err != nil || len(list) != 1 {
			t.Errorf("%d records of it, %v", len(list), err)
		}
		if _, err := s.VerifyAudit(t.Context(), nil); err != nil {
			t.Error(err)
		}
	})
}
