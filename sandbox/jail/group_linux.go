package jail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Group is a memory cgroup that holds all workers of a pool, and their nurseries: what
// they have together, of the kernel's memory too, stays within its limit. Whoever goes
// beyond is killed, the largest first. It is a wall around all of them, for the machine's
// sake; each worker has its own in RLIMIT_DATA. Decision 0178.
type Group struct {
	dir     string
	version int
	at      *os.File // of version 2: where to clone into
}

// groupName begins the name of every group; what follows is whose it is.
const groupName = "enclave-sandbox-"

// NewGroup makes a group with a limit in bytes, below this process's own (version 1) or
// beside it (version 2, where that is delegated and takes it out of no limit), and removes
// those that ended servers left there. An error says why this machine gives none.
func NewGroup(limit int64) (*Group, error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("memory cgroup: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("memory cgroup: %w", err)
	}
	version, dir, err := groupPlace(string(own), string(mounts))
	if err != nil {
		return nil, fmt.Errorf("memory cgroup: %w", err)
	}
	if version == 2 {
		if what := bounded(dir); what != "" { // by the operator, for all that the server does
			return nil, fmt.Errorf("memory cgroup: %s of this process's own group has a limit, which workers beside it would leave", what)
		}
		dir = filepath.Dir(dir)
		if on, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control")); err != nil || !strings.Contains(" "+strings.TrimSpace(string(on))+" ", " memory ") {
			return nil, errors.New("memory cgroup: the memory controller is not delegated to here")
		}
	}
	return newGroup(version, dir, limit)
}

// bounded returns which limit of memory or processors a group of version 2 has, "" if none.
func bounded(dir string) string {
	for _, file := range []string{"memory.max", "memory.high", "cpu.max", "cpuset.cpus"} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if f := strings.Fields(string(b)); err == nil && len(f) > 0 && f[0] != "max" {
			return file
		}
	}
	return ""
}

// groupPlace finds the directory of this process's own group, by what /proc says: one of
// version 1, or one of version 2 that is not the topmost.
func groupPlace(own, mounts string) (version int, dir string, err error) {
	paths := map[string]string{} // of this process, by controller; "" is version 2
	for line := range strings.Lines(own) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 {
			for _, c := range strings.Split(f[1], ",") {
				paths[c] = f[2]
			}
		}
	}
	second := "" // of version 2, which stands beside version 1 on some machines and then holds no memory
	err = errors.New("no hierarchy for it is mounted")
	for line := range strings.Lines(mounts) {
		// 36 35 98:0 /root /mount options - type source options: proc(5)
		before, after, _ := strings.Cut(strings.TrimSpace(line), " - ")
		f, t := strings.Fields(before), strings.Fields(after)
		if len(f) < 5 || len(t) < 3 {
			continue
		}
		v1 := t[0] == "cgroup" && strings.Contains(","+t[2]+",", ",memory,")
		if !v1 && t[0] != "cgroup2" {
			continue
		}
		path, known := paths[map[bool]string{true: "memory"}[v1]]
		below, inside := strings.CutPrefix(path, strings.TrimSuffix(f[3], "/"))
		if !known || !inside || strings.Contains(path, "..") {
			continue
		}
		dir := filepath.Join(f[4], below)
		if v1 {
			return 1, dir, nil
		}
		if below == "" || below == "/" { // its own group is full of processes, and there is none above
			err = errors.New("this process is in the topmost group")
			continue
		}
		second = dir
	}
	if second != "" {
		return 2, second, nil
	}
	return 0, "", err
}

// ownGroup is the directory of this process's own group, the usual one where it is the topmost
// that it sees, as in a container.
func ownGroup() string {
	own, err := os.ReadFile("/proc/self/cgroup")
	mounts, err2 := os.ReadFile("/proc/self/mountinfo")
	if _, dir, err3 := groupPlace(string(own), string(mounts)); errors.Join(err, err2, err3) == nil {
		return dir
	}
	return "/sys/fs/cgroup"
}

// leastLimit is the least limit of memory that a group or one above it has, at most most bytes.
func leastLimit(dir string, most int64) int64 {
	for ; len(dir) > 1; dir = filepath.Dir(dir) {
		for _, file := range []string{"memory.max", "memory.high", "memory.limit_in_bytes"} {
			b, err := os.ReadFile(filepath.Join(dir, file))
			if n, bad := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && bad == nil && n > 0 {
				most = min(most, n)
			}
		}
	}
	return most
}

func newGroup(version int, dir string, limit int64) (*Group, error) {
	sweepGroups(dir)
	me := groupName + strconv.Itoa(os.Getpid()) + "-" + born(os.Getpid()) + "-"
	g := &Group{version: version}
	for n := 0; ; n++ { // a process may have several pools
		g.dir = filepath.Join(dir, me+strconv.Itoa(n))
		err := os.Mkdir(g.dir, 0o755)
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrExist) || n == maxGroups {
			return nil, fmt.Errorf("memory cgroup: %w", err)
		}
	}
	max, swap := "memory.max", "memory.swap.max"
	none := "0"
	if version == 1 {
		max, swap = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
		none = strconv.FormatInt(limit, 10)
	}
	err := g.write(max, strconv.FormatInt(limit, 10))
	_ = g.write(swap, none) // not every kernel counts it
	if err == nil && version == 2 {
		g.at, err = os.Open(g.dir)
	}
	if err != nil {
		g.Close()
		return nil, fmt.Errorf("memory cgroup: %w", err)
	}
	return g, nil
}

// maxGroups is how many pools of one process have a group.
const maxGroups = 64

func (g *Group) write(file, text string) error {
	return os.WriteFile(filepath.Join(g.dir, file), []byte(text), 0)
}

// Version is that of the cgroup hierarchy; 0 is no group.
func (g *Group) Version() int {
	if g == nil {
		return 0
	}
	return g.version
}

// Enter makes what the calling thread starts from now on begin in the group (version 1).
// The thread is locked. Moving a process later would wait until all processors have
// noticed, once a worker.
func (g *Group) Enter() error {
	if g.Version() != 1 {
		return nil
	}
	return g.write("tasks", "0")
}

// attr makes a command begin in the group (version 2).
func (g *Group) attr(a *syscall.SysProcAttr) {
	if g.Version() == 2 {
		a.UseCgroupFD, a.CgroupFD = true, int(g.at.Fd())
	}
}

// Close removes the group. All that was in it has ended, if perhaps only just.
func (g *Group) Close() {
	if g == nil {
		return
	}
	if g.at != nil {
		_ = g.at.Close()
	}
	for range 50 {
		if err := os.Remove(g.dir); !errors.Is(err, unix.EBUSY) {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// sweepGroups removes groups of servers that are gone and could not do it themselves.
func sweepGroups(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, groupName+"*"))
	for _, one := range left {
		f := strings.Split(strings.TrimPrefix(filepath.Base(one), groupName), "-")
		if pid, err := strconv.Atoi(f[0]); len(f) == 3 && err == nil && born(pid) != f[1] {
			_ = os.Remove(one) // only an empty one goes
		}
	}
}

// born says when a process began, in ticks since the machine did; "" if it is gone.
func born(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	_, after, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	if f := strings.Fields(after); len(f) > 19 {
		return f[19]
	}
	return ""
}
