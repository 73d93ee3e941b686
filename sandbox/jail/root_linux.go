package jail

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// idsName is the variable that tells a process in a new user namespace who started it, as
// user and group on the machine: the process itself can no longer find out.
const idsName = "ENCLAVE_IDS"

// rootCaps are the capabilities that a process in a new user namespace keeps when it
// executes, before it has made itself the root there: to do so, and to build its walls.
var rootCaps = []uintptr{unix.CAP_SETGID, unix.CAP_SETUID, unix.CAP_SETPCAP, unix.CAP_SYS_CHROOT, unix.CAP_SYS_ADMIN}

// becomeRoot makes whoever started this process the root of its new user namespace, who
// owns the files that it makes (user_namespaces(7)). The process does so itself: its parent
// holds keys and lets nobody of the same user trace it, so that until a child executes, the
// child's files in /proc are the machine's root's alone, for the parent too. Decision 0214.
func becomeRoot() error {
	uid, gid, ok := strings.Cut(os.Getenv(idsName), ":")
	if !ok {
		return errors.New("become root: nobody said of whom")
	}
	for _, f := range []struct{ name, text string }{{"setgroups", "deny"}, {"uid_map", "0 " + uid + " 1"}, {"gid_map", "0 " + gid + " 1"}} {
		if err := write("/proc/self/"+f.name, f.text); err != nil {
			return fmt.Errorf("become root: %s: %w", f.name, err)
		}
	}
	return nil
}

// noMoreCaps bounds what the calling thread starts to the capabilities that it has itself:
// the root of a namespace is given all when he executes, and the kernel forgets to
// end with its parent whoever is given more than he had (pr_set_pdeathsig(2const)).
func noMoreCaps() error {
	for c := uintptr(0); c < 64; c++ {
		if slices.Contains(rootCaps, c) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err == unix.EINVAL { // the kernel knows no more
			return nil
		} else if err != nil {
			return fmt.Errorf("bound capabilities: %w", err)
		}
	}
	return nil
}

// write writes a file as its system calls do: os.WriteFile would wake the runtime's poller.
func write(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(text))
	return errors.Join(err, unix.Close(fd))
}
