package jail

import (
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Enter builds the walls that the process can build around itself, and returns all
// that stand. from says how the process was started.
// It must be called once, early: before any goroutine holds a file open that the
// process still needs, other than the standard three.
func Enter(from Origin) Walls {
	// The clock of the runtime waits in epoll and makes its descriptors with the first
	// timer; the count of cores is read from files until it is set by hand. Both would
	// come too late later.
	time.AfterFunc(time.Hour, func() {}).Stop()
	if runtime.GOMAXPROCS(0) != 1 {
		runtime.GOMAXPROCS(1)
	}
	debug.SetTraceback("none")

	walls := Walls{Process}
	if from == Alone {
		_ = becomeRoot() // without it, no empty root
	}
	if from != Bare {
		walls = append(walls, UserNS, PIDNS, NetNS, IPCNS, UTSNS)
		empty := emptyRoot
		if from == Nursed {
			empty = emptyPlace
		}
		if empty() == nil {
			walls = append(walls, EmptyRoot)
		}
	}
	// A program built with cgo has no call that reaches all of its threads. It does
	// without the two walls that need one.
	if from == Bare { // in its own, the process may do what follows without
		_, _, _ = syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0)
	}
	if landlock() == nil {
		walls = append(walls, Landlock)
	}
	caps := dropCaps()
	if caps == nil {
		walls = append(walls, NoCaps)
	}
	cgo := caps == unix.ENOTSUP
	if rlimits() == nil {
		walls = append(walls, Rlimits)
	}
	// no_new_privs goes to every thread with the list of system calls, which is refused
	// to a thread that lacks it: should this goroutine change threads in between, which
	// is rarer than a thread bound to it is dear, both are done again.
	for range 10 {
		if unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == nil && seccomp(cgo) == nil {
			return append(walls, NoNewPrivs, Seccomp)
		}
	}
	return walls
}

// emptyRoot makes an empty directory in memory the root of the file system, and lets
// go of the old one.
func emptyRoot() error {
	return newRoot(unix.MS_NOEXEC, "size=4k,nr_inodes=2,mode=0500", func() error { return nil })
}

// newRoot makes a directory in memory the root of the file system after fill has put
// into it, read-only, what is to be there, and lets go of the old one. more is added to the
// flags of the mount.
func newRoot(more uintptr, options string, fill func() error) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	flags := unix.MS_NOSUID | unix.MS_NODEV | more
	if err := unix.Mount("none", "/proc", "tmpfs", flags, options); err != nil {
		return err
	}
	if err := unix.Chdir("/proc"); err != nil {
		return err
	}
	if err := fill(); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	// "." is the new root with the old one stacked on top of it: the old one goes.
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	return unix.Mount("none", "/", "", flags|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

// emptyPlace shuts a worker of a nursery into the empty directory there: with no
// capability and no descriptor of a directory, it has no way out, and what it would find
// is the program that it is.
func emptyPlace() error {
	if err := unix.Chroot(emptyDir); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// dropCaps empties the capability sets of every thread. The bounding set needs no
// call of its own: without exec there is nothing it bounds.
func dropCaps() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	_, _, e := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data[0])), 0)
	runtime.KeepAlive(&hdr)
	runtime.KeepAlive(&data)
	if e != 0 {
		return e
	}
	return nil
}

// landlock handles every right this kernel knows and allows none of them.
func landlock() error {
	abi, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if e != 0 {
		return e
	}
	attr := struct{ fs, net, scoped uint64 }{fs: 1<<13 - 1}
	size := uintptr(8)
	for _, right := range []struct {
		abi uintptr
		bit uint64
	}{{2, unix.LANDLOCK_ACCESS_FS_REFER}, {3, unix.LANDLOCK_ACCESS_FS_TRUNCATE}, {5, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV}} {
		if abi >= right.abi {
			attr.fs |= right.bit
		}
	}
	if abi >= 4 {
		attr.net, size = unix.LANDLOCK_ACCESS_NET_BIND_TCP|unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, 16
	}
	if abi >= 6 {
		attr.scoped, size = 3, 24 // abstract unix sockets, signals
	}
	fd, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if e != 0 {
		return e
	}
	defer unix.Close(int(fd))
	if _, _, e := syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); e != 0 {
		return e
	}
	return nil
}

// rlimits bound what a process may take. RLIMIT_DATA is set by the parent at each
// run, whose memory limit it follows (Bound); RLIMIT_AS says nothing useful about a
// Go process, which reserves far more than it maps.
func rlimits() error {
	zero := unix.Rlimit{}
	for _, r := range []int{unix.RLIMIT_CORE, unix.RLIMIT_FSIZE, unix.RLIMIT_NOFILE, unix.RLIMIT_MEMLOCK, unix.RLIMIT_MSGQUEUE} {
		if err := unix.Setrlimit(r, &zero); err != nil {
			return err
		}
	}
	return nil
}

// CPU is the processor time that this process has used.
func CPU() time.Duration {
	var ru unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &ru) != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// Executable names the program that runs now, even if its file has been replaced.
func Executable() (string, error) {
	if _, err := os.Stat("/proc/self/exe"); err == nil {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}
