package jail

import (
	"errors"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// allowed is all that a Go process needs to compute, to read and write descriptors
// that are open, and to end. There is no open, no socket, no exec, no way to make a
// descriptor, to look at files, to signal or trace others, or to learn about the
// machine. Those with conditions are in program.
var allowed = []uint32{
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_CLOSE,
	unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_NANOSLEEP, unix.SYS_EPOLL_PWAIT,
	unix.SYS_MUNMAP, unix.SYS_MADVISE,
	unix.SYS_RT_SIGRETURN, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGACTION, unix.SYS_SIGALTSTACK,
	unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_CLOCK_GETTIME, unix.SYS_GETRUSAGE, unix.SYS_GETRANDOM,
	unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_RESTART_SYSCALL,
}

// Offsets in struct seccomp_data; arguments are read by their low half, which on both
// supported machines comes first.
const (
	offNumber = 0
	offArch   = 4
	offArg0   = 16
	offArg2   = 32
)

// threadFlags is how the Go runtime clones a thread (runtime/os_linux.go; amd64 adds
// CLONE_SETTLS); anything else would be a process.
const threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD

// pthreadFlags is how a C library clones a thread (glibc and musl), for programs built
// with cgo.
const pthreadFlags = threadFlags | unix.CLONE_SETTLS | unix.CLONE_PARENT_SETTID | unix.CLONE_CHILD_CLEARTID

// program writes the list for the process pid. The C library of a program built with
// cgo starts threads with calls of its own: it gets those that make nothing but memory
// and threads. It is told that there is no clone3, whose flags cannot be read here, and
// falls back to clone.
func program(pid int, cgo bool) ([]unix.SockFilter, error) {
	var arch uint32
	switch runtime.GOARCH {
	case "amd64":
		arch = unix.AUDIT_ARCH_X86_64
	case "arm64":
		arch = unix.AUDIT_ARCH_AARCH64
	default:
		return nil, errors.New("seccomp: no list of system calls for " + runtime.GOARCH)
	}
	const kill, allow = unix.SECCOMP_RET_KILL_PROCESS, unix.SECCOMP_RET_ALLOW
	refuse := uint32(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
	load := func(off uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
	}
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	jump := func(op uint16, k uint32, t, f uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: t, Jf: f, K: k}
	}
	p := []unix.SockFilter{
		load(offArch), jump(unix.BPF_JEQ, arch, 1, 0), ret(kill),
		// The x32 calls share the architecture and have numbers of their own from here on:
		// none of them is in the list.
		load(offNumber),
	}
	list := allowed
	if cgo {
		list = append(slices.Clip(list), unix.SYS_BRK, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ)
		p = append(p, jump(unix.BPF_JEQ, unix.SYS_CLONE3, 0, 1), ret(unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)))
	}
	for _, nr := range list {
		p = append(p, jump(unix.BPF_JEQ, nr, 0, 1), ret(allow))
	}
	// when(nr, off, test) allows nr if the argument at off passes, else kills.
	when := func(nr, off uint32, test unix.SockFilter) {
		p = append(p, jump(unix.BPF_JEQ, nr, 0, 4), load(off), test, ret(kill), ret(allow))
	}
	noExec := jump(unix.BPF_JSET, unix.PROT_EXEC, 0, 1)
	when(unix.SYS_MMAP, offArg2, noExec)
	when(unix.SYS_MPROTECT, offArg2, noExec)
	p = append(p, jump(unix.BPF_JEQ, unix.SYS_CLONE, 0, 6), load(offArg0),
		jump(unix.BPF_JEQ, threadFlags, 3, 0), jump(unix.BPF_JEQ, threadFlags|unix.CLONE_SETTLS, 2, 0),
		jump(unix.BPF_JEQ, pthreadFlags, 1, 0), ret(kill), ret(allow))
	// The runtime stops its own threads with a signal; nobody else is to hear one.
	when(unix.SYS_TGKILL, offArg0, jump(unix.BPF_JEQ, uint32(pid), 1, 0))
	// The runtime names its mappings and takes no for an answer.
	p = append(p, jump(unix.BPF_JEQ, unix.SYS_PRCTL, 0, 1), ret(refuse), ret(kill))
	return p, nil
}

// seccomp puts the list on every thread of the process, for good. cgo says whether the
// program was built with it.
func seccomp(cgo bool) error {
	p, err := program(unix.Getpid(), cgo)
	if err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	tid, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(p)
	if e != 0 {
		return e
	}
	if tid != 0 {
		return errors.New("seccomp: a thread could not be brought under the list")
	}
	return nil
}
