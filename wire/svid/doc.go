// Package svid reads and verifies X.509-SVIDs: the certificates by which systems,
// relays and the control plane know each other.
//
//	spiffe://<organisation>/<kind>/<name>      kind: system, relay, control
//	          trust domain   path               name: the SystemID or RelayID
//
// An SVID here is narrower than the standard allows (SPIFFE X509-SVID, RFC 5280):
// Ed25519 throughout, exactly one URI name, never a CA, key usage digitalSignature
// and both TLS purposes. What is issued is also a valid SVID to others, which the
// tests prove with go-spiffe. The layout of names and certificates is drawn in
// docs/format/svid.md; why narrow: docs/decisions/0050-svid-profile.md.
//
// The package holds no key and issues nothing (control/enrol does). Verification
// takes the instant as an argument; the TLS configurations take a clock.
package svid
