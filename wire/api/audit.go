package api

import (
	"encoding/json"
	"time"

	"enclave/wire"
)

// AuditRecord is a record of the audit trail.
type AuditRecord struct {
	Seq      int64         `json:"seq"`
	At       time.Time     `json:"at"`
	Actor    string        `json:"actor"`
	Action   string        `json:"action"` // policy.create, system.approve, auth.deny
	Object   string        `json:"object"`
	Revision wire.Revision `json:"revision,omitempty"`
	Outcome  string        `json:"outcome"` // ok, denied, failed
	Request  string        `json:"request,omitempty"`
	Subject  string        `json:"subject,omitempty"` // whom the detail is about
	Detail   Detail        `json:"detail,omitempty"`
	Erased   bool          `json:"erased,omitempty"` // the key of the detail was destroyed

	ObjectName string `json:"object_name,omitempty"` // what it is called now; lists say it, the hash does not count it

	Hash string `json:"hash"` // SHA-256, in hex
}

// Detail is a JSON object as it was recorded.
type Detail json.RawMessage

// MarshalJSON writes the detail as it is.
func (d Detail) MarshalJSON() ([]byte, error) {
	if len(d) == 0 {
		return []byte("null"), nil
	}
	return d, nil
}

// UnmarshalJSON keeps the detail as it is.
func (d *Detail) UnmarshalJSON(b []byte) error {
	*d = append((*d)[:0], b...)
	return nil
}

// AuditCheckpoint is the signed state of the audit trail (C2SP tlog-checkpoint).
type AuditCheckpoint struct {
	Checkpoint  string   `json:"checkpoint"`
	Key         string   `json:"key"` // public; who verifies should have it from elsewhere
	Size        int64    `json:"size"`
	Root        string   `json:"root"`
	Old         int64    `json:"old,omitempty"`         // size that it continues
	Consistency [][]byte `json:"consistency,omitempty"` // proof of that (RFC 6962, 2.1.2)
}

// AuditSegment is a run of records that was archived.
type AuditSegment struct {
	First      int64     `json:"first"`
	Last       int64     `json:"last"`
	FirstAt    time.Time `json:"first_at"`
	LastAt     time.Time `json:"last_at"`
	FileSHA256 string    `json:"file_sha256"` // of the export in clear
	ArchivedAt time.Time `json:"archived_at"`
}

// AuditArchive asks to take records out that the caller has in a file.
type AuditArchive struct {
	Last       int64  `json:"last" minimum:"1"`
	LastHash   string `json:"last_hash" minLength:"64" maxLength:"64"`
	FileSHA256 string `json:"file_sha256" minLength:"64" maxLength:"64"`
}

// AuditErased is what an erasure did.
type AuditErased struct {
	Subject string `json:"subject"`
	Keys    int    `json:"keys"`
	Records int64  `json:"records"` // whose details nobody can read any more
}
