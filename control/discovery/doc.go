// Package discovery turns what the control plane knows into what one system may
// know: its map, and the delta from the map it has.
//
// Its data are a directory entry for each system ([System]), the introductions that
// policy makes at an instant ([Introduction]), and the [wire.Map] that follows from
// them. It refuses to decide anything: who is introduced to whom is control/policy's,
// when to send is control's, and whether to believe a map is the agent's. It owns no
// socket and no clock, so the same view always gives the same map.
//
// The law of this package: the map that an agent has after the deltas of a [Ledger] is
// the map that [View.Map] builds from nothing (docs/decisions/0080, 0028). A system learns
// of another only through an introduction: there is no list of systems to leak.
package discovery
