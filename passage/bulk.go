package passage

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
)

// Bulk is a connection below TLS that moves many records in one system call. TLS writes
// each record by itself, and reads hardly more than one; a call to the kernel costs as much
// as the cipher of a record.
//
// Outward its owner says when: what TLS writes between Hold and Flush leaves at Flush.
// Inward it turns to large reads while large ones come, and holds no memory otherwise.
// One goroutine reads and one holds and flushes; others may write at any time, as TLS
// does for its alerts. No lock is held while the kernel is waited for, so a Close that
// first says goodbye never waits behind a peer that takes nothing.
//
// A nil Bulk takes all calls but those of net.Conn and does nothing.
type Bulk struct {
	net.Conn

	// BeforeRead is called, when it is not nil, before the kernel is asked for more: all
	// that had come has been handed out. It is set before the next Read, by the reader.
	BeforeRead func()

	in         *[bulkRead]byte // nil while little comes
	start, end int             // in[start:end] was read and not handed out
	much       bool            // the last read brought much

	// mu guards what follows.
	mu       sync.Mutex
	held     bool
	flushing bool
	out      []byte
	err      error // of a flush; final
}

const (
	bulkRead  = 64 << 10
	bulkWrite = 72 << 10 // four full records and their heads; more than that is not held back
	muchRead  = 8 << 10
	maxBeside = 4 << 10 // what may be written while a flush is under way: alerts
)

var (
	bulkReads  = sync.Pool{New: func() any { return new([bulkRead]byte) }}
	bulkWrites = sync.Pool{New: func() any { return new([bulkWrite]byte) }}
)

var errBeside = errors.New("too much is written while a flush is under way")

// NewBulk returns a Bulk on c.
func NewBulk(c net.Conn) *Bulk { return &Bulk{Conn: c} }

// BulkOf returns the Bulk below c, nil when there is none.
func BulkOf(c net.Conn) *Bulk {
	t, ok := c.(*tls.Conn)
	if !ok {
		return nil
	}
	b, _ := t.NetConn().(*Bulk)
	return b
}

// Read implements net.Conn.
func (b *Bulk) Read(p []byte) (int, error) {
	if b.start < b.end {
		return b.handOut(p), nil
	}
	if b.BeforeRead != nil {
		b.BeforeRead()
	}
	if !b.much {
		n, err := b.Conn.Read(p)
		b.much = n >= muchRead
		return n, err
	}
	if b.in == nil {
		b.in = bulkReads.Get().(*[bulkRead]byte)
	}
	n, err := b.Conn.Read(b.in[:])
	b.start, b.end, b.much = 0, n, n >= muchRead && err == nil
	if n == 0 {
		b.rest()
		return 0, err
	}
	return b.handOut(p), err
}

func (b *Bulk) handOut(p []byte) int {
	n := copy(p, b.in[b.start:b.end])
	if b.start += n; b.start == b.end && !b.much {
		b.rest()
	}
	return n
}

// rest gives the buffer back.
func (b *Bulk) rest() {
	if b.in != nil {
		bulkReads.Put(b.in)
		b.in, b.start, b.end = nil, 0, 0
	}
}

// Write implements net.Conn. What is held is counted as written: an error comes with
// Flush, and with every call after it.
func (b *Bulk) Write(p []byte) (int, error) {
	b.mu.Lock()
	switch {
	case b.err != nil:
		defer b.mu.Unlock()
		return 0, b.err
	case b.flushing:
		defer b.mu.Unlock()
		if len(b.out)+len(p) > maxBeside {
			return 0, errBeside
		}
		b.append(p)
		return len(p), nil
	case !b.held:
		b.mu.Unlock()
		return b.Conn.Write(p)
	}
	defer b.mu.Unlock()
	if len(b.out)+len(p) > bulkWrite {
		if b.writeOut(); b.err != nil {
			return 0, b.err
		}
	}
	if len(p) > bulkWrite {
		return b.Conn.Write(p) // nothing is before it; TLS writes no such records
	}
	b.append(p)
	return len(p), nil
}

func (b *Bulk) append(p []byte) {
	if b.out == nil {
		b.out = bulkWrites.Get().(*[bulkWrite]byte)[:0]
	}
	b.out = append(b.out, p...)
}

// Hold keeps what is written from now on until Flush.
func (b *Bulk) Hold() {
	if b == nil {
		return
	}
	b.mu.Lock()
	b.held = true
	b.mu.Unlock()
}

// Flush writes what was held. Its error is final.
func (b *Bulk) Flush() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = false
	b.writeOut()
	return b.err
}

// writeOut writes what waits, and what is added meanwhile, without holding mu. The caller
// holds it.
func (b *Bulk) writeOut() {
	b.flushing = true
	for b.err == nil && b.out != nil {
		out := b.out
		b.out = nil
		b.mu.Unlock()
		_, err := b.Conn.Write(out)
		bulkWrites.Put((*[bulkWrite]byte)(out[:bulkWrite]))
		b.mu.Lock()
		b.err = err
	}
	b.flushing = false
}
