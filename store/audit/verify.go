package audit

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"enclave/wire"
)

// Kinds of findings.
const (
	Changed    = "changed"     // a record is not what was hashed
	Missing    = "missing"     // and the next one is there
	Reordered  = "reordered"   // a record stands elsewhere than in its place
	Duplicated = "duplicated"  // a record stands twice
	Truncated  = "truncated"   // the end is missing
	Rewritten  = "rewritten"   // the chain was made anew, with other content
	Unsigned   = "unsigned"    // a checkpoint is not signed by the key at hand
	Beyond     = "beyond"      // records that no checkpoint covers
	RolledBack = "rolled back" // somebody remembers more
	Forked     = "forked"      // somebody remembers something else
)

// Finding is the first thing that is wrong with a log.
type Finding struct {
	Kind  string `json:"kind"`
	Seq   int64  `json:"seq"`             // the first record that is wrong; those before are proven
	Until int64  `json:"until,omitempty"` // where it cannot be told closer: the first wrong one is Seq to Until
	Why   string `json:"why"`
}

func (f *Finding) Error() string { return f.Why }

// Witnessed is a checkpoint that somebody remembers, and what came of comparing it.
type Witnessed struct {
	Name string `json:"name"` // of the file
	Checkpoint
	Matches bool `json:"matches"`
	Skipped bool `json:"skipped,omitempty"` // of records before the first one at hand
}

// Report is what a verification found.
type Report struct {
	Origin    string      `json:"origin"`
	First     int64       `json:"first"`
	Last      int64       `json:"last"`
	Proven    int64       `json:"proven"`  // the last record up to which all is as it was signed
	Records   int64       `json:"records"` // read
	Sealed    int64       `json:"sealed"`  // of them, whose detail nobody can read here
	Root      string      `json:"root"`
	From      time.Time   `json:"from,omitzero"`
	To        time.Time   `json:"to,omitzero"`
	Witnessed []Witnessed `json:"witnessed,omitempty"`
	Finding   *Finding    `json:"finding,omitempty"`
}

// Verifier checks exports of one log: segments in their order, then the export that
// continues them. The zero value is not usable.
type Verifier struct {
	key      string
	org      wire.OrgID
	progress func(done, total int64)

	tree, before Tree // over the records so far; and without the last
	prev         Hash
	begun        bool
	buf          []byte
	report       Report
	link         *link // set while it is not clear which of two records was rewritten
	lost         int64 // set while it is not clear whether this record is missing or elsewhere
}

// link is a record whose prev is not the hash of the one before. The next checkpoint
// tells which of the two is not as it was.
type link struct {
	seq  int64
	tree Tree // as if the record before had the hash that this one says
	next Hash
}

// NewVerifier makes a verifier with the public key of the log and the checkpoints that
// others remember. progress, which may be nil, is told how far it is.
func NewVerifier(public string, known []Witnessed, progress func(done, total int64)) (*Verifier, error) {
	origin, err := ParseKey(public)
	if err != nil {
		return nil, err
	}
	v := &Verifier{key: strings.TrimSpace(public), progress: progress}
	v.report.Origin = origin
	v.report.Witnessed = known
	return v, nil
}

// progressEvery is how many records pass between two words of progress.
const progressEvery = 4096

// File verifies one export. The error is one of reading, or an ErrExport; what is wrong
// with the log is the report's Finding. After a finding nothing more is read.
func (v *Verifier) File(r io.Reader) error {
	if v.report.Finding != nil {
		return nil
	}
	lines := bufio.NewReaderSize(r, 256<<10)
	raw, err := readLine(lines)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrExport, err)
	}
	end, last, err := v.header(raw)
	if err != nil || v.report.Finding != nil {
		return err
	}
	var l Line
	for n := 2; v.report.Finding == nil; n++ {
		raw, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			v.finish(end, last)
			return nil
		}
		if err != nil && !errors.Is(err, errLine) {
			return err
		}
		if err == nil {
			err = ParseLine(raw, &l)
		}
		switch {
		case err != nil && v.lost == 0:
			v.find(Changed, v.expected(), 0, "record %d cannot be read: line %d: %v", v.expected(), n, err)
		case err != nil:
			continue
		case l.Note != "":
			v.checkpoint(l.Note)
		case v.link != nil:
			v.follow(&l.Record)
		case v.lost > 0:
			if l.Seq == v.lost {
				v.find(Reordered, v.lost, 0, "record %d stands behind a later one", v.lost)
			}
		default:
			v.record(&l, last)
		}
	}
	return nil
}

// expected is the number of the next record.
func (v *Verifier) expected() int64 { return v.tree.Size() + 1 }

