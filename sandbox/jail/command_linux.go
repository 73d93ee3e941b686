package jail

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command returns a command that starts the program at path as name: no arguments, no
// environment but a word to Go's runtime and one to itself, killed when the thread that
// starts it ends (start it from a locked one), and in new namespaces if asked. Where the
// kernel gives no namespaces, starting it fails (NoNamespaces). It begins in the group, if
// there is one.
func Command(path, name string, namespaces bool, g *Group) *exec.Cmd {
	if !namespaces {
		return command(path, name, 0, g)
	}
	return command(path, name, sharedFlags|ownFlags, g)
}

func command(path, name string, namespaces uintptr, g *Group) *exec.Cmd {
	cmd := &exec.Cmd{Path: path, Args: []string{name}, Env: environment(), Dir: "/"}
	// A group of its own keeps the terminal's Ctrl-C away; a session of its own would
	// also give it a scheduling group, in which giving way to others means nothing.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: namespaces}
	g.attr(cmd.SysProcAttr)
	if namespaces != 0 {
		cmd.Env = append(cmd.Env, idsName+"="+strconv.Itoa(os.Getuid())+":"+strconv.Itoa(os.Getgid()))
		cmd.SysProcAttr.AmbientCaps = rootCaps
	}
	return cmd
}

// environment is all that a worker has of one: it runs Go on one thread at a time. A
// second one would help a script only to collect its garbage beside itself, at the
// expense of everybody else's, and costs each start and each call of a tool.
func environment() []string { return []string{"GOMAXPROCS=1"} }

// NoNamespaces reports whether err says that this machine gives no namespaces to
// whom asks, rather than that something else went wrong.
func NoNamespaces(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)
}

// Bound puts the hard limits of a run on the process: memory bytes beyond what it has
// mapped now, and seconds of processor time beyond what it has used.
func Bound(pid int, memory int64, seconds uint64) error {
	mapped, err := dataOf(pid)
	if err != nil {
		return err
	}
	data := uint64(mapped + memory)
	if err := unix.Prlimit(pid, unix.RLIMIT_DATA, &unix.Rlimit{Cur: data, Max: data}, nil); err != nil {
		return err
	}
	if seconds == 0 {
		return nil
	}
	return unix.Prlimit(pid, unix.RLIMIT_CPU, &unix.Rlimit{Cur: seconds, Max: seconds}, nil)
}

// dataOf reads how much private writable memory the process has mapped, which is
// what RLIMIT_DATA counts.
func dataOf(pid int) (int64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b))
	if len(f) < 6 {
		return 0, errors.New("statm: too short")
	}
	pages, err := strconv.ParseInt(f[5], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// MachineMemory is all memory of the machine in bytes, or what this process's cgroup may
// have of it; 0 if that is not known.
func MachineMemory() int64 {
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) != nil {
		return 0
	}
	return leastLimit(ownGroup(), int64(uint64(si.Totalram)*uint64(si.Unit)))
}

// Resident is the memory of the process in bytes, 0 if it is gone.
func Resident(pid int) int64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// Used is the processor time that a process has used, all threads together; 0 if it is
// gone.
func Used(pid int) time.Duration {
	var ts unix.Timespec
	// The clock of another process: clock_getcpuclockid(3).
	if unix.ClockGettime(int32(^pid)<<3|2, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
