package tools

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"enclave/store/lockfile"
)

// AuditFile keeps records in a file of JSON lines, for sandboxes without a control
// plane: several processes may append to one, by turns. Each line carries the SHA-256 of
// the line before, so that a line that was changed or taken out shows. The last line, and
// that lines were cut off the end, shows only to who remembers the hash of a line
// (VerifyAudit), which is what control's trail is better at. Its format:
// docs/format/audit.md.
type AuditFile struct {
	Torn int64 // bytes of a record that was not written whole, when the file was opened

	turns chan struct{} // of one, held by whose turn it is among the goroutines; guards what follows
	f     *os.File
	last  string
	end   int64 // of what last is the last line of
	shut  bool
}

// chained is a line of the file.
type chained struct {
	Record
	Prev string `json:"prev"` // hex; of the first line, that of nothing
}

// maxAuditLine bounds a line when a file is read again.
const maxAuditLine = 64 << 10

// ErrAuditChain is returned for a file whose lines do not follow each other.
var ErrAuditChain = errors.New("the audit file has been changed")

// ErrAuditTorn is a last line without its end, as a crash in the middle of a write leaves it.
var ErrAuditTorn = fmt.Errorf("%w: its last line is cut short", ErrAuditChain)

// ErrAuditHeld is returned for a file that another process keeps locked: one that appends
// holds it for the moment of a record only.
var ErrAuditHeld = fmt.Errorf("another process has kept the audit file locked for %s", openWait)

// openWait bounds how long a start waits for the file: others may read all of it under the
// lock when they start.
const openWait = 10 * time.Second

// ErrAuditHead is a file without the line that somebody remembers.
var ErrAuditHead = fmt.Errorf("%w: none of its lines has that hash", ErrAuditChain)

// OpenAuditFile opens or makes a file of mode 0600. What it holds already is verified. A
// last line that a crash cut short was never promised to anybody: it is moved to the end
// of PATH.torn, and Torn says how long it was. It waits openWait at most for a process that
// has the file locked, and then returns ErrAuditHeld.
func OpenAuditFile(ctx context.Context, path string) (*AuditFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	a := &AuditFile{turns: make(chan struct{}, 1), f: f, last: sum(nil)}
	wait, cancel := context.WithTimeoutCause(ctx, openWait, ErrAuditHeld)
	defer cancel()
	if err := a.turn(wait, a.catchUp); err != nil {
		f.Close()
		return nil, fmt.Errorf("audit: %s: %w", path, err)
	}
	return a, nil
}

// turn runs f while no other process appends, if its turn comes before ctx ends.
func (a *AuditFile) turn(ctx context.Context, f func() error) error {
	if err := lockfile.WaitFor(ctx, a.f); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("audit: wait for the file: %w", err)
	}
	return errors.Join(f(), lockfile.Release(a.f))
}

// catchUp verifies the lines that were appended since the last turn, by whomever, and sets
// aside what one who is gone has left of a line.
func (a *AuditFile) catchUp() error {
	rep, whole, _, err := verifyAudit(io.NewSectionReader(a.f, a.end, math.MaxInt64-a.end), a.last, "")
	a.last, a.end = rep.Head, a.end+whole
	if err == ErrAuditTorn {
		a.Torn, err = setAside(a.f, a.end, a.f.Name()+".torn")
	}
	return err
}

// setAside moves what f has from an offset on to the end of another file, and returns how
// much that was.
func setAside(f *os.File, from int64, path string) (int64, error) {
	tail, err := io.ReadAll(io.NewSectionReader(f, from, maxAuditLine))
	if err != nil {
		return 0, err
	}
	aside, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	_, err = aside.Write(append(tail, '\n'))
	if err := errors.Join(err, aside.Sync(), aside.Close()); err != nil {
		return 0, err
	}
	return int64(len(tail)), errors.Join(f.Truncate(from), f.Sync())
}

// Append writes a record. When it returns nil the record is with the system; it is
// synced where it says that a run has ended or who may start one. A disk that was full for
// a moment costs the records of that moment alone, and what they would have been about. It
// waits for those who append at the same time until ctx ends.
func (a *AuditFile) Append(ctx context.Context, r Record) error {
	select {
	case a.turns <- struct{}{}:
		defer func() { <-a.turns }()
	case <-ctx.Done():
		return fmt.Errorf("audit: wait for other records: %w", ctx.Err())
	}
	if a.shut {
		return os.ErrClosed
	}
	return a.turn(ctx, func() error {
		if err := a.catchUp(); err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		line, err := json.Marshal(chained{r, a.last})
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		if _, err := a.f.Write(append(line, '\n')); err != nil {
			// What there is of the line was promised to nobody. Where it cannot be taken
			// back, the next turn sets it aside.
			return fmt.Errorf("audit: %w", errors.Join(err, a.f.Truncate(a.end)))
		}
		a.last, a.end = sum(line), a.end+int64(len(line))+1
		if r.Action == "run.end" || r.Tokens != nil {
			return a.f.Sync()
		}
		return nil
	})
}

// Close closes the file.
func (a *AuditFile) Close() error {
	a.turns <- struct{}{}
	defer func() { <-a.turns }()
	a.shut = true
	return a.f.Close()
}

// AuditReport is what a file of records was found to be.
type AuditReport struct {
	Records int       `json:"records"` // that fit together, from the first
	From    time.Time `json:"from,omitzero"`
	To      time.Time `json:"to,omitzero"`
	Head    string    `json:"head"` // SHA-256 of the last line in hex; who keeps it can tell later whether the line and all before it are still there
}

// VerifyAudit reads a whole file. With a head, that of an earlier verification, it also
// asks for that line. What it returns is also right with an error: about the lines before.
func VerifyAudit(r io.Reader, head string) (AuditReport, error) {
	rep, _, held, err := verifyAudit(r, sum(nil), head)
	if err == nil && head != "" && !held {
		err = ErrAuditHead
	}
	return rep, err
}

// verifyAudit begins behind the line of the hash last. It also returns how many bytes the
// whole lines are, and whether head is the hash of one of them, or of nothing.
func verifyAudit(r io.Reader, last, head string) (rep AuditReport, whole int64, held bool, err error) {
	rep.Head = last
	in := bufio.NewReaderSize(r, maxAuditLine)
	for {
		held = held || rep.Head == head
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return rep, whole, held, nil
		case errors.Is(err, io.EOF):
			return rep, whole, held, ErrAuditTorn
		case errors.Is(err, bufio.ErrBufferFull):
			return rep, whole, held, fmt.Errorf("%w: line %d is too long", ErrAuditChain, rep.Records+1)
		case err != nil:
			return rep, whole, held, err
		}
		var c chained
		whole, line = whole+int64(len(line)), bytes.TrimSuffix(line, []byte("\n"))
		if json.Unmarshal(line, &c) != nil {
			return rep, whole, held, fmt.Errorf("%w: line %d is no record", ErrAuditChain, rep.Records+1)
		}
		if c.Prev != rep.Head {
			return rep, whole, held, fmt.Errorf("%w: line %d does not follow the one before: one of the two is not as it was, or there was another between them", ErrAuditChain, rep.Records+1)
		}
		if rep.Records++; rep.Records == 1 {
			rep.From = c.At
		}
		rep.To, rep.Head = c.At, sum(line)
	}
}

func sum(line []byte) string {
	h := sha256.Sum256(line)
	return hex.EncodeToString(h[:])
}