// header reads the first line, and returns the checkpoint that the file must arrive at
// and the number of its last record.
func (v *Verifier) header(raw []byte) (end Checkpoint, last int64, err error) {
	var h Header
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&h); err != nil {
		return end, 0, fmt.Errorf("%w: its first line is no header", ErrExport)
	}
	if h.Version != ExportVersion {
		return end, 0, fmt.Errorf("%w: version %d, this program reads %d", ErrExport, h.Version, ExportVersion)
	}
	if again, err := json.Marshal(&h); err != nil || !bytes.Equal(again, raw) {
		return end, 0, fmt.Errorf("%w: its header is not as it was written", ErrExport)
	}
	prev, err := hex.DecodeString(h.Prev)
	if err != nil || len(prev) != len(Hash{}) || h.First < 1 || h.Last < h.First-1 {
		return end, 0, fmt.Errorf("%w: its header makes no sense", ErrExport)
	}
	tree, err := TreeOf(h.First-1, h.Tops)
	if err != nil {
		return end, 0, fmt.Errorf("%w: its header: %w", ErrExport, err)
	}
	if Origin(h.Org) != v.report.Origin {
		return end, 0, fmt.Errorf("%w of %s: it is of %.80q", ErrExport, v.report.Origin, Origin(h.Org))
	}
	end, err = OpenCheckpoint(h.Checkpoint, v.key)
	switch {
	case err != nil:
		v.find(Unsigned, h.First, h.Last, "the checkpoint of the export: %v", err)
	case h.Key != v.key:
		v.find(Unsigned, h.First, h.Last, "the export names another key (%.80q) than the one at hand", h.Key)
	case end.Size != h.Last:
		v.find(Truncated, min(end.Size, h.Last)+1, 0, "the header names %d as the last record, the signed checkpoint %d", h.Last, end.Size)
	case !v.begun:
		v.begun, v.tree, v.before, v.org = true, tree, tree.Clone(), h.Org
		copy(v.prev[:], prev)
		v.report.First, v.report.Proven = h.First, h.First-1
	case h.First > v.expected():
		v.find(Missing, v.expected(), 0, "records %d to %d are in none of the files", v.expected(), h.First-1)
	case h.First < v.expected():
		v.find(Duplicated, h.First, 0, "record %d is in two of the files", h.First)
	case string(prev) != string(v.prev[:]) || tree.Root() != v.tree.Root():
		v.find(Rewritten, v.report.Proven+1, h.Last, "the file from record %d does not continue the one before", h.First)
	}
	v.report.Last = max(v.report.Last, end.Size)
	if v.report.Finding == nil {
		v.witness()
	}
	return end, h.Last, nil
}

// record takes the next record in.
func (v *Verifier) record(l *Line, last int64) {
	n := v.expected()
	var sum Hash
	sum, v.buf = l.Sum(v.org, v.buf)
	switch {
	case sum != l.Hash:
		v.find(Changed, n, 0, "record %d has been changed: its hash is %x, and was %x", n, sum[:6], l.Hash[:6])
	case l.Seq < n && l.Seq >= v.report.First:
		v.find(Duplicated, l.Seq, 0, "record %d stands twice", l.Seq)
	case l.Seq != n && n > last:
		v.find(Beyond, n, 0, "what follows record %d is covered by no checkpoint", last)
	case l.Seq != n:
		v.lost = n
	case n > last:
		v.find(Beyond, n, 0, "record %d is covered by no checkpoint", n)
	case l.Prev != v.prev:
		b := v.before.Clone()
		if v.expected() > v.report.First {
			b.Append(l.Prev)
		} else {
			b = v.tree.Clone()
		}
		b.Append(l.Hash)
		v.link = &link{n, b, l.Hash}
	default:
		if why := v.detail(l); why != "" {
			v.find(Changed, n, 0, "record %d: %s", n, why)
			return
		}
		v.accept(l)
	}
}

func (v *Verifier) accept(l *Line) {
	v.before.n, v.before.tops = v.tree.n, append(v.before.tops[:0], v.tree.tops...)
	v.tree.Append(l.Hash)
	v.prev = l.Hash
	v.report.Records++
	if v.report.From.IsZero() {
		v.report.From = l.At
	}
	v.report.To = l.At
	if l.Format != Activity && len(l.Open) == 0 {
		v.report.Sealed++
	}
	v.witness()
	if n := v.tree.Size(); v.progress != nil && (n%progressEvery == 0 || n == v.report.Last) {
		v.progress(n, v.report.Last)
	}
}

// detail compares the detail that can be read with the one that was hashed, and says
// what is wrong.
func (v *Verifier) detail(l *Line) string {
	clear := l.Detail
	if l.Format != Activity {
		if len(l.Open) == 0 {
			if l.Clear != nil {
				return "its detail is in clear, and nothing proves that it is the one that was sealed"
			}
			return ""
		}
		var err error
		if clear, err = OpenDetail(l.Open, v.org, &l.Record); err != nil {
			return "the key beside it does not open its detail"
		}
	} else if len(l.Open) > 0 {
		return "it has a key and no sealed detail"
	}
	if l.Clear == nil && oneLine(clear) || l.Clear != nil && !bytes.Equal(l.Clear, clear) {
		return "its detail is not the one that was sealed"
	}
	return ""
}

