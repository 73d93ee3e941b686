// Package control is the control server: it enrols agents, tells each what policy
// lets it know, and serves the administration API.
//
//	TLS 1.3 listener --- /agent/v1/...  enrol, renew, stream, report   (agent.go, stream.go)
//	  |                  /api/v1/...    administration                 (control/admin)
//	  +-- other ALPN     a relay that shares the port                  (Config.ALPN)
//	plain listener  ---- /api/v1/...    on loopback, for demos
//
// The store is the truth. A change is one store transaction; then the hub (hub.go)
// brings the policy engine and the directory of systems to what the store says, and
// wakes the streams that the change affects; each stream's own goroutine computes the
// map that is right now, compares it with the one it sent, and sends the difference
// (docs/decisions/0080, 0082). Edges of active hours and expiries come the same way,
// from one timer.
//
// A dry run is the change itself in a transaction that does not stay, compiled into the
// engine and back (0086); kept tests refuse a change the same way (0110). What waits for
// its confirmation reverts from the same timer (0087).
//
// It refuses revoked identities at every request, not only at the handshake. It never
// stops over a stored policy that no longer validates: its last good version is served,
// or none, and the log, the activity record and the status say so (0088). Keys and
// certificates are control/enrol's, who-may-reach-whom is control/policy's, the wire shapes
// are enclave/wire's.
package control
