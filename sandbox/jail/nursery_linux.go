package jail

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A nursery is a small process that starts workers. It is this program under a name of
// its own, in a user namespace, an empty network namespace and a mount namespace with
// nothing but this program in it, which its workers share; each gets all other namespaces
// for itself. Three things make a worker dear to start otherwise. Who forks into a new
// user namespace must copy his page tables, and those of a server are large; a nursery is
// in the namespace already, and lends the child its memory until it executes. The kernel
// takes longer to make and to unmake an empty network namespace than all others together.
// And to leave a file system behind, each worker would wait for all processors twice.
// Decision 0138 says why sharing these is safe.
//
// The workers are children of the nursery's parent, who waits for them and whose end
// ends them. A nursery sees two descriptors a worker and no byte of what they carry.
// What its file system holds is in program_linux.go.

// sharedFlags are the namespaces of a nursery, ownFlags those of each of its workers.
const (
	sharedFlags = unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS
	ownFlags    = unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
)

// slack is how much later than asked for the kernel may wake a nursery and its workers. Go has a
// thread that looks after the others every 20 us at first, some fifty times in a worker's
// start; with this it does so five times.
const slack = time.Millisecond

// Nursery is one, seen from its parent.
type Nursery struct {
	cmd  *exec.Cmd
	conn *os.File // a socket that keeps messages apart, waited for without a thread
	raw  syscall.RawConn
	mu   sync.Mutex // held from a question to its answer
}

// NewNursery starts the program at path as name, which must call Nurse, in the group if
// there is one; its workers are in it, too, and waits until it is ready. If large, it keeps the program in large pages,
// which takes as much memory as the program has (largeProgram). The calling
// thread must live as long as the nursery and its workers should.
func NewNursery(path, name string, g *Group, large bool) (*Nursery, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start nursery: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "nursery")
	defer theirs.Close()
	if err := unix.SetNonblock(pair[0], true); err != nil {
		_ = unix.Close(pair[0])
		return nil, fmt.Errorf("start nursery: %w", err)
	}
	n := &Nursery{cmd: command(path, name, sharedFlags, g), conn: os.NewFile(uintptr(pair[0]), "nursery")}
	n.cmd.Stdin = theirs
	first := byte(nurseSmall)
	if large {
		first = nurseLarge
	}
	if n.raw, err = n.conn.SyscallConn(); err == nil {
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack.Nanoseconds()), 0, 0, 0) // of what this thread starts, and what that starts
		err = n.cmd.Start()
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) // as it was
	}
	if err != nil {
		_ = n.conn.Close()
		return nil, fmt.Errorf("start nursery: %w", err)
	}
	if _, err := n.ask(first, nil); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// nurseTime is how long a nursery may take to start a worker.
const nurseTime = 10 * time.Second

// Start starts a worker whose standard input and output are in and out.
func (n *Nursery) Start(in, out *os.File) (*os.Process, error) {
	pid, err := n.ask(nurseStart, unix.UnixRights(int(in.Fd()), int(out.Fd())))
	if err != nil {
		return nil, err
	}
	return os.FindProcess(pid)
}

// ask asks the nursery for something, and waits until it has done that.
func (n *Nursery) ask(what byte, rights []byte) (pid int, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	_ = n.conn.SetDeadline(time.Now().Add(nurseTime))
	var failed error
	err = n.raw.Write(func(fd uintptr) bool {
		failed = retry(func() error { return unix.Sendmsg(int(fd), []byte{what}, rights, nil, unix.MSG_NOSIGNAL) })
		return failed != unix.EAGAIN
	})
	if err := errors.Join(err, failed); err != nil {
		return 0, fmt.Errorf("ask nursery: %w", err)
	}
	var answer [8]byte
	var got int
	err = n.raw.Read(func(fd uintptr) bool {
		failed = retry(func() (err error) { got, err = unix.Read(int(fd), answer[:]); return err })
		return failed != unix.EAGAIN
	})
	if err := errors.Join(err, failed); err != nil || got != len(answer) {
		return 0, errors.Join(errors.New("ask nursery: no answer"), err)
	}
	if errno := binary.NativeEndian.Uint32(answer[4:]); errno != 0 {
		return 0, fmt.Errorf("nursery: %w", syscall.Errno(errno))
	}
	return int(binary.NativeEndian.Uint32(answer[:4])), nil
}

// Close ends the nursery, not its workers.
func (n *Nursery) Close() {
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
	_ = n.conn.Close()
}

// What a nursery is told: first how to keep the program, then each time to start a worker.
const (
	nurseLarge = 'l'
	nurseSmall = 'm'
	nurseStart = 's'
)

// Nurse is the life of a nursery: it starts workers under the given name, with a word in their
// environment, until its parent is gone.
func Nurse(worker, word string) {
	runtime.LockOSThread()
	env := environment()
	if word != "" {
		env = append(env, word)
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	unix.CloseOnExec(0)
	answer := func(pid int, errno syscall.Errno) bool {
		b := binary.NativeEndian.AppendUint32(nil, uint32(pid))
		b = binary.NativeEndian.AppendUint32(b, uint32(errno))
		return retry(func() error { _, err := unix.Write(0, b); return err }) == nil
	}
	ask, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(2*4))
	if n, err := unix.Read(0, ask); err != nil || n != 1 || becomeRoot() != nil || onlyProgram(ask[0] == nurseLarge) != nil || noMoreCaps() != nil || !answer(0, 0) {
		return
	}
	for {
		var n, oob int
		err := retry(func() (err error) {
			n, oob, _, _, err = unix.Recvmsg(0, ask, rights, unix.MSG_CMSG_CLOEXEC)
			return err
		})
		if err != nil || n != 1 || ask[0] != nurseStart || !answer(nurse(worker, env, rights[:oob], null)) {
			return
		}
	}
}

func nurse(worker string, env []string, rights []byte, null int) (pid int, errno syscall.Errno) {
	var fds []int
	if m, err := unix.ParseSocketControlMessage(rights); err == nil && len(m) == 1 {
		fds, _ = unix.ParseUnixRights(&m[0])
	}
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	if len(fds) != 2 {
		return 0, unix.EBADMSG
	}
	pid, err := syscall.ForkExec(programFile, []string{worker}, &syscall.ProcAttr{
		Dir: "/", Env: env, Files: []uintptr{uintptr(fds[0]), uintptr(fds[1]), uintptr(null)},
		Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: ownFlags | unix.CLONE_PARENT},
	})
	if err != nil && !errors.As(err, &errno) {
		errno = unix.EIO
	}
	return pid, errno
}

func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
