package frame

import "io"

// readerSize holds two full-size data plane packets: an idle connection holds little.
// A larger frame grows the buffer once, to HeaderLen+MaxBody at most, and so does a
// Read that fills it, to busySize: then there is more, and a TLS record of 16 KiB is to
// come in one piece with what was left of the one before.
const (
	readerSize = 4 << 10
	busySize   = 20 << 10
)

// Reader reads frames from a connection into one buffer. It belongs to one
// goroutine. The header is judged before the body is waited for, so a length never
// makes it hold more than its type allows.
type Reader struct {
	r          io.Reader
	buf        []byte
	start, end int  // buf[start:end] was read and not yet returned
	filled     bool // the last Read took all the room there was
}

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: r, buf: make([]byte, readerSize)}
}

// Next returns the next frame. The body is valid until the next call. At the end
// between two frames the error is io.EOF, within one io.ErrUnexpectedEOF; ErrType
// and ErrLength are final.
func (r *Reader) Next() (Type, []byte, error) {
	if err := r.fill(HeaderLen); err != nil {
		return 0, nil, err
	}
	h := r.buf[r.start:]
	t, n := Type(h[0]), int(h[1])<<8|int(h[2])
	if err := check(t, n); err != nil {
		return 0, nil, err
	}
	if err := r.fill(HeaderLen + n); err != nil {
		return 0, nil, err
	}
	from := r.start + HeaderLen
	r.start = from + n
	return t, r.buf[from:r.start:r.start], nil
}

// Buffered returns the bytes that were read and not yet returned.
func (r *Reader) Buffered() int { return r.end - r.start }

// Ready reports whether Next returns without a read. A caller that batches its answers
// flushes them when it does not.
func (r *Reader) Ready() bool {
	h := r.buf[r.start:r.end]
	return len(h) >= HeaderLen && len(h) >= HeaderLen+int(h[1])<<8+int(h[2])
}

// fill reads until n bytes stand at start. It reads as much as the buffer takes:
// the more frames a Read brings, the fewer there are.
func (r *Reader) fill(n int) error {
	if r.end-r.start >= n {
		return nil
	}
	if r.start == r.end {
		r.start, r.end = 0, 0
	}
	if r.filled && len(r.buf) < busySize {
		buf := make([]byte, busySize)
		r.end = copy(buf, r.buf[r.start:r.end])
		r.start, r.buf = 0, buf
	}
	if r.start+n > len(r.buf) {
		buf := r.buf
		if n > len(buf) {
			buf = make([]byte, max(n, min(2*len(buf), HeaderLen+MaxBody)))
		}
		r.end = copy(buf, r.buf[r.start:r.end])
		r.start, r.buf = 0, buf
	}
	for empty := 0; r.end-r.start < n; {
		got, err := r.r.Read(r.buf[r.end:])
		r.filled = got == len(r.buf)-r.end
		r.end += got
		if r.end-r.start >= n {
			return nil
		}
		if err == io.EOF && r.end > r.start {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if got > 0 {
			empty = 0
		} else if empty++; empty == maxEmptyReads {
			return io.ErrNoProgress
		}
	}
	return nil
}

// maxEmptyReads is when a reader that returns neither bytes nor an error is given up.
const maxEmptyReads = 100
