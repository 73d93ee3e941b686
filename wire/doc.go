// Package wire holds the words that control, relay, agent, sandbox and model share:
// identifiers, policy documents, grants, maps and the messages of the agent protocol.
//
// It exists because those parts must meet somewhere without importing each other.
// Everything here is plain data with limits: no socket, file, clock, logger or
// context, and nothing but the standard library. Every size that a peer controls
// has its maximum in limits.go. JSON is the encoding of the documents
// (docs/decisions/0001); the byte formats have a folder each below this one and a
// page in docs/format.
package wire
