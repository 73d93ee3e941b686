// Package seal encrypts a state at rest: every byte of the database and of its logs,
// secrets inside rows, and an agent's state file.
//
//	age identity ──► keyring.age ──► root ─┬─ sectors of database, log, journal
//	(the operator's)   (Keyring)    (Root) ├─ page MAC
//	                                       └─ rows (Value)
//
// Below SQLite stands a file layer (VFS): AES-256-XTS for each 512-byte sector, with
// a key for each role of a file, and a MAC in each page, checked on every read. What
// SQLite would map into a file of shared memory stays in this process. Formats:
// docs/format/sealed-file.md and docs/format/keyring.md.
//
// It serves no page whose MAC is wrong and opens no keyring with another's identity.
// It does not notice that a whole older file, or an older page with its MAC, was put
// back: that is for the activity log's chain and the copies of its head elsewhere.
// Choices: docs/decisions/0056-sealed-below-sqlite.md, 0057-keyring-and-recipients.md.
package seal
