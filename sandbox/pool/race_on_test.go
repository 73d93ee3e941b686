//go:build race

package pool

// underRace: a worker of a test binary under the race detector holds shadow memory many
// times its own, so that no bound on memory says anything about scripts.
const underRace = true
