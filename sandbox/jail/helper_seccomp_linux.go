package jail

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// denied are system calls that no program which serves tools needs: they look into or
// change other programs, the kernel, or the machine as a whole, or have often been the
// way out of a sandbox. They fail with EPERM, as for a user who may not. Namespaces and
// mounts stay: browsers build their own sandbox of them, and they give nothing without
// the capabilities of the machine.
func denied() []uint32 {
	return []uint32{
		unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_KCMP, unix.SYS_PIDFD_GETFD,
		unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
		unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
		unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_SETNS,
		unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_REBOOT, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_SYSLOG, unix.SYS_VHANGUP,
		unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	}
}

// deny puts that list on the calling thread and what it starts, for good; the thread has
// no_new_privs. Programs of another architecture than this one's are ended: their numbers
// mean other calls.
func deny() error {
	arch := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if arch == 0 {
		return nil // no list is known for this machine, which is documented
	}
	const x32 = 0x40000000 // the numbers of amd64's other calling convention begin here
	refuse := uint32(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	jump := func(op uint16, k uint32, t, f uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: t, Jf: f, K: k}
	}
	p := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offArch}, jump(unix.BPF_JEQ, arch, 1, 0), ret(unix.SECCOMP_RET_KILL_PROCESS),
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offNumber}, jump(unix.BPF_JGE, x32, 0, 1), ret(refuse),
	}
	for _, nr := range denied() {
		p = append(p, jump(unix.BPF_JEQ, nr, 0, 1), ret(refuse))
	}
	p = append(p, ret(unix.SECCOMP_RET_ALLOW))
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(p)
	if e != 0 && e != unix.ENOSYS && e != unix.EINVAL { // a kernel without it
		return e
	}
	return nil
}
