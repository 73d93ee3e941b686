package lean

import (
	"net/http"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// TestAWorkerLacksNothing holds the list to what a worker really is made of.
func TestAWorkerLacksNothing(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "enclave/sandbox/pool").Output()
	if err != nil {
		t.Skipf("no go command: %v", err)
	}
	profiler := []string{"github.com/google/pprof/profile", "compress/flate", "compress/gzip", "hash/crc32"} // what the interpreter has them for
	for path := range strings.Lines(string(out)) {
		if path = strings.TrimSpace(path); slices.Contains(profiler, path) {
			continue
		}
		if !Needed(path) || !Needed(path+".init.0") {
			t.Errorf("a worker imports %s, which is not initialised in it", path)
		}
	}
	for _, path := range []string{"enclave/control/policy.init", "enclave/wire.init", "github.com/prometheus/procfs.init", "gvisor.dev/gvisor/pkg/tcpip.init", "modernc.org/libc.init",
		"net.init", "net/http.init", "crypto/tls.init", "crypto.init", "vendor/golang.org/x/sys/cpu.init", "golang.org/x/sys/cpu.init", "github.com/google/pprof/profile.init"} {
		if Needed(path) {
			t.Errorf("a worker initialises %s", path)
		}
	}
}

func TestWhatIsNoListIsLeftAlone(t *testing.T) {
	all := func(uintptr) bool { return true }
	list := func(states ...uint32) (l []*task) {
		for _, s := range states {
			l = append(l, &task{state: s, functions: 1})
		}
		return l
	}
	if got := runningOf(list(2, 2, 1, 0, 0), all); got != 2 {
		t.Errorf("the running one is %d, want 2", got)
	}
	for _, l := range [][]*task{list(2, 2, 0), list(0, 1), list(2, 1, 2), list(2, 1, 1), list(2, 1, 7), list(2, 2, 2), {{state: 1}}} {
		if got := runningOf(l, all); got >= 0 {
			t.Errorf("%v passes for a list of tasks", l)
		}
	}
	if runningOf(list(2, 1, 0), func(p uintptr) bool { return p == uintptr(unsafe.Pointer(nil)) }) >= 0 {
		t.Error("tasks outside of the program's data pass")
	}
	if remaining() != nil {
		t.Error("after the program was initialised something remains")
	}
}

func TestWhatANurserySays(t *testing.T) {
	for said, want := range map[string]string{"ENCLAVE_SKIP=0110": "0110", "ENCLAVE_SKIP=": "", "ENCLAVE_SKIP=01100": "-", "ENCLAVE_SKIP=0122": "0122", "ENCLAVE_SKIP=3": "-", "ENCLAVE_SKIP=/": "-", "ENCLAVE_SKIP=0x": "-", "ENCLAVE_SKI=01": "-"} {
		marks, ok := marksOf([]string{"GOMAXPROCS=1", said}, 4)
		if got := string(marks); ok != (want != "-") || (ok && got != want) {
			t.Errorf("%s: %q, %t", said, got, ok)
		}
	}
	if Word() != "" {
		t.Errorf("a test, which is no worker, has %q to say", Word())
	}
	own := &task{first: funcOf(TestWhatANurserySays)}
	if got := string(judge([]*task{own, own})); got != "00" {
		t.Errorf("judged %q of what a worker needs", got)
	}
	if got := string(judge([]*task{{first: funcOf(exec.Command)}, {first: funcOf(http.Get)}})); got != "01" {
		t.Errorf("judged %q", got)
	}
}

var called []int

func initA() { called = append(called, 1) }
func initB() { called = append(called, 2) }

// TestAPartIsInitialisedOnce, in order, as the runtime would have.
func TestAPartIsInitialisedOnce(t *testing.T) {
	called = nil
	one := &struct {
		task
		second uintptr
	}{task{done, 2, funcOf(initA)}, funcOf(initB)}
	later[Language] = []*task{&one.task, {done, 1, funcOf(initA)}}
	Initialise(Language)
	Initialise(Language)
	Initialise(Language)
	if !slices.Equal(called, []int{1, 2, 1}) {
		t.Errorf("called %v", called)
	}
}

func funcOf(f any) uintptr { return reflect.ValueOf(f).Pointer() }

// found is what remaining finds while this package is initialised, in a test that has
// many packages to come.
var found = len(remaining())

func TestTheListIsFound(t *testing.T) {
	if found == 0 && !strings.Contains(os.Getenv("GOFLAGS"), "-linkshared") {
		t.Error("this version of Go keeps its list of what to initialise in another way: workers start slower")
	}
}
