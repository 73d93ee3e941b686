package jail

import (
	"debug/elf"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// TestOnlyWhatIsMappedIsCopied reads this program's own file.
func TestOnlyWhatIsMappedIsCopied(t *testing.T) {
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := uint64(0)
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			want = max(want, p.Off+p.Filesz)
		}
	}
	if got, err := mapped(headOf(t)); err != nil || got != int64(want) {
		t.Errorf("%d, %v; want %d", got, err, want)
	}
}

func headOf(t testing.TB) []byte {
	t.Helper()
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	head := make([]byte, 4096)
	if _, err := io.ReadFull(f, head); err != nil {
		t.Fatal(err)
	}
	return head
}

func FuzzMapped(f *testing.F) {
	head := headOf(f)
	f.Add(head)
	f.Add(head[:64])
	f.Add([]byte("\x7fELF\x02\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if end, err := mapped(b); err == nil && (end <= 0 || end > maxProgram) {
			t.Errorf("maps %d bytes", end)
		}
	})
}

// TestAWorkerMapsLargePages looks at a worker of a nursery that was asked for them. It
// waits for its walls on a pipe that nobody reads.
func TestAWorkerMapsLargePages(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if interpreted(t) {
		t.Skip("the loader of this program is not in a nursery")
	}
	modes, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
	if err != nil || strings.Contains(string(modes), "[deny]") {
		t.Skip("this machine gives files in memory no large pages")
	}
	refused := refusedLargePages()
	exe, err := Executable()
	if err != nil {
		t.Fatal(err)
	}
	n, err := NewNursery(exe, "jail-nursery-of-jail-test-stay-"+string(Nursed), nil, true)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	in, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	theirIn, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close() // then the worker ends
	p, err := n.Start(theirIn, theirs)
	_, _ = theirIn.Close(), theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Kill(); _, _ = p.Wait() }()
	_, _ = in.Read(make([]byte, 1)) // its walls stand
	_ = in.Close()
	smaps, err := os.ReadFile("/proc/" + strconv.Itoa(p.Pid) + "/smaps_rollup")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(smaps)) {
		if f := strings.Fields(line); len(f) > 1 && (f[0] == "ShmemPmdMapped:" || f[0] == "FilePmdMapped:") && f[1] != "0" {
			return
		}
	}
	if refusedLargePages() != refused {
		t.Skip("the machine's memory is in too small pieces")
	}
	t.Errorf("it maps none:\n%s", smaps)
}

// refusedLargePages is how often files in memory had to do with small pages, "" if that is
// not known (proc_vmstat(5)).
func refusedLargePages() string {
	text, _ := os.ReadFile("/proc/vmstat")
	_, after, _ := strings.Cut(string(text), "\nthp_file_fallback ")
	count, _, _ := strings.Cut(after, "\n")
	return count
}
