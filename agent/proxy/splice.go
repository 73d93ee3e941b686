package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// spliceBuffer is the size of one copy, in bytes. It holds 50 inner packets.
const spliceBuffer = 64 << 10

// buffers are shared by all connections and used again by the next ones.
var buffers = sync.Pool{New: func() any { return buffer(new([spliceBuffer]byte)) }}

type halfCloser interface{ CloseWrite() error }

// abort closes c with a reset, so that its peer sees ECONNRESET. A plain close would
// read as the regular end of the data. Connections that cannot be reset are closed.
func abort(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(sec int) error }); ok {
		l.SetLinger(0)
	}
	c.Close()
}

// splice carries bytes between a and b until both directions have ended, and closes
// both. The end of one direction is passed on as such (CloseWrite) and leaves the
// other open. An error on either connection, or the end of ctx, resets both.
//
// A connection that cannot close one direction is closed whole when the other side
// ends: to keep it open would leave its peer waiting for ever.
func splice(ctx context.Context, a, b net.Conn) {
	var once sync.Once
	var aborted atomic.Bool // set before the resets: what they end has not ended in order
	abortBoth := func() {
		once.Do(func() {
			aborted.Store(true)
			abort(a)
			abort(b)
		})
	}
	stop := context.AfterFunc(ctx, abortBoth)
	defer stop()
	ends := [2]end{{Conn: a}, {Conn: b}}
	carry := func(dst, src *end) {
		if copyOne(dst.Conn, src.Conn) != nil || src.torn() || aborted.Load() {
			abortBoth()
			return
		}
		h, ok := dst.Conn.(halfCloser)
		if !ok {
			once.Do(func() { a.Close(); b.Close() })
			return
		}
		dst.shut.Store(true)
		if h.CloseWrite() != nil {
			abortBoth()
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { carry(&ends[0], &ends[1]) })
	carry(&ends[1], &ends[0])
	wg.Wait()
	once.Do(func() { a.Close(); b.Close() })
}

// end is one end of a splice.
type end struct {
	net.Conn
	shut atomic.Bool // we have closed our direction of it, or are about to
}

// torn reports whether the end of the data of e was a reset. A stack tells of a reset
// once: when the write of the other direction is told first, the read sees what looks
// like the regular end, and passing that on would make a cut transfer look complete.
// After a regular end the connection is still there, waiting for our direction; once we
// have closed that, nobody writes and the read is told.
func (e *end) torn() bool { return lost(e.Conn) && !e.shut.Load() }

// lost reports whether c is no longer connected in either direction.
func lost(c net.Conn) bool {
	return c.RemoteAddr() == nil || // a connection of gVisor's that has ended has none
		lostSocket(c)
}

// copyOne copies until src ends. It does not use io.Copy, which would hold a buffer for
// as long as the connection lives: most are idle for most of their time.
func copyOne(dst, src net.Conn) error {
	read := reader(src)
	for {
		buf, n, err := read()
		if n > 0 {
			_, err := dst.Write(buf[:n])
			if err != nil {
				buffers.Put(buf)
				return err
			}
		}
		if buf != nil {
			buffers.Put(buf)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

type buffer = *[spliceBuffer]byte

// awaiter is a connection that tells when a Read would not wait.
type awaiter interface{ AwaitRead() }

// reader returns what reads c into a buffer that it takes when there is something to
// read. The caller gives the buffer back; with an error it may be nil.
func reader(c net.Conn) func() (buffer, int, error) {
	if read := socketReader(c); read != nil {
		return read
	}
	a, _ := c.(awaiter)
	return func() (buffer, int, error) {
		if a != nil {
			a.AwaitRead()
		}
		buf := buffers.Get().(buffer)
		n, err := c.Read(buf[:])
		return buf, n, err
	}
}

// Splice is splice for others: it carries bytes between a and b until both directions
// have ended; an error on either, or the end of ctx, resets both.
func Splice(ctx context.Context, a, b net.Conn) { splice(ctx, a, b) }

// Abort closes c with a reset.
func Abort(c net.Conn) { abort(c) }
