package audit

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"enclave/wire"
)

// An export is text, one JSON object a line, each in exactly one way of writing it: a
// header, then records in order, and among them checkpoints over all before. A reader
// that wants no more than to look can use any JSON tool.

// ExportVersion of the export, docs/format/audit.md.
//
//	1  first release
const ExportVersion = 1

const (
	// MaxLine bounds a line of an export in bytes. Details of the first format were
	// bounded by the request that brought them only.
	MaxLine = 4 << 20
	// CheckpointEvery is how many records stand between two checkpoints of an export: as
	// closely does a verifier name the first record of a history that was rewritten.
	CheckpointEvery = 256
)

// Header begins an export.
type Header struct {
	Version    int         `json:"enclave_audit_export"`
	Org        wire.OrgID  `json:"org"`
	Key        string      `json:"key"` // that signs; a verifier brings its own
	First      int64       `json:"first"`
	Last       int64       `json:"last"`
	Prev       string      `json:"prev"`       // hash of the record before the first
	Tops       []tlog.Hash `json:"tops"`       // complete subtrees of the records before the first
	Checkpoint string      `json:"checkpoint"` // over the records up to the last
}

// ErrExport is returned for a file that is no export.
var ErrExport = errors.New("no audit export")

// Writer writes an export. Its errors are those of the writer below.
type Writer struct {
	w   *bufio.Writer
	buf []byte
}

// NewWriter makes a Writer. Flush ends it.
func NewWriter(w io.Writer) *Writer { return &Writer{w: bufio.NewWriterSize(w, 64<<10)} }

// Header writes the first line.
func (w *Writer) Header(h *Header) error {
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return w.line(b)
}

// Checkpoint writes a checkpoint over all records so far.
func (w *Writer) Checkpoint(note string) error {
	return w.line(appendCheckpoint(nil, note))
}

// Record writes a record. key opens its detail and goes with it; nil leaves the detail
// sealed.
func (w *Writer) Record(r *Record, key, clear []byte) error {
	w.buf = AppendLine(w.buf[:0], r, key, clear)
	return w.line(w.buf)
}

// Flush writes what is buffered.
func (w *Writer) Flush() error { return w.w.Flush() }

func (w *Writer) line(b []byte) error {
	if _, err := w.w.Write(b); err != nil {
		return err
	}
	return w.w.WriteByte('\n')
}

func appendCheckpoint(b []byte, note string) []byte {
	b = append(b, `{"checkpoint":`...)
	return append(appendString(b, note), '}')
}

// AppendLine appends a record as its line, without the end of line.
func AppendLine(b []byte, r *Record, key, clear []byte) []byte {
	b = strconv.AppendUint(append(b, `{"format":`...), uint64(r.Format), 10)
	b = strconv.AppendInt(append(b, `,"seq":`...), r.Seq, 10)
	b = r.At.UTC().AppendFormat(append(b, `,"at":"`...), time.RFC3339Nano)
	b = appendString(append(b, `","actor":`...), r.Actor)
	b = appendString(append(b, `,"action":`...), r.Action)
	b = appendString(append(b, `,"object":`...), r.Object)
	b = strconv.AppendUint(append(b, `,"revision":`...), uint64(r.Revision), 10)
	b = appendString(append(b, `,"outcome":`...), r.Outcome)
	b = appendString(append(b, `,"request":`...), r.Request)
	b = appendString(append(b, `,"subject":`...), r.Subject)
	b = strconv.AppendUint(append(b, `,"key":`...), uint64(r.Key), 10)
	b = base64.StdEncoding.AppendEncode(append(b, `,"sealed":"`...), r.Detail)
	b = hex.AppendEncode(append(b, `","open":"`...), key)
	b = hex.AppendEncode(append(b, `","prev":"`...), r.Prev[:])
	b = hex.AppendEncode(append(b, `","hash":"`...), r.Hash[:])
	b = append(b, `","detail":`...)
	if r.Format == Activity {
		clear = r.Detail
	} else if key == nil {
		clear = nil
	}
	if oneLine(clear) {
		b = append(b, clear...)
	} else {
		b = append(b, "null"...)
	}
	return append(b, '}')
}

// oneLine reports whether a detail can stand in a line as it is.
func oneLine(detail []byte) bool {
	return bytes.IndexByte(detail, '\n') < 0 && bytes.IndexByte(detail, '\r') < 0 && json.Valid(detail)
}

