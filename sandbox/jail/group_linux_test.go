package jail

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhereAGroupIsMade(t *testing.T) {
	const v1 = "36 25 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
	const v2 = "40 25 0:35 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n"
	for _, tc := range []struct {
		name, own, mounts, dir string
		version                int
	}{
		{"version 1", "4:memory:/a/b\n0::/x\n", v1, "/sys/fs/cgroup/memory/a/b", 1},
		{"version 1 in a container", "4:memory:/box/a\n", "36 25 0:31 /box /cg rw - cgroup cgroup rw,cpu,memory\n", "/cg/a", 1},
		{"controllers together", "4:cpu,memory:/a\n", "36 25 0:31 / /cg rw - cgroup cgroup rw,cpu,memory\n", "/cg/a", 1},
		{"version 2 first, without memory", "4:memory:/a\n0::/user.slice/a.scope\n", v2 + v1, "/sys/fs/cgroup/memory/a", 1},
		{"version 2", "0::/user.slice/app.slice/a.scope\n", v2, "/sys/fs/cgroup/user.slice/app.slice/a.scope", 2},
		{"version 2, topmost", "0::/\n", v2, "", 0},
		{"outside what is mounted", "4:memory:/other\n", "36 25 0:31 /box /cg rw - cgroup cgroup rw,memory\n", "", 0},
		{"above a container", "0::/../a\n", v2, "", 0},
		{"another controller", "4:cpu:/a\n", "36 25 0:31 / /cg rw - cgroup cgroup rw,cpu\n", "", 0},
		{"nothing", "", "", "", 0},
		{"torn", "4:memory\n:::\n", "36 - cgroup\n - \n", "", 0},
	} {
		version, dir, err := groupPlace(tc.own, tc.mounts)
		if version != tc.version || dir != tc.dir || (err == nil) != (tc.version > 0) {
			t.Errorf("%s: version %d, %q, %v", tc.name, version, dir, err)
		}
	}
}

// TestNoWorkerLeavesALimit: what the operator allows a service holds its workers, too.
func TestNoWorkerLeavesALimit(t *testing.T) {
	for _, tc := range []struct{ file, text, want string }{
		{"memory.max", "max\n", ""}, {"memory.max", "536870912\n", "memory.max"}, {"memory.high", "1\n", "memory.high"},
		{"cpu.max", "max 100000\n", ""}, {"cpu.max", "50000 100000\n", "cpu.max"},
		{"cpuset.cpus", "\n", ""}, {"cpuset.cpus", "0-1\n", "cpuset.cpus"}, {"pids.max", "100\n", ""},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, tc.file), []byte(tc.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := bounded(dir); got != tc.want {
			t.Errorf("%s %q: %q, want %q", tc.file, tc.text, got, tc.want)
		}
	}
}

func FuzzGroupPlace(f *testing.F) {
	f.Add("4:memory:/a/b\n0::/x\n", "36 25 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n")
	f.Add("0::/a/b\n", "40 25 0:35 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n")
	f.Fuzz(func(t *testing.T, own, mounts string) {
		if version, dir, err := groupPlace(own, mounts); (err == nil) != (version > 0 && dir != "") {
			t.Errorf("%d %q %v", version, dir, err)
		}
	})
}

// TestAGroupHoldsWhatBeginsInIt needs a machine that gives one.
func TestAGroupHoldsWhatBeginsInIt(t *testing.T) {
	const limit = 512 << 20
	g, err := NewGroup(limit)
	if err != nil {
		t.Skip(err)
	}
	defer g.Close()
	dir := filepath.Dir(g.dir)
	// What a server that was killed leaves: nobody has that number and birth.
	stale := filepath.Join(dir, groupName+"1-0-0")
	if err := os.Mkdir(stale, 0o755); err != nil {
		t.Fatal(err)
	}
	second, err := NewGroup(limit)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); err == nil {
		t.Error("the group of a server that is gone is still there")
		os.Remove(stale)
	}
	if _, err := os.Stat(g.dir); err != nil {
		t.Errorf("the group of a server that lives: %v", err)
	}
	second.Close()
	if _, err := os.Stat(second.dir); err == nil {
		t.Error("a closed group is still there")
	}
	done := make(chan error)
	go OnThread(func() {
		if err := g.Enter(); err != nil {
			done <- err
			return
		}
		cmd := Command("/bin/cat", "cat", false, g)
		cmd.Args = []string{"cat", "/proc/self/cgroup"}
		out, err := cmd.Output()
		if !strings.Contains(string(out), filepath.Base(g.dir)) {
			t.Errorf("a process begins in %s", out)
		}
		done <- err
	})
	if err := <-done; err != nil {
		t.Error(err)
	}
	own, _ := os.ReadFile("/proc/self/cgroup")
	if strings.Contains(string(own), groupName) {
		t.Errorf("this process is in the group itself: %s", own)
	}
}

// TestTheLeastLimitCounts of a group and those above it, of either version.
func TestTheLeastLimitCounts(t *testing.T) {
	top := t.TempDir()
	mid := filepath.Join(top, "mid")
	own := filepath.Join(mid, "own")
	if err := os.MkdirAll(own, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		file, text string
		want       int64
	}{
		{own + "/cgroup.procs", "", 1 << 40},
		{own + "/memory.max", "max\n", 1 << 40},
		{top + "/memory.limit_in_bytes", "9223372036854771712\n", 1 << 40},
		{mid + "/memory.max", "900\n", 900},
		{own + "/memory.max", "1000\n", 900},
		{own + "/memory.high", "800\n", 800},
		{top + "/memory.limit_in_bytes", "700\n", 700},
	} {
		if err := os.WriteFile(step.file, []byte(step.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := leastLimit(own, 1<<40); got != step.want {
			t.Errorf("after %s is %q: %d, want %d", step.file, step.text, got, step.want)
		}
	}
}
