package demo

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"enclave/tui/tour"
)

// TestTour walks all nine steps: what a person does with keys is done with the API, and
// each step has to notice by itself.
func TestTour(t *testing.T) {
	if testing.Short() {
		t.Skip("active hours end at a full minute")
	}
	cfg := Config{Out: io.Discard, Seed: 7, Dir: t.TempDir(), API: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)}
	tr, err := OpenTour(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	sight := func(i int, what string, ok func(tour.Sight) bool, within time.Duration) tour.Sight {
		t.Helper()
		var s tour.Sight
		err := eventually(t.Context(), within, what, func() bool {
			var err error
			s, err = tr.Look(t.Context())
			return err == nil && ok(s)
		})
		if err != nil {
			t.Fatalf("step %d, %s: %v; last seen: %q", i+1, tr.Steps()[i].Title, err, s.Lines)
		}
		return s
	}
	acts := func(s tour.Sight) bool { return s.Action != "" && !s.Done }
	done := func(s tour.Sight) bool { return s.Done }
	act := func(ctx context.Context) error { return tr.Act(ctx) }
	persons := map[int]func(context.Context) error{
		0: func(ctx context.Context) error { _, err := tr.API.SystemDo(ctx, newcomer, "approve"); return err },
		1: func(ctx context.Context) error { _, err := tr.API.PolicyDo(ctx, kubernetes, "enable"); return err },
		3: func(ctx context.Context) error { _, err := tr.API.PolicyDo(ctx, kubernetes, "disable"); return err },
	}
	twice := map[int]bool{5: true, 6: true} // something is broken, then mended
	for i, step := range tr.Steps() {
		if err := tr.Enter(t.Context(), i); err != nil {
			t.Fatalf("enter %s: %v", step.Title, err)
		}
		if s, err := tr.Look(t.Context()); err != nil || s.Done {
			t.Fatalf("step %d, %s: done before anything was done: %v, %v", i+1, step.Title, s, err)
		}
		do, own := persons[i]
		if !own {
			sight(i, "nothing to do in the lab", acts, time.Minute)
			do = act
		}
		if err := do(t.Context()); err != nil {
			t.Fatalf("%s: %v", step.Title, err)
		}
		if twice[i] {
			sight(i, "nothing to mend", acts, time.Minute)
			if err := tr.Act(t.Context()); err != nil {
				t.Fatalf("%s: %v", step.Title, err)
			}
		}
		s := sight(i, "not noticed", done, 3*time.Minute)
		t.Logf("%d. %s: %s", i+1, step.Title, strings.Join(s.Lines, " | "))
	}
	// Back to a step that another one has undone.
	if err := tr.Enter(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if s, err := tr.Look(t.Context()); err != nil || s.Done {
		t.Errorf("the second step again: %v, %v", s, err)
	}
}
