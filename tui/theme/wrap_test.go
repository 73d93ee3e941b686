package theme

import (
	"slices"
	"testing"
)

func TestWrapKeepsFlagsWhole(t *testing.T) {
	got := Wrap("enclave audit verify forged.jsonl --key-file audit.pub", 36)
	if want := []string{"enclave audit verify forged.jsonl", "--key-file audit.pub"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	// What fits nowhere is broken all the same.
	if got := Wrap("a-b-c-d-e-f", 4); len(got) != 3 {
		t.Errorf("%q", got)
	}
}
