package wire_test

import (
	"testing"

	"enclave/wire"
)

func TestACountAgreesWithItsNoun(t *testing.T) {
	for _, c := range []struct {
		n    int
		name string
		want string
	}{
		{1, "pair", "1 pair"}, {0, "pair", "0 pairs"}, {2, "live flow", "2 live flows"}, {-1, "record", "-1 records"},
		{1, "policy", "1 policy"}, {3, "policy", "3 policies"}, {2, "key", "2 keys"}, {2, "day", "2 days"},
		{1, "access", "1 access"}, {2, "access", "2 accesses"},
	} {
		if got := wire.Count(c.n, c.name); got != c.want {
			t.Errorf("Count(%d, %q) = %q, want %q", c.n, c.name, got, c.want)
		}
	}
	if got := wire.Count(uint64(1<<40), "byte"); got != "1099511627776 bytes" {
		t.Error(got)
	}
}
