// Package audit is the trail of everything that was done: records that form a hash
// chain, an RFC 6962 Merkle tree over their hashes, checkpoints of that tree signed in
// the form of C2SP tlog-checkpoint, and what a stranger needs to check all of it with
// nothing but a file and a public key.
//
//	record ──SHA-256──▶ hash ──▶ prev of the next record          (the chain)
//	                     └─────▶ leaf of the tree ──▶ root ──▶ signed checkpoint
//
// The chain finds what was done to a part of the log. The checkpoint finds what was
// done to all of it, as long as somebody kept an older one: Judge says whether two
// checkpoints are of one history, which is what agents ask as witnesses.
//
// Details are sealed for each subject (a person, a system): the hash covers the sealed
// bytes, so destroying a subject's key makes its details unreadable and leaves every
// proof as it was.
//
// The package is pure: it owns no file, clock or table, and reads exports with a bound
// on everything. Tables and transactions are package store's. Formats:
// docs/format/audit.md; choices: docs/decisions/0100-one-trail-chain-and-tree.md,
// 0101-details-sealed-by-subject.md, 0102-agents-are-witnesses.md.
package audit
