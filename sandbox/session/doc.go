// Package session serves sandbox runs over HTTP, so that a client may start one, watch
// what it does, lose the connection, come back and miss nothing.
//
// A session is one run of a Host and its log of events (Log): each has a number from 1,
// and a bounded buffer keeps them for whoever reads. Readers never hold a run up; one
// that falls behind the buffer is told which numbers are lost. Events are JSON lines or
// server-sent events, and may be sealed from end to end (wire/envelope).
//
// The server refuses callers without a token, ends what a token opened with the token
// itself (docs/decisions/0203), shows nobody another tenant's sessions,
// and bounds everything a caller can make it hold: sessions, their life, queues, output,
// bodies. It knows nothing of how scripts are run (sandbox.Runner), how tools are served
// (package tools) or how the overlay is joined (Joiner): they are handed in.
//
// Routes and events: docs/format/sandbox-session.md. Why a dropped connection ends no
// run: docs/decisions/0134.
package session
