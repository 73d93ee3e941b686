package backup

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"enclave/wire"
)

// magic begins the plaintext of a backup.
const magic = "enclave backup v1\n"

// Version of the head: 1, first release.
const Version = 1

// Limits on reading.
const (
	maxHead     = 256 << 10
	maxSecrets  = 64 << 10
	maxDocument = 256 << 20
	maxTables   = 256
	maxPages    = 1 << 31 // 8 TiB
	pageSize    = 4096
)

// ErrFormat is returned for what is no backup, or a damaged one.
var ErrFormat = errors.New("this is no whole backup")

// Head says what is in a backup.
type Head struct {
	Version   int              `json:"version"`
	Made      time.Time        `json:"made"`
	Program   string           `json:"program,omitempty"` // version of the program that made it
	Org       wire.OrgID       `json:"organisation,omitempty"`
	Schema    int              `json:"schema"`
	Revision  wire.Revision    `json:"revision"`
	Audit     AuditHead        `json:"audit"`
	Pages     int64            `json:"pages"`
	Rows      map[string]int64 `json:"rows"` // of each table
	Documents []Document       `json:"documents,omitempty"`
}

// AuditHead is the newest record of the audit trail.
type AuditHead struct {
	Records    int64  `json:"records"`
	Last       string `json:"last"`                 // hash of the newest, hex
	Checkpoint string `json:"checkpoint,omitempty"` // signed
}

// Document is a small file of the state beside the database.
type Document struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// Size is how many bytes of pages the backup has.
func (h *Head) Size() int64 { return h.Pages * pageSize }

func (h *Head) check() error {
	switch {
	case h.Version != Version:
		return fmt.Errorf("%w: its version is %d, this program reads %d", ErrFormat, h.Version, Version)
	case h.Pages < 1 || h.Pages > maxPages || h.Schema < 1 || len(h.Rows) > maxTables || len(h.Documents) > 8 || h.Audit.Records < 0:
		return fmt.Errorf("%w: its head makes no sense", ErrFormat)
	}
	for _, d := range h.Documents {
		if d.Size < 0 || d.Size > maxDocument {
			return fmt.Errorf("%w: a document of %d bytes", ErrFormat, d.Size)
		}
	}
	return nil
}

// Writer writes a backup; its methods are called in the order in which they stand.
type Writer struct {
	w    io.Writer
	sum  hash.Hash
	head Head
	docs int
	n    int64
}

// NewWriter writes the head and the keys of the sealed values.
func NewWriter(w io.Writer, h Head, secrets []byte) (*Writer, error) {
	h.Version = Version
	if err := h.check(); err != nil {
		return nil, err
	}
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(text) > maxHead || len(secrets) > maxSecrets {
		return nil, errors.New("backup: the head is too large")
	}
	b := &Writer{sum: sha256.New(), head: h}
	b.w = io.MultiWriter(w, b.sum)
	_, err = b.w.Write(appendPiece(appendPiece([]byte(magic), text), secrets))
	return b, err
}

func appendPiece(b, piece []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(piece))), piece...)
}

// Document writes the next document.
func (b *Writer) Document(content []byte) error {
	if b.docs == len(b.head.Documents) || b.head.Documents[b.docs].Size != int64(len(content)) {
		return errors.New("backup: a document that the head does not have")
	}
	b.docs++
	_, err := b.w.Write(content)
	return err
}

// Page writes the next page.
func (b *Writer) Page(page []byte) error {
	if b.docs != len(b.head.Documents) || b.n == b.head.Pages || len(page) != pageSize {
		return errors.New("backup: a page that the head does not have")
	}
	b.n++
	_, err := b.w.Write(page)
	return err
}

// Close writes the checksum. It does not close what is below.
func (b *Writer) Close() error {
	if b.n != b.head.Pages {
		return fmt.Errorf("backup: %d pages of %d", b.n, b.head.Pages)
	}
	_, err := b.w.Write(b.sum.Sum(nil))
	return err
}

// Reader reads a backup, as Writer wrote it.
type Reader struct {
	Head Head
	r    io.Reader // counts into sum
	raw  io.Reader
	sum  hash.Hash
	docs int
	n    int64
	page [pageSize]byte
}

// NewReader reads the head and the keys, which are secret.
func NewReader(r io.Reader) (b *Reader, secrets []byte, err error) {
	b = &Reader{raw: r, sum: sha256.New()}
	b.r = io.TeeReader(r, b.sum)
	start := make([]byte, len(magic))
	if _, err := io.ReadFull(b.r, start); err != nil {
		return nil, nil, short(err)
	}
	if string(start) != magic {
		return nil, nil, fmt.Errorf("%w: it begins as something else", ErrFormat)
	}
	text, err := b.piece(maxHead)
	if err != nil {
		return nil, nil, err
	}
	// Unknown members are of a later program that means nothing else by the known ones.
	if err := wire.CheckJSON(text); err != nil {
		return nil, nil, fmt.Errorf("%w: its head: %v", ErrFormat, err)
	}
	if err := json.Unmarshal(text, &b.Head); err != nil {
		return nil, nil, fmt.Errorf("%w: its head: %v", ErrFormat, err)
	}
	if err := b.Head.check(); err != nil {
		return nil, nil, err
	}
	secrets, err = b.piece(maxSecrets)
	return b, secrets, err
}

func (b *Reader) piece(limit uint32) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(b.r, size[:]); err != nil {
		return nil, short(err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > limit {
		return nil, fmt.Errorf("%w: a piece of %d bytes", ErrFormat, n)
	}
	piece := make([]byte, n)
	_, err := io.ReadFull(b.r, piece)
	return piece, short(err)
}

// short gives an early end its meaning.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends early", ErrFormat)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return nil
}

// Document reads the next document; all of them come before the pages.
func (b *Reader) Document() (name string, content []byte, err error) {
	d := b.Head.Documents[b.docs]
	b.docs++
	var buf bytes.Buffer // grows with what is there, not with what the head says
	if n, err := io.Copy(&buf, io.LimitReader(b.r, d.Size)); err != nil || n != d.Size {
		return "", nil, short(errors.Join(err, io.ErrUnexpectedEOF))
	}
	return d.Name, buf.Bytes(), nil
}

// Page reads the next page, which is valid until the next call; io.EOF after the last.
// Only then the checksum has been compared.
func (b *Reader) Page() ([]byte, error) {
	if b.n < b.Head.Pages {
		b.n++
		_, err := io.ReadFull(b.r, b.page[:])
		return b.page[:], short(err)
	}
	want := b.sum.Sum(nil)
	got := make([]byte, sha256.Size+1)
	switch n, err := io.ReadFull(b.raw, got); {
	case n < sha256.Size:
		return nil, short(err)
	case !errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("%w: it goes on after its end (%v)", ErrFormat, err)
	}
	if subtle.ConstantTimeCompare(got[:sha256.Size], want) != 1 {
		return nil, fmt.Errorf("%w: the checksum is wrong", ErrFormat)
	}
	return nil, io.EOF
}
