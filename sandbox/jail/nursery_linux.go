package jail

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
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

// sharedFlags are the namespaces of a nursery, ownFlags those of each of its workers.
const (
	sharedFlags = unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS
	ownFlags    = unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
)

// Nursery is one, seen from its parent. It is not safe for concurrent use.
type Nursery struct {
	cmd  *exec.Cmd
	conn *os.File // a socket that keeps messages apart, waited for without a thread
	raw  syscall.RawConn
}

// NewNursery starts the program at path as name, which must call Nurse, in the group if
// there is one; its workers are in it, too. The calling
// thread must live as long as the nursery and its workers should.
func NewNursery(path, name string, g *Group) (*Nursery, error) {
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
	if n.raw, err = n.conn.SyscallConn(); err == nil {
		err = n.cmd.Start()
	}
	if err != nil {
		_ = n.conn.Close()
		return nil, fmt.Errorf("start nursery: %w", err)
	}
	return n, nil
}

// nurseTime is how long a nursery may take to start a worker.
const nurseTime = 10 * time.Second

// Start starts a worker whose standard input and output are in and out.
func (n *Nursery) Start(in, out *os.File) (*os.Process, error) {
	rights := unix.UnixRights(int(in.Fd()), int(out.Fd()))
	_ = n.conn.SetDeadline(time.Now().Add(nurseTime))
	var failed error
	err := n.raw.Write(func(fd uintptr) bool {
		failed = retry(func() error { return unix.Sendmsg(int(fd), []byte{nurseStart}, rights, nil, unix.MSG_NOSIGNAL) })
		return failed != unix.EAGAIN
	})
	if err := errors.Join(err, failed); err != nil {
		return nil, fmt.Errorf("ask nursery: %w", err)
	}
	var answer [8]byte
	var got int
	err = n.raw.Read(func(fd uintptr) bool {
		failed = retry(func() (err error) { got, err = unix.Read(int(fd), answer[:]); return err })
		return failed != unix.EAGAIN
	})
	if err := errors.Join(err, failed); err != nil || got != len(answer) {
		return nil, errors.Join(errors.New("ask nursery: no answer"), err)
	}
	pid, errno := binary.NativeEndian.Uint32(answer[:4]), binary.NativeEndian.Uint32(answer[4:])
	if errno != 0 {
		return nil, fmt.Errorf("nursery: %w", syscall.Errno(errno))
	}
	return os.FindProcess(int(pid))
}

// Close ends the nursery, not its workers.
func (n *Nursery) Close() {
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
	_ = n.conn.Close()
}

const nurseStart = 's'

// Nurse is the life of a nursery: it starts workers under the given name until its
// parent is gone.
func Nurse(worker string) {
	runtime.LockOSThread()
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	unix.CloseOnExec(0)
	if becomeRoot() != nil || onlyProgram() != nil {
		return
	}
	ask, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(2*4))
	for {
		var n, oob int
		err := retry(func() (err error) {
			n, oob, _, _, err = unix.Recvmsg(0, ask, rights, unix.MSG_CMSG_CLOEXEC)
			return err
		})
		if err != nil || n != 1 || ask[0] != nurseStart {
			return
		}
		answer := binary.NativeEndian.AppendUint32(nil, 0)
		pid, errno := nurse(worker, rights[:oob], null)
		binary.NativeEndian.PutUint32(answer, uint32(pid))
		answer = binary.NativeEndian.AppendUint32(answer, uint32(errno))
		if retry(func() error { _, err := unix.Write(0, answer); return err }) != nil {
			return
		}
	}
}

func nurse(worker string, rights []byte, null int) (pid int, errno syscall.Errno) {
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
		Dir: "/", Env: environment(), Files: []uintptr{uintptr(fds[0]), uintptr(fds[1]), uintptr(null)},
		Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: ownFlags | unix.CLONE_PARENT},
	})
	if err != nil && !errors.As(err, &errno) {
		errno = unix.EIO
	}
	return pid, errno
}

// The file system of a nursery: the program, and a directory for its workers to be in.
const (
	programFile = "/program"
	emptyDir    = "/empty"
)

// onlyProgram leaves of the file system what those names say, read-only.
func onlyProgram() error {
	// The file that runs belongs to the namespace that this one was copied from. What has
	// its name here is the same, unless it was replaced: then there is no nursery.
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return err
	}
	var runs, named unix.Stat_t
	if err := errors.Join(unix.Stat("/proc/self/exe", &runs), unix.Fstat(tree, &named)); err != nil {
		return err
	}
	if runs.Dev != named.Dev || runs.Ino != named.Ino {
		return errors.New("the program was replaced")
	}
	return newRoot("size=8k,nr_inodes=8,mode=0755", func() error {
		if err := unix.Mkdir(emptyDir[1:], 0o500); err != nil {
			return err
		}
		file, err := unix.Open(programFile[1:], unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o500)
		if err != nil {
			return err
		}
		_ = unix.Close(file)
		return unix.MoveMount(tree, "", unix.AT_FDCWD, programFile[1:], unix.MOVE_MOUNT_F_EMPTY_PATH)
	})
}

func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
