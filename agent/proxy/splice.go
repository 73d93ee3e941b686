package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// spliceBuffer is the size of one copy, in bytes. It holds 50 inner packets.
const spliceBuffer = 64 << 10

// buffers are shared by all connections and used again by the next ones.
var buffers = sync.Pool{New: func() any { return new([spliceBuffer]byte) }}

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
	abortBoth := func() { once.Do(func() { abort(a); abort(b) }) }
	stop := context.AfterFunc(ctx, abortBoth)
	defer stop()
	carry := func(dst, src net.Conn) {
		if err := copyOne(dst, src); err != nil {
			abortBoth()
			return
		}
		h, ok := dst.(halfCloser)
		if !ok {
			once.Do(func() { a.Close(); b.Close() })
			return
		}
		if h.CloseWrite() != nil {
			abortBoth()
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { carry(a, b) })
	carry(b, a)
	wg.Wait()
	once.Do(func() { a.Close(); b.Close() })
}

// copyOne copies until src ends. It does not use io.Copy: between a kernel socket and
// one of the tunnel that would allocate a buffer of its own for each connection.
func copyOne(dst, src net.Conn) error {
	buf := buffers.Get().(*[spliceBuffer]byte)
	defer buffers.Put(buf)
	for {
		n, err := src.Read(buf[:])
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Splice is splice for others: it carries bytes between a and b until both directions
// have ended; an error on either, or the end of ctx, resets both.
func Splice(ctx context.Context, a, b net.Conn) { splice(ctx, a, b) }

// Abort closes c with a reset.
func Abort(c net.Conn) { abort(c) }
