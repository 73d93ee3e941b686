//go:build unix

package proxy

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// lostSocket asks the kernel whether a TCP socket can still be written to, by writing
// nothing. It takes no lock of c, which a write that waits for its peer holds.
func lostSocket(c net.Conn) bool {
	s, ok := c.(syscall.Conn)
	if _, tcp := c.LocalAddr().(*net.TCPAddr); !ok || !tcp {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return true
	}
	var sent error
	err = raw.Control(func(fd uintptr) { sent = unix.Send(int(fd), nil, unix.MSG_DONTWAIT) })
	return err != nil || sent != nil && sent != unix.EAGAIN && sent != unix.EINTR
}