// follow goes on behind a broken link to the next checkpoint.
func (v *Verifier) follow(r *Record) {
	var sum Hash
	sum, v.buf = r.Sum(v.org, v.buf)
	if r.Seq != v.link.tree.Size()+1 || r.Prev != v.link.next || sum != r.Hash {
		v.unlinked(false)
		return
	}
	v.link.tree.Append(r.Hash)
	v.link.next = r.Hash
}

// unlinked says which record is behind a broken link: the one before, when the tree with
// the hash that the later one remembers is what was signed.
func (v *Verifier) unlinked(before bool) {
	n := v.link.seq
	switch {
	case before && n > v.report.First:
		v.find(Rewritten, n-1, 0, "record %d has been rewritten: record %d follows another one", n-1, n)
	case v.report.Proven == n-1:
		v.find(Changed, n, 0, "record %d does not follow record %d", n, n-1)
	default:
		v.find(Rewritten, v.report.Proven+1, n, "record %d does not follow record %d: one of records %d to %d was rewritten", n, n-1, v.report.Proven+1, n)
	}
}

// checkpoint compares a checkpoint inside the file.
func (v *Verifier) checkpoint(note string) {
	c, err := OpenCheckpoint(note, v.key)
	if v.lost > 0 {
		return
	}
	n := v.tree.Size()
	switch {
	case err != nil:
		v.find(Unsigned, n+1, 0, "the checkpoint behind record %d: %v", n, err)
	case v.link != nil:
		v.unlinked(c.Size == v.link.tree.Size() && c.Root == v.link.tree.Root())
	case c.Size != n:
		v.find(Reordered, min(n, c.Size)+1, 0, "the checkpoint of %d records stands behind record %d", c.Size, n)
	case c.Root != v.tree.Root():
		v.rewritten(n)
	default:
		v.report.Proven = n
	}
}

func (v *Verifier) rewritten(n int64) {
	v.find(Rewritten, v.report.Proven+1, n, "the history was rewritten: records up to %d are as they were signed, records %d to %d are not", v.report.Proven, v.report.Proven+1, n)
}

// finish compares the end of a file with its checkpoint.
func (v *Verifier) finish(end Checkpoint, last int64) {
	n := v.tree.Size()
	switch {
	case v.link != nil:
		v.unlinked(end.Size == v.link.tree.Size() && end.Root == v.link.tree.Root())
	case v.lost > 0:
		v.find(Missing, v.lost, 0, "record %d is missing", v.lost)
	case n < last:
		v.find(Truncated, n+1, 0, "the export ends after record %d; the signed checkpoint covers %d", n, last)
	case end.Root != v.tree.Root():
		v.rewritten(n)
	default:
		v.report.Proven = n
	}
}

// witness compares the tree with what others remember of this size.
func (v *Verifier) witness() {
	for i := range v.report.Witnessed {
		w := &v.report.Witnessed[i]
		if w.Size != v.tree.Size() || v.report.Finding != nil {
			continue
		}
		root := v.tree.Root()
		if w.Size == 0 {
			root = w.Root
		}
		if w.Matches = w.Root == root; !w.Matches {
			v.find(Forked, min(v.report.Proven+1, w.Size), w.Size, "%s remembers another history of the first %d records than this one", w.Name, w.Size)
		}
	}
}

// LastHash is the hash of the last record that was read.
func (v *Verifier) LastHash() Hash { return v.prev }

// Report returns what was found, after the last file.
func (v *Verifier) Report() Report {
	r := &v.report
	root := v.tree.Root()
	r.Root = tlog.Hash(root).String()
	for i := range r.Witnessed {
		w := &r.Witnessed[i]
		switch {
		case w.Size > v.tree.Size() && r.Finding == nil:
			v.find(RolledBack, v.tree.Size()+1, w.Size, "%s remembers %d records, this log ends after %d: it was rolled back or cut short", w.Name, w.Size, v.tree.Size())
		case w.Size < r.First-1:
			w.Skipped = true
		}
	}
	return *r
}

func (v *Verifier) find(kind string, seq, until int64, format string, args ...any) {
	if until <= seq {
		until = 0
	}
	v.report.Finding = &Finding{Kind: kind, Seq: seq, Until: until, Why: fmt.Sprintf(format, args...)}
}

// errLine is a line beyond measure.
var errLine = errors.New("a line is too long")

// readLine reads a line without its end. A last line without an end is one, too. What it
// returns is good until the next call.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err == nil {
		return line[:len(line)-1], nil
	}
	var long []byte
	for errors.Is(err, bufio.ErrBufferFull) {
		if len(long)+len(line) > MaxLine {
			return nil, errLine
		}
		long = append(long, line...)
		line, err = r.ReadSlice('\n')
	}
	switch {
	case err == nil:
		return append(long, line[:len(line)-1]...), nil
	case errors.Is(err, io.EOF) && len(long)+len(line) > 0:
		return append(long, line...), nil
	}
	return nil, err
}
