// Package paths holds the suites that ask whether two systems find each other: the real
// link, WireGuard and relay on the simulated internet, in bubbles where hours pass in
// milliseconds, and a TCP transfer through the whole agent on the wall clock.
//
// The grid puts every kind of network against every other and compares what happened
// with natlab's theory of what can. The events take a working pair and break what it
// stands on. All print their figures and their seed; PATHS_SEED=n replays one. A
// scenario that fails leaves a capture of its packets and says how to run it again.
// Decision 0065 tells what is simulated and what is real.
package paths
