package control

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"enclave/wire"
)

// TestCrowdedPairsShareALine: many at once are a few lines with their number, and the same
// again none.
func TestCrowdedPairsShareALine(t *testing.T) {
	h := emptyHub()
	var log bytes.Buffer
	h.log = slog.New(slog.NewTextHandler(&log, nil))
	const most = 100_000
	for range 2 {
		for i := range most {
			if !h.tooMany("a", wire.SystemID(fmt.Sprint(i)), wire.MaxGrantsPerPeer+1) {
				t.Fatal("not too many")
			}
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 17 || !strings.Contains(log.String(), "pairs=65536") {
		t.Errorf("%d lines for %d pairs", n, most)
	}
	log.Reset()
	for i := range most {
		h.tooMany("a", wire.SystemID(fmt.Sprint(i)), 1)
	}
	h.tooMany("a", "b", wire.MaxGrantsPerPeer+1)
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "pairs=1 ") {
		t.Errorf("after all were mended: %s", log.String())
	}
}
