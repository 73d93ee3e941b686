// Package backup is the format of a backup: the pages of a database as they were at one
// instant, with what says of which state they are.
//
//	age stream, to the recipients of the backup
//	└─ head (JSON) ─ keys ─ documents ─ pages ─ SHA-256 of all of it
//
// It knows bytes only. Package store fills a backup while changes go on and brings one
// back. It refuses a stream that ends early, goes on too long, or has a head that it
// cannot keep: every size is in the head and has a limit. Layout: docs/format/backup.md.
package backup
