package jail

import (
	"bytes"
	"debug/elf"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// attempts are what a process tries once its walls stand: each must end it.
var attempts = map[string]func(){
	"open":     func() { _, _ = unix.Open("/etc/passwd", unix.O_RDONLY, 0) },
	"openat2":  func() { _, _ = unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{}) },
	"socket":   func() { _, _ = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0) },
	"unix":     func() { _, _ = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0) },
	"exec":     func() { _ = unix.Exec("/bin/sh", nil, nil) },
	"fork":     func() { _, _, _ = unix.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0) },
	"clone3":   func() { _, _, _ = unix.Syscall(unix.SYS_CLONE3, 0, 0, 0) },
	"kill":     func() { _ = unix.Kill(1, unix.SIGTERM) },
	"ptrace":   func() { _ = unix.PtraceAttach(1) },
	"unshare":  func() { _ = unix.Unshare(unix.CLONE_NEWUSER) },
	"mount":    func() { _ = unix.Mount("none", "/", "tmpfs", 0, "") },
	"wx":       func() { _, _ = unix.Mmap(-1, 0, 4096, unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE) },
	"io_uring": func() { _, _, _ = unix.Syscall(unix.SYS_IO_URING_SETUP, 1, 0, 0) },
	"memfd":    func() { _, _ = unix.MemfdCreate("x", 0) },
	"uname":    func() { _ = unix.Uname(&unix.Utsname{}) },
	"bpf":      func() { _, _, _ = unix.Syscall(unix.SYS_BPF, 0, 0, 0) },
}

func TestMain(m *testing.M) {
	if worker, ok := strings.CutPrefix(os.Args[0], "jail-nursery-of-"); ok {
		Nurse(worker, "")
		os.Exit(0)
	}
	if os.Args[0] == "jail-keeper-of-keys" {
		os.Exit(keeper())
	}
	if what, ok := strings.CutPrefix(os.Args[0], "jail-test-"); ok {
		name, from, _ := strings.Cut(what, "-")
		walls := Enter(Origin(from))
		for _, w := range walls {
			_, _ = os.Stdout.WriteString(string(w) + "\n")
		}
		if name == "stay" {
			_, _ = io.ReadAll(os.Stdin)
		}
		if try := attempts[name]; try != nil {
			// On another thread than the one that built the walls: they hold for all.
			done := make(chan bool)
			go func() {
				runtime.LockOSThread()
				try()
				close(done)
			}()
			<-done
			_, _ = os.Stdout.WriteString("survived\n")
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func attempt(t *testing.T, name string, namespaces bool) (string, *os.ProcessState) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if name += "-" + string(Bare); namespaces {
		name = strings.TrimSuffix(name, string(Bare)) + string(Alone)
	}
	cmd := Command(os.Args[0], "jail-test-"+name, namespaces, nil)
	if exe, err := Executable(); err == nil {
		cmd.Path = exe
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	err := cmd.Run()
	if namespaces && NoNamespaces(err) {
		t.Skip("this machine gives no namespaces")
	}
	if _, exit := err.(*exec.ExitError); err != nil && !exit {
		t.Fatal(err)
	}
	return out.String(), cmd.ProcessState
}

func TestEveryAttemptEndsTheProcess(t *testing.T) {
	for name := range attempts {
		if name == "clone3" && cgo() {
			continue // it is told that there is none
		}
		for _, namespaces := range []bool{false, true} {
			out, state := attempt(t, name, namespaces)
			if !strings.Contains(out, string(Seccomp)) {
				t.Skip("this machine gives no seccomp")
			}
			status := state.Sys().(syscall.WaitStatus)
			if strings.Contains(out, "survived") || !status.Signaled() || status.Signal() != syscall.SIGSYS {
				t.Errorf("%s, namespaces %t: %v, said %q", name, namespaces, state, out)
			}
		}
	}
}

// keeper is a server that lets nobody trace it, as one that holds keys, and starts a worker.
func keeper() int {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		_, _ = os.Stdout.WriteString(err.Error())
		return 1
	}
	cmd := Command("/proc/self/exe", "jail-test-nothing-"+string(Alone), true, nil)
	cmd.Stdout = os.Stdout
	if err := cmd.Run(); err != nil {
		_, _ = os.Stdout.WriteString(err.Error())
	}
	return 0
}

// TestAKeeperOfKeysHasAllWalls: what a server does for its keys takes no wall from its
// workers when it is an ordinary user's. Root may write all files in /proc.
func TestAKeeperOfKeysHasAllWalls(t *testing.T) {
	want, _ := attempt(t, "nothing", true)
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"jail-keeper-of-keys"}
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != want {
		t.Errorf("%v: said %q, want %q", err, out, want)
	}
}

// TestTheWorkersOfANursery have all walls that one started alone has, and are children
// of who asked for them.
func TestTheWorkersOfANursery(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if interpreted(t) {
		t.Skip("the loader of this program is not in a nursery, which its workers do without")
	}
	alone, _ := attempt(t, "nothing", true)
	alone = strings.TrimSuffix(alone, "survived\n")
	exe, err := Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name := range attempts {
		if name == "clone3" && cgo() {
			continue
		}
		n, err := NewNursery(exe, "jail-nursery-of-jail-test-"+name+"-"+string(Nursed), nil, name > "m") // either way of keeping the program
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			in, theirs, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			p, err := n.Start(in, theirs)
			_ = theirs.Close()
			if err != nil {
				t.Fatal(err)
			}
			out, _ := io.ReadAll(in)
			_ = in.Close()
			state, err := p.Wait()
			if err != nil {
				t.Fatal(err)
			}
			status := state.Sys().(syscall.WaitStatus)
			if string(out) != alone || !status.Signaled() || status.Signal() != syscall.SIGSYS {
				t.Errorf("%s: %v, said %q, alone %q", name, state, out, alone)
			}
		}
		n.Close()
	}
}

