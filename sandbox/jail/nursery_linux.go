package jail

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
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

// ErrBusy is the error of a nursery that others were waiting for, for too long.
var ErrBusy = errors.New("nursery: busy")

// Nursery is one, seen from its parent.
type Nursery struct {
	cmd    *exec.Cmd
	conn   *os.File // a socket that keeps messages apart, waited for without a thread
	raw    syscall.RawConn
	thread int           // whose children it and its workers are
	turn   chan struct{} // full from a question to its answer; who fills it has what follows
	lost   bool          // an answer did not come: the next that does is another's
	told   map[int]bool  // the thread's workers that somebody waits for, and some that are gone
}

// NewNursery starts the program at path as name, which must call Nurse, in the group if
// there is one; its workers are in it, too, and waits until it is ready. If large, it keeps
// the program in large pages, which takes as much memory as the program has (largeProgram).
// The calling thread must live as long as the nursery and its workers should, and have one
// nursery at a time.
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
	n := &Nursery{cmd: command(path, name, sharedFlags, g), conn: os.NewFile(uintptr(pair[0]), "nursery"),
		thread: unix.Gettid(), turn: make(chan struct{}, 1), told: map[int]bool{}}
	for _, pid := range n.children() { // of one before
		n.told[pid] = true
	}
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
	if _, err := n.ask(first, nil, readyTime); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// readyTime is how long a nursery may take to be ready, and answerTime to start a worker,
// which takes it a millisecond: until then nobody else's is started.
const (
	readyTime  = 10 * time.Second
	answerTime = time.Second
)

// Start starts a worker whose standard input and output are in and out. If it is ErrBusy, the
// nursery is of use to others; after any other error it is to be closed.
func (n *Nursery) Start(in, out *os.File) (*os.Process, error) {
	pid, err := n.ask(nurseStart, unix.UnixRights(int(in.Fd()), int(out.Fd())), answerTime)
	if err != nil {
		return nil, err
	}
	return os.FindProcess(pid)
}

// ask asks the nursery for something, and waits until it has done that: so long for its turn,
// and as long again for the answer.
func (n *Nursery) ask(what byte, rights []byte, patience time.Duration) (pid int, err error) {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case n.turn <- struct{}{}:
	case <-late.C:
		return 0, ErrBusy
	}
	defer func() {
		n.lost = n.lost || err != nil
		<-n.turn
	}()
	if n.lost {
		return 0, errors.New("ask nursery: it gave another no answer")
	}
	_ = n.conn.SetDeadline(time.Now().Add(patience))
	var failed error
	err = n.raw.Write(func(fd uintptr) bool {
		failed = retry(func() error { return unix.Sendmsg(int(fd), []byte{what}, rights, nil, unix.MSG_NOSIGNAL) })
		return failed != unix.EAGAIN
	})
	if err := errors.Join(err, failed); err != nil {
		return 0, fmt.Errorf("ask nursery: %w", err)
	}
	var answer [8]byte
	got, err := n.read(answer[:])
	if err != nil || got != len(answer) {
		return 0, errors.Join(errors.New("ask nursery: no answer"), err)
	}
	if errno := binary.NativeEndian.Uint32(answer[4:]); errno != 0 {
		return 0, fmt.Errorf("nursery: %w", syscall.Errno(errno))
	}
	pid = int(binary.NativeEndian.Uint32(answer[:4]))
	n.told[pid] = true
	n.forget()
	return pid, nil
}

func (n *Nursery) read(b []byte) (got int, err error) {
	var failed error
	err = n.raw.Read(func(fd uintptr) bool {
		failed = retry(func() (err error) { got, err = unix.Read(int(fd), b); return err })
		return failed != unix.EAGAIN
	})
	return got, errors.Join(err, failed)
}

// Close ends the nursery, not its workers; but it ends, and waits for, those that it started
// and of which it told nobody: no one else would.
func (n *Nursery) Close() {
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
	n.turn <- struct{}{}
	n.lost = true
	// The other end is closed when the nursery is gone, and a child that shared its memory when
	// it ended became a worker, or ended.
	_ = n.conn.SetDeadline(time.Now().Add(answerTime))
	for got, err := 1, error(nil); got > 0 && err == nil; {
		got, err = n.read(make([]byte, 8))
	}
	_ = n.conn.Close()
	<-n.turn
	for _, pid := range n.children() {
		if n.told[pid] {
			continue
		}
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill()
			_, _ = p.Wait()
		}
	}
}

// children are those of the nursery's thread that run its program, also those that have ended
// and were not waited for. Others that the thread started itself have another name.
func (n *Nursery) children() (pids []int) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", n.thread))
	for _, s := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(s); err == nil && runsProgram(s) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// runsProgram reports whether a process runs a nursery's program, or did. One that is about to
// has the file already when it closes what it inherited, and the name a little later; one that
// has ended has only the name.
func runsProgram(pid string) bool {
	file, _ := os.Readlink("/proc/" + pid + "/exe")
	name, _ := os.ReadFile("/proc/" + pid + "/comm")
	return file == programFile || string(name) == programFile[1:]+"\n"
}

// maxTold is how many workers are remembered before those that are gone are forgotten.
const maxTold = 1 << 14

func (n *Nursery) forget() {
	if len(n.told) < maxTold {
		return
	}
	here := n.children()
	maps.DeleteFunc(n.told, func(pid int, _ bool) bool { return !slices.Contains(here, pid) })
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
