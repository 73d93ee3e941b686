package api

import (
	"time"

	"enclave/wire"
)

// States of a seal.
const (
	SealOpen    = "open"
	SealLocking = "locking" // what is under way is being ended
	SealLocked  = "locked"
)

// Seal is how the state of the control plane is sealed.
type Seal struct {
	State      string          `json:"state"` // open, locking or locked
	Since      *time.Time      `json:"since,omitempty"`
	Root       uint32          `json:"root,omitempty"` // number of the newest
	Own        bool            `json:"identity_beside_state,omitempty"`
	Recipients []SealRecipient `json:"recipients,omitempty"`
	Rotation   *Rotation       `json:"rotation,omitempty"` // under way, or the last since the start
}

// SealRecipient is one who can open the state.
type SealRecipient struct {
	Kind      string `json:"kind"`
	Recipient string `json:"recipient"` // public
}

// Rotation is a rotation of the seal.
type Rotation struct {
	Began       time.Time  `json:"began"`
	Ended       *time.Time `json:"ended,omitempty"`
	Done        int64      `json:"pages_done"`
	Total       int64      `json:"pages_total"`
	Root        uint32     `json:"root,omitempty"`
	Pages       int64      `json:"pages,omitempty"`
	PauseMicros int64      `json:"writers_paused_us,omitempty"`
	Error       string     `json:"error,omitempty"`
}

// Unlock carries what opens a locked state: the text of an identity file, or a
// passphrase.
type Unlock struct {
	Identity   string `json:"identity,omitempty"`
	Passphrase string `json:"passphrase,omitempty"`
}

// SealAdd lets a recipient open the state: an age or SSH public key, or a passphrase.
type SealAdd struct {
	Recipient  string `json:"recipient,omitempty"`
	Passphrase string `json:"passphrase,omitempty"`
	Only       bool   `json:"only,omitempty"` // takes all others out
}

// SealRemove takes a recipient out, which is given whole.
type SealRemove struct {
	Recipient string `json:"recipient"`
}

// BackupOrder says for whom a backup is made; nobody named means who can open the state.
type BackupOrder struct {
	Recipients []string `json:"recipients,omitempty"`
}

// Health is how the state of a running control plane is.
type Health struct {
	Version  string        `json:"version"`
	Now      time.Time     `json:"now"`
	Revision wire.Revision `json:"revision"`
	Schema   int           `json:"schema"`
	Pages    int64         `json:"pages"`
	Records  int64         `json:"audit_records"`
	Newest   time.Time     `json:"newest_record,omitzero"`
	// Latest is the time by which what was granted ends; it does not go back with the clock.
	Latest      time.Time `json:"latest,omitzero"`
	BehindSince time.Time `json:"clock_behind_since,omitzero"` // as that clock showed it; zero while it is right
	// Full checks only.
	Checked   bool   `json:"checked"`
	PagesErr  string `json:"pages_error,omitempty"`
	IntegrErr string `json:"integrity_error,omitempty"`
	ChainErr  string `json:"audit_error,omitempty"`

	Backup *BackupStatus `json:"backup,omitempty"` // of the schedule, if there is one
}

// BackupStatus is what a schedule of backups has come to.
type BackupStatus struct {
	Every  string     `json:"every"`
	Dir    string     `json:"directory"`
	Last   *time.Time `json:"last,omitempty"` // that worked
	File   string     `json:"file,omitempty"`
	Size   int64      `json:"size,omitempty"`
	Failed *time.Time `json:"failed,omitempty"` // the last, since Last
	Error  string     `json:"error,omitempty"`
	Next   time.Time  `json:"next"`
}
