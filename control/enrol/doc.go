// Package enrol gives identities: it holds the organisation's certificate
// authority, the secrets of enrolment keys, and the decision whether a machine that
// asks becomes a system or a relay.
//
//	root      Ed25519, 10 years, spiffe://<org>, signs nothing but SVIDs
//	SVID      Ed25519, 24 hours, spiffe://<org>/<kind>/<name>, renewed at half life
//	secret    25 letters or digits in five groups, 125 random bits, kept as a hash
//
// A machine shows the secret once, proves its identity key by the key statement,
// and gets an SVID, also while it waits for approval: an SVID says who it is, and
// policy alone says what it may. It refuses clocks that are far off, with both
// times in the answer, and answers a wrong, a disabled and a deleted key alike.
//
// The package does no HTTP; answers that refuse are api.Problem values. Profile of
// certificates: docs/format/svid.md; why the root is online and there is no
// revocation list: docs/decisions/0054-online-root-short-svids.md.
package enrol
