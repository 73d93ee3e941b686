package paths

import (
	"math"
	"testing"

	"enclave/agent/path"
)

// sprayedPorts is how many a NAT chooses from.
const sprayedPorts = 65536 - 1024

// sprayChance is the theory: the probability that one attempt of n ports meets one of as
// many as there are sockets for it.
func sprayChance(n int) float64 {
	return 1 - math.Pow(1-float64(min(n, path.MaxSides))/sprayedPorts, float64(n))
}

// bothChance is that of two NATs that both map by destination, where each of n packets of
// one side would have to hit what one of n packets of the other made.
func bothChance(n int) float64 {
	return 1 - math.Exp(-float64(n)*float64(n)/sprayedPorts/sprayedPorts)
}

func TestSprayChance(t *testing.T) {
	for n, want := range map[int]float64{256: .63, 512: .87, 1024: .98} {
		if got := sprayChance(n); got < want-.01 || got > want+.01 {
			t.Errorf("%d ports: %.3f, want some %.2f", n, got, want)
		}
	}
	if got := bothChance(path.MaxSpray); got > 3e-4 {
		t.Errorf("both random: %g", got)
	}
}