func TestWallsThatStand(t *testing.T) {
	out, state := attempt(t, "nothing", false)
	if !state.Success() {
		t.Fatalf("%v: %s", state, out)
	}
	for _, w := range []Wall{Process, NoNewPrivs, Rlimits, Seccomp} {
		if !strings.Contains(out, string(w)+"\n") {
			t.Errorf("%s is missing", w)
		}
	}
	out, state = attempt(t, "nothing", true)
	for _, w := range []Wall{UserNS, PIDNS, NetNS, EmptyRoot, NoCaps} {
		if w == NoCaps && cgo() {
			continue
		}
		if !state.Success() || !strings.Contains(out, string(w)+"\n") {
			t.Errorf("%s is missing: %v", w, state)
		}
	}
}

func TestEnough(t *testing.T) {
	all := Walls(All())
	without := func(gone ...Wall) (ws Walls) {
		for _, w := range all {
			keep := true
			for _, g := range gone {
				keep = keep && w != g
			}
			if keep {
				ws = append(ws, w)
			}
		}
		return ws
	}
	for _, tc := range []struct {
		ws   Walls
		want bool
	}{
		{all, true},
		{without(UserNS, PIDNS, NetNS, IPCNS, UTSNS, EmptyRoot), true},
		{without(Landlock), true},
		{without(Landlock, EmptyRoot), false},
		{without(Seccomp), false},
		{without(NoNewPrivs), false},
		{without(Rlimits), false},
		{Walls{Process}, false},
	} {
		if ok, need := tc.ws.Enough(); ok != tc.want || ok != (need == "") {
			t.Errorf("%v: %t %q", tc.ws, ok, need)
		}
	}
}

// interpreted reports whether this program needs a dynamic linker, as one with cgo does.
func interpreted(t *testing.T) bool {
	t.Helper()
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}

// cgo reports whether this program was built with it: then no call reaches all threads.
func cgo() bool {
	_, _, e := syscall.AllThreadsSyscall(unix.SYS_GETPID, 0, 0, 0)
	return e == syscall.ENOTSUP
}
