// Package path decides how two systems reach each other: directly, and at which
// address, or through a relay.
//
// One Peer is the state of one pair, seen from one side. It owns no socket and no
// clock: its methods take what was heard and when, and Step returns the probes to
// send, the route to use and the next instant at which it wants to be asked. Its
// data is a bounded list of addresses, each with what is known of it: who named
// it, the ping that waits for an answer, when it last answered, how fast.
//
// It refuses to route data to an address that has not answered a ping of ours
// within the consent time (after RFC 7675), whoever named it and however good it
// looks, so that nobody can point the traffic of a system at a stranger. It never
// gives up the relay: a path is made before the old one is broken, and broken
// before anyone waits for it. Why the numbers are what they are:
// docs/decisions/0060; why a route wins: docs/decisions/0061.
package path
