//go:build unix

package cli

import (
	"strings"
	"testing"
)

// A file without an end that is named as a secret is refused, not read.
func TestAFileWithoutEndIsNoSecret(t *testing.T) {
	if _, err := readSecret("/dev/zero"); err == nil || !strings.Contains(err.Error(), "no secret of ours") {
		t.Errorf("a secret: %v", err)
	}
	if b, err := readSmall("/dev/zero"); err != nil || len(b) > 1<<20 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if b, err := readSmall("/dev/null"); err != nil || len(b) != 0 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}
