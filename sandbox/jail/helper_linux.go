package jail

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// OnThread runs f on a thread that nothing else runs on before it ends, and which ends
// with f. It is never the main thread: that one speaks for the whole process in /proc, so
// that whoever shares its walls could read the process's environment there; and it stays.
func OnThread(f func()) {
	runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
	if unix.Gettid() != unix.Getpid() {
		f()
		return
	}
	other, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		close(other)
		f()
	}()
	<-other // is on another thread for good: this one is held
	runtime.UnlockOSThread()
	<-done
}

// Start starts cmd behind the walls of h. It is called from OnThread, whose function
// stays until the process has ended: the walls are the thread's, which hands them on to
// what it starts, and the kernel ends the process with it. A wall that this machine does
// not give is an error.
func (h Helper) Start(cmd *exec.Cmd) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if h.Files {
		if err := noCapabilities(); err != nil {
			return fmt.Errorf("drop capabilities: %w", err)
		}
		if err := h.confine(cmd.Path); err != nil {
			return fmt.Errorf("this machine's landlock cannot hold its files: %w", err)
		}
	}
	if err := deny(); err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if h.NoNetwork {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWNET
	}
	if err := cmd.Start(); err != nil {
		if h.NoNetwork && NoNamespaces(err) {
			return fmt.Errorf("this machine gives it no network namespace: %w", err)
		}
		return err
	}
	// The process has begun already. It has read nothing yet that anybody else wrote.
	if err := h.bound(cmd.Process.Pid); err != nil {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		_ = cmd.Wait()
		return fmt.Errorf("rlimits: %w", err)
	}
	return nil
}

// noCapabilities leaves what the thread starts none, root's program included: some of
// them read other processes past landlock (CAP_PERFMON opens their environment).
func noCapabilities() error {
	for c := range unix.CAP_LAST_CAP + 1 {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		if errors.Is(err, unix.EPERM) {
			return nil // it has none to hand on
		}
		if err != nil && !errors.Is(err, unix.EINVAL) { // a kernel that does not know this one
			return err
		}
	}
	return nil
}

func (h Helper) bound(pid int) error {
	limits := map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: HelperOpenFiles}
	if h.Memory > 0 {
		limits[unix.RLIMIT_DATA] = uint64(h.Memory)
	}
	for what, n := range limits {
		var have unix.Rlimit
		if err := unix.Prlimit(pid, what, nil, &have); err != nil {
			return err
		}
		n = min(n, have.Max)
		if err := unix.Prlimit(pid, what, &unix.Rlimit{Cur: n, Max: n}, nil); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// systemFiles are what nearly every program reads to begin at all. What /proc tells of
// other processes than itself are names and numbers: memory, environment and files of a
// process outside are closed to one behind landlock, which may not trace it.
func systemFiles() []string {
	return []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d",
		"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/localtime", "/etc/alternatives",
		"/dev/urandom", "/dev/random", "/dev/zero", "/proc", "/sys/fs/cgroup", "/sys/kernel/mm/transparent_hugepage"}
}

// What may be done with files. Rights of a later kernel are left out on an earlier one.
const (
	readFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE
	readAll  = readFile | unix.LANDLOCK_ACCESS_FS_READ_DIR
	allFiles = 1<<13 - 1
	fileOnly = readFile | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
)

// confine puts the calling thread behind landlock.
func (h Helper) confine(program string) error {
	abi, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if e != 0 {
		return e
	}
	handled := uint64(allFiles)
	if abi >= 2 {
		handled |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		handled |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	attr := struct{ fs uint64 }{handled}
	fd, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if e != 0 {
		return e
	}
	defer unix.Close(int(fd))
	for _, path := range append(systemFiles(), program) {
		if err := allow(int(fd), path, readAll&handled); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for _, path := range h.Read {
		if err := allow(int(fd), path, readAll&handled); err != nil {
			return err
		}
	}
	for _, path := range append([]string{"/dev/null"}, h.Write...) {
		if err := allow(int(fd), path, handled&^unix.LANDLOCK_ACCESS_FS_EXECUTE); err != nil {
			return err
		}
	}
	if _, _, e := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); e != 0 {
		return e
	}
	return nil
}

// allow gives rights to what is at path and below it.
func allow(ruleset int, path string, rights uint64) error {
	at, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= fileOnly
	}
	// The kernel's structure is packed: 8 bytes of rights, 4 of descriptor.
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(at)}
	if _, _, e := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); e != 0 {
		return &os.PathError{Op: "allow", Path: path, Err: e}
	}
	return nil
}
