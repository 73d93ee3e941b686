// Package admin is the administration API under /api/v1: REST and JSON, described by
// the OpenAPI 3.1 document it serves, with its page, at /api/v1/docs.
//
// Its shapes are those of enclave/wire/api and wire.Policy: views for readers, never
// rows and never secrets, except an enrolment key's in the answer that creates it.
// Every mistake is a problem document (RFC 9457) with a stable code, and a document
// with several mistakes gets them all, each with its path.
//
// It refuses to have a second door. The table in table.go names every route with the
// scope that it takes; the one multiplexer looks each pattern up there and puts the
// guard (token, scope, cross-origin check, body limits, strict JSON) in front of it,
// and a pattern without an entry is no server at all (docs/decisions/0081).
package admin
