package audit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"enclave/wire"
)

// MaxCheckpoint bounds a signed checkpoint in bytes.
const MaxCheckpoint = 4096

// ErrCheckpoint is returned for text that is no checkpoint that the key has signed.
var ErrCheckpoint = errors.New("no checkpoint of this log")

// Checkpoint is the state of a log: how many records it has, and the root over them.
type Checkpoint struct {
	Origin string // name of the log, and of the key that signs it
	Size   int64
	Root   tlog.Hash
}

// Origin is the name of an organisation's log.
func Origin(org wire.OrgID) string { return "enclave/" + string(org) }

// NewKey makes the key that signs an organisation's checkpoints, in the text form of
// package note. The first is secret.
func NewKey(org wire.OrgID) (secret, public string, err error) {
	return note.GenerateKey(nil, Origin(org))
}

// Text is the checkpoint without a signature (C2SP tlog-checkpoint).
func (c *Checkpoint) Text() string {
	return c.Origin + "\n" + strconv.FormatInt(c.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.Root[:]) + "\n"
}

// Sign signs the checkpoint. Ed25519 is deterministic: the same state gives the same
// bytes, whenever it is signed.
func (c *Checkpoint) Sign(secret string) (string, error) {
	s, err := note.NewSigner(secret)
	if err != nil {
		return "", fmt.Errorf("sign checkpoint: %w", err)
	}
	b, err := note.Sign(&note.Note{Text: c.Text()}, s)
	if err != nil {
		return "", fmt.Errorf("sign checkpoint: %w", err)
	}
	return string(b), nil
}

// ParseKey checks a public key and returns the name of its log.
func ParseKey(public string) (origin string, err error) {
	v, err := note.NewVerifier(strings.TrimSpace(public))
	if err != nil {
		return "", errors.New("no public key of a log: want NAME+HASH+BASE64, as \"enclave audit key\" prints it")
	}
	return v.Name(), nil
}

// OpenCheckpoint reads a checkpoint and verifies that public has signed it.
func OpenCheckpoint(text, public string) (c Checkpoint, err error) {
	v, err := note.NewVerifier(strings.TrimSpace(public))
	if err != nil {
		return c, fmt.Errorf("%w: no public key", ErrCheckpoint)
	}
	if len(text) > MaxCheckpoint {
		return c, fmt.Errorf("%w: %d bytes, at most %d", ErrCheckpoint, len(text), MaxCheckpoint)
	}
	n, err := note.Open([]byte(text), note.VerifierList(v))
	if err != nil {
		return c, fmt.Errorf("%w: %v", ErrCheckpoint, strings.TrimPrefix(err.Error(), "note: "))
	}
	// Package note passes over the bits that base64 leaves unused: without this one
	// signature would have several spellings, and a changed byte would go unseen.
	for _, sig := range n.Sigs {
		if _, err := base64.StdEncoding.Strict().DecodeString(sig.Base64); err != nil {
			return c, fmt.Errorf("%w: its signature is not in canonical base64", ErrCheckpoint)
		}
	}
	if c, err = parseCheckpoint(n.Text); err != nil {
		return c, err
	}
	if c.Origin != v.Name() {
		return c, fmt.Errorf("%w: it is of %.80q, the key of %.80q", ErrCheckpoint, c.Origin, v.Name())
	}
	return c, nil
}

// parseCheckpoint reads the signed text. Lines after the third are extensions, which a
// later version may add, and are passed over (C2SP tlog-checkpoint).
func parseCheckpoint(text string) (c Checkpoint, err error) {
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) < 4 {
		return c, fmt.Errorf("%w: it has %d lines", ErrCheckpoint, len(lines)-1)
	}
	c.Origin = lines[0]
	c.Size, err = strconv.ParseInt(lines[1], 10, 64)
	if err != nil || c.Size < 0 || lines[1] != strconv.FormatInt(c.Size, 10) || c.Origin == "" {
		return c, fmt.Errorf("%w: its size is %.40q", ErrCheckpoint, lines[1])
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != len(c.Root) || base64.StdEncoding.EncodeToString(root) != lines[2] {
		return c, fmt.Errorf("%w: its root is no hash", ErrCheckpoint)
	}
	copy(c.Root[:], root)
	return c, nil
}

// What two checkpoints of one key can say of a log. The errors are verdicts, proved by
// two signatures.
var (
	ErrRollback = errors.New("the log was rolled back")
	ErrFork     = errors.New("the log was forked")
)

// MaxProof bounds a consistency proof in hashes: no tree is higher.
const MaxProof = 2 * 64

// Judge says whether now is a later state of the log that old is of. proof is the
// consistency proof between them (RFC 6962, 2.1.2); it may be empty where the sizes
// are equal or old is empty.
func Judge(old, now Checkpoint, proof []tlog.Hash) error {
	switch {
	case old.Origin != now.Origin:
		return fmt.Errorf("%w: %.80q is another log than %.80q", ErrCheckpoint, now.Origin, old.Origin)
	case now.Size < old.Size:
		return fmt.Errorf("%w: it has %d records, and had %d before", ErrRollback, now.Size, old.Size)
	case now.Size == old.Size && now.Root != old.Root:
		return fmt.Errorf("%w: there are two histories of %d records", ErrFork, now.Size)
	case now.Size == old.Size || old.Size == 0:
		return nil
	case len(proof) > MaxProof:
		return fmt.Errorf("%w: a proof of %d hashes", ErrCheckpoint, len(proof))
	}
	if err := tlog.CheckTree(proof, now.Size, now.Root, old.Size, old.Root); err != nil {
		return fmt.Errorf("%w: its %d records are not a continuation of the %d before", ErrFork, now.Size, old.Size)
	}
	return nil
}
