package jail

import (
	"os"

	"golang.org/x/sys/unix"
)

// Await returns when the process has ended, or cannot be watched. It waits as one waits
// for a socket: the system's own wait would keep a thread each, and one of the few
// places to run Go on until somebody notices, milliseconds later.
func Await(p *os.Process) {
	fd, err := unix.PidfdOpen(p.Pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), "process")
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n != 0 || (err != nil && err != unix.EINTR)
	})
}
