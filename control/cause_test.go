package control

import (
	"strings"
	"testing"
	"time"

	"enclave/store"
	"enclave/wire"
)

func TestDeltasCarryTheirCause(t *testing.T) {
	inBubble(t, store.DefaultSettings(), func(t *testing.T, w *world) {
		_, _, fa, fb := pairOf(t, w)
		// Deltas that renew a ticket have no cause; when they come depends on the pair.
		next := func(f *feed) string {
			for {
				if c := f.delta().Cause; c != "" {
					return c
				}
			}
		}
		cause := func() string {
			next(fb)
			return next(fa)
		}
		w.api("POST", "/policies/p/disable", nil, nil)
		if got := cause(); got != `policy.disable "p" by root` {
			t.Errorf("cause %q", got)
		}
		end := time.Now().Add(time.Hour)
		p := direct("mesh", "mesh")
		p.ExpiresAt = &end
		w.api("PUT", "/policies/p", p, nil)
		if got := cause(); got != `policy.update "p" by root` {
			t.Errorf("cause %q", got)
		}
		if got := cause(); !strings.Contains(got, `policy "p" expired`) {
			t.Errorf("cause %q", got)
		}
		p.ExpiresAt = nil
		p.ActiveHours = wire.Windows{{Zone: "UTC", Days: []string{"sat"}, Start: "00:00", End: "03:00"}}
		w.api("PUT", "/policies/p", p, nil)
		cause()
		if got := cause(); got != `hours of policy "p" ended` {
			t.Errorf("cause %q", got)
		}
		w.api("DELETE", "/policies/p", nil, nil)
	})
	if got := joinCauses([]string{"a", "b", "c", "d", "e"}); got != "a; b; c; d; and more" {
		t.Errorf("joined %q", got)
	}
	if got := joinCauses([]string{strings.Repeat("é", wire.MaxCauseLen)}); len(got) > wire.MaxCauseLen || !strings.HasSuffix(got, "é...") {
		t.Errorf("joined %q", got)
	}
}
