package audit

import (
	"bytes"
	"encoding/json"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"enclave/wire"
)

// ProofVersion of Proof, docs/format/audit.md.
//
//	1  first release
const ProofVersion = 1

// MaxProofFile bounds a proof as a file.
const MaxProofFile = MaxLine + 64<<10

// Proof shows that one record is in a log, to whoever has the log's public key.
type Proof struct {
	Version    int        `json:"enclave_audit_proof"`
	Org        wire.OrgID `json:"org"`
	Key        string     `json:"key"`        // that signs; a verifier brings its own
	Record     string     `json:"record"`     // the line of an export
	Path       [][]byte   `json:"path"`       // inclusion proof (RFC 6962, 2.1.1)
	Checkpoint string     `json:"checkpoint"` // of the tree that the record is in
}

// ParseProof reads a proof; Check says whether it holds.
func ParseProof(b []byte) (p Proof, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil || len(b) > MaxProofFile {
		return p, fmt.Errorf("%w: no proof of a record", ErrExport)
	}
	if p.Version != ProofVersion {
		return p, fmt.Errorf("%w: proof of version %d, this program reads %d", ErrExport, p.Version, ProofVersion)
	}
	return p, nil
}

// Check verifies the proof with the public key of the log, and returns the record and the
// size of the tree it is in.
func (p *Proof) Check(public string) (l Line, size int64, err error) {
	c, err := OpenCheckpoint(p.Checkpoint, public)
	if err != nil {
		return l, 0, err
	}
	if c.Origin != Origin(p.Org) {
		return l, 0, fmt.Errorf("%w: it is of %.80q", ErrCheckpoint, c.Origin)
	}
	if err := ParseLine([]byte(p.Record), &l); err != nil {
		return l, 0, err
	}
	v := Verifier{org: p.Org}
	switch sum, _ := l.Sum(p.Org, nil); {
	case l.Note != "" || sum != l.Hash:
		return l, 0, fmt.Errorf("%w: record %d is not what was hashed", ErrRecord, l.Seq)
	case v.detail(&l) != "":
		return l, 0, fmt.Errorf("%w: record %d: %s", ErrRecord, l.Seq, v.detail(&l))
	}
	path, err := Hashes(p.Path)
	if err != nil {
		return l, 0, err
	}
	if err := tlog.CheckRecord(path, c.Size, c.Root, l.Seq-1, Leaf(l.Hash)); err != nil {
		return l, 0, fmt.Errorf("%w: record %d is not in the tree of %d records", ErrRecord, l.Seq, c.Size)
	}
	return l, c.Size, nil
}

// Bytes is a proof as JSON has it.
func Bytes(list []tlog.Hash) [][]byte {
	out := make([][]byte, len(list))
	for i := range list {
		out[i] = list[i][:]
	}
	return out
}

// Hashes is the inverse of Bytes.
func Hashes(list [][]byte) ([]tlog.Hash, error) {
	if len(list) > MaxProof {
		return nil, fmt.Errorf("%w: a proof of %d hashes", ErrCheckpoint, len(list))
	}
	out := make([]tlog.Hash, len(list))
	for i, b := range list {
		if len(b) != len(out[i]) {
			return nil, fmt.Errorf("%w: a proof with a hash of %d bytes", ErrCheckpoint, len(b))
		}
		copy(out[i][:], b)
	}
	return out, nil
}