// appendString appends a JSON string as encoding/json writes it.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if !plain(s[i]) {
			q, err := json.Marshal(s)
			if err != nil {
				panic(err) // no string fails
			}
			return append(b, q...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// plain reports whether a byte stands for itself in a JSON string.
func plain(c byte) bool {
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
}

// Line is a line of an export after the header: a record, or a checkpoint.
type Line struct {
	Record
	Open  []byte // key of the detail; empty where it stays sealed
	Clear []byte // the detail as it stands in the line; nil where it does not
	Note  string // a checkpoint, and nothing else then
}

// ParseLine reads what AppendLine or a checkpoint wrote, and nothing that is written in
// another way. It does not say whether the record is true. The line aliases b.
func ParseLine(b []byte, l *Line) error {
	*l = Line{}
	p := parser{rest: b}
	if bytes.HasPrefix(b, []byte(`{"checkpoint":`)) {
		p.skip(`{"checkpoint":`)
		l.Note = p.str()
		p.skip("}")
		return p.end()
	}
	p.skip(`{"format":`)
	l.Format = uint8(p.num(8))
	p.skip(`,"seq":`)
	l.Seq = int64(p.num(63))
	p.skip(`,"at":`)
	l.At = p.time()
	p.skip(`,"actor":`)
	l.Actor = p.str()
	p.skip(`,"action":`)
	l.Action = p.str()
	p.skip(`,"object":`)
	l.Object = p.str()
	p.skip(`,"revision":`)
	l.Revision = wire.Revision(p.num(64))
	p.skip(`,"outcome":`)
	l.Outcome = p.str()
	p.skip(`,"request":`)
	l.Request = p.str()
	p.skip(`,"subject":`)
	l.Subject = p.str()
	p.skip(`,"key":`)
	l.Key = uint32(p.num(32))
	p.skip(`,"sealed":"`)
	l.Detail = p.base64()
	p.skip(`,"open":"`)
	l.Open = p.hex(-1)
	p.skip(`,"prev":"`)
	copy(l.Prev[:], p.hex(len(l.Prev)))
	p.skip(`,"hash":"`)
	copy(l.Hash[:], p.hex(len(l.Hash)))
	p.skip(`,"detail":`)
	if p.err == nil {
		if len(p.rest) < 2 || p.rest[len(p.rest)-1] != '}' {
			p.fail("detail")
		} else if l.Clear = p.rest[:len(p.rest)-1]; string(l.Clear) == "null" {
			l.Clear = nil
		}
		p.rest = nil
	}
	if err := p.end(); err != nil {
		return err
	}
	if n := len(l.Open); n != 0 && n != KeySize {
		return fmt.Errorf("%w: open: %d bytes, want %d", ErrRecord, n, KeySize)
	}
	return l.Check()
}

// parser reads one line from the left; the first mistake stays.
type parser struct {
	rest []byte
	err  error
}

func (p *parser) fail(what string) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: %s is not as it is written", ErrRecord, what)
	}
	p.rest = nil
}

func (p *parser) end() error {
	if p.err == nil && len(p.rest) > 0 {
		p.fail("the end of the line")
	}
	return p.err
}

func (p *parser) skip(word string) {
	if len(p.rest) < len(word) || string(p.rest[:len(word)]) != word {
		p.fail(word)
		return
	}
	p.rest = p.rest[len(word):]
}

func (p *parser) num(bits int) uint64 {
	i := 0
	for i < len(p.rest) && p.rest[i] >= '0' && p.rest[i] <= '9' && i < 20 {
		i++
	}
	if i == 0 || i > 1 && p.rest[0] == '0' {
		p.fail("a number")
		return 0
	}
	n, err := strconv.ParseUint(string(p.rest[:i]), 10, bits)
	if err != nil {
		p.fail("a number")
		return 0
	}
	p.rest = p.rest[i:]
	return n
}

func (p *parser) str() string {
	if len(p.rest) == 0 || p.rest[0] != '"' {
		p.fail("a string")
		return ""
	}
	i := 1
	for i < len(p.rest) && plain(p.rest[i]) {
		i++
	}
	if i < len(p.rest) && p.rest[i] == '"' {
		s := string(p.rest[1:i])
		p.rest = p.rest[i+1:]
		return s
	}
	for i < len(p.rest) && p.rest[i] != '"' {
		if p.rest[i] == '\\' {
			i++
		}
		i++
	}
	if i >= len(p.rest) {
		p.fail("a string")
		return ""
	}
	var s string
	raw := p.rest[:i+1]
	if err := json.Unmarshal(raw, &s); err != nil || string(appendString(nil, s)) != string(raw) {
		p.fail("a string")
		return ""
	}
	p.rest = p.rest[i+1:]
	return s
}

func (p *parser) time() time.Time {
	s := p.str()
	t, err := time.Parse(time.RFC3339Nano, s)
	if p.err == nil && (err != nil || t.UTC().Format(time.RFC3339Nano) != s || !time.Unix(0, t.UnixNano()).Equal(t)) {
		p.fail("an instant")
	}
	return t.UTC()
}

// quoted returns what stands before the next quotation mark, and goes past that.
func (p *parser) quoted() []byte {
	i := bytes.IndexByte(p.rest, '"')
	if i < 0 {
		p.fail("a string")
		return nil
	}
	b := p.rest[:i]
	p.rest = p.rest[i+1:]
	return b
}

func (p *parser) base64() []byte {
	q := p.quoted()
	b, err := base64.StdEncoding.Strict().AppendDecode(nil, q)
	if err != nil || bytes.IndexByte(q, '\r') >= 0 { // which the decoder passes over
		p.fail("base64")
	}
	return b
}

// hex reads n bytes, or any number when n is negative.
func (p *parser) hex(n int) []byte {
	q := p.quoted()
	b := make([]byte, hex.DecodedLen(len(q)))
	if _, err := hex.Decode(b, q); err != nil || n >= 0 && len(b) != n || bytes.ContainsAny(q, "ABCDEF") {
		p.fail("hex")
	}
	return b
}
