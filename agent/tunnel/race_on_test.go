//go:build race

package tunnel

// underRace: the race detector makes pools forget at random, so that allocations say
// nothing.
const underRace = true
