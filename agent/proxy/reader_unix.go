//go:build unix

package proxy

import (
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// socketReader is reader for a socket of the kernel's. It asks for the type and not for
// syscall.Conn: a type around a socket has a Read of its own that counts.
func socketReader(c net.Conn) func() (buffer, int, error) {
	s, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return func() (buffer, int, error) { return nil, 0, err }
	}
	var buf buffer
	var n int
	var failed error
	try := func(fd uintptr) (done bool) {
		buf = buffers.Get().(buffer)
		for {
			if n, failed = unix.Read(int(fd), buf[:]); failed != unix.EINTR {
				break
			}
		}
		if failed == unix.EAGAIN { // the poller waits, without a buffer
			buffers.Put(buf)
			buf = nil
			return false
		}
		return true
	}
	return func() (buffer, int, error) {
		buf, n, failed = nil, 0, nil
		err := raw.Read(try)
		switch {
		case err != nil:
			n = 0
		case failed != nil:
			n, err = 0, &net.OpError{Op: "read", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError("read", failed)}
		case n == 0:
			err = io.EOF
		}
		return buf, n, err
	}
}
