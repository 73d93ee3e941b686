package seal

import (
	"context"
	"errors"
	"testing"
)

// TestReplacingEndsWithItsContext: whoever has the turn may be stopped, and a command that
// waits for it must still end when it is told to.
func TestReplacingEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	err := Replacing(t.Context(), dir, func() error {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := Replacing(ctx, dir, func() error { t.Error("two had the turn"); return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("it waited for the turn until %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	ran := false
	if err := Replacing(t.Context(), dir, func() error { ran = true; return nil }); err != nil || !ran {
		t.Errorf("afterwards: %v, %v", ran, err)
	}
}
