// Package store keeps an organisation's state in one SQLite file, in domain words:
// systems, tags, enrolment keys, policies, relays, tokens and the audit trail.
//
//	<state directory, 0700>/
//	  enclave.db        the database, and its -wal while it is open: sealed
//	  keyring.age       their keys, encrypted to the operator's recipients
//	  identity.age.txt  what opens the keyring, unless the operator brings it
//	  enclave.lock      held for as long as a process has the store open
//	  documents.lock    held while a document beside the database is replaced
//
// Everything in clear exists in memory only (package seal).
//
// Every change is one transaction: the conditional write, its audit record and,
// where policy is concerned, the next revision; none of the three without the
// others. An acknowledged change survives the loss of power (WAL with
// synchronous=FULL). Every table, key and query carries the organisation.
//
// It refuses to open a directory that others can read (ErrOpenToOthers), a store
// that another process holds (ErrLocked), a damaged file, which it leaves untouched
// (ErrDamaged), a file of a newer program (ErrNewer), and one whose keyring does not
// open (seal.ErrWrongIdentity). It makes no decision that
// depends on a policy, keeps no secret of a key or token but its hash, and reads no
// clock: instants are arguments.
//
// A state is rotated and backed up while it is in use, from one instant (pages.go); who
// comes second to such work is refused (ErrBusy).
//
// Tables: store/migrate. Choices: docs/decisions/0051-one-file-one-writer.md,
// 0058-rotation-and-conversion-by-copy.md,
// 0052-enrolment-in-one-transaction.md, 0053-explicit-tags-only.md,
// 0087-history-by-part-one-change-at-a-time.md, and 0086 for changes that do not stay.
// The audit trail: package audit, docs/format/audit.md.
package store
