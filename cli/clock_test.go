package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"enclave/control"
	"enclave/store"
)

// TestClockBelieve: a bubble's clock is decades behind the one by which the state was made.
func TestClockBelieve(t *testing.T) {
	s := newShell(t)
	dir := s.env["ENCLAVE_STATE"]
	s.refused(exitNotFound, "clock", "believe")
	st, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := control.Init(t.Context(), st, store.Change{By: "test", At: time.Now()}, "test", store.DefaultSettings()); err != nil {
		t.Fatal(err)
	}
	if err := st.KeepTime(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.refused(exitTryAgain, "clock", "believe") // it runs
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	s.says(s.ok("clock", "believe"), "not behind")
	synctest.Test(t, func(t *testing.T) {
		doctor := func() string {
			out, _, _ := s.run("doctor")
			return out
		}
		s.says(doctor(), "and what had ended stays so")
		s.says(s.ok("clock", "believe", "--dry-run"), "would make it the time again")
		var done clockBelieved
		if err := json.Unmarshal([]byte(s.ok("clock", "believe", "--json")), &done); err != nil || !done.Changed || done.Seen.Year() < 2026 || done.Now.Year() != 2000 {
			t.Errorf("%+v, %v", done, err)
		}
		s.says(s.ok("clock", "believe"), "not behind")
		if out := doctor(); strings.Contains(out, "stays so") {
			t.Errorf("doctor still says: %s", out)
		}
	})
}
