package e2e

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pkg is the part of `go list -json` that the rules of the house look at.
type pkg struct {
	ImportPath, Dir, Doc, Name string
	Imports                    []string
	GoFiles                    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,Name,Imports,GoFiles", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// floors lists the prefixes of each floor, longest match first in lookup. Imports
// only go down, or sideways within one mode.
var floors = []struct {
	prefix   string
	floor    int
	sentence string
}{
	{"enclave/wire", 0, "wire imports only the standard library and x/crypto"},
	{"enclave/control/policy", 1, "a pure package knows no socket, file, clock, logger or context"},
	{"enclave/control/discovery", 1, "a pure package knows no socket, file, clock, logger or context"},
	{"enclave/agent/filter", 1, "a pure package knows no socket, file, clock, logger or context"},
	{"enclave/agent/path", 1, "a pure package knows no socket, file, clock, logger or context"},
	{"enclave/sandbox/script", 1, "a pure package knows no socket, file, clock, logger or context"},
	{"enclave/sandbox/score", 1, "a pure package knows no socket, file, clock, logger or context"},
	{"enclave/store", 2, "the I/O floor imports pure packages and wire"},
	{"enclave/loglimit", 2, "the I/O floor imports pure packages and wire"},
	{"enclave/passage", 2, "the I/O floor imports pure packages and wire"},
	{"enclave/agent/link", 2, "the I/O floor imports pure packages and wire"},
	{"enclave/agent/tunnel", 2, "the I/O floor imports pure packages and wire"},
	{"enclave/sandbox/jail", 2, "the I/O floor imports pure packages and wire"},
	{"enclave/control", 3, "control, relay, agent and sandbox never import each other; they meet over wire"},
	{"enclave/relay", 3, "control, relay, agent and sandbox never import each other; they meet over wire"},
	{"enclave/agent", 3, "control, relay, agent and sandbox never import each other; they meet over wire"},
	{"enclave/sandbox", 3, "control, relay, agent and sandbox never import each other; they meet over wire"},
	{"enclave/tui", 4, "tui imports wire and declares the client it needs"},
	{"enclave/cli", 5, ""},
	{"enclave/e2e", 5, ""},
	{"enclave", 5, ""},
}

func floorOf(path string) (prefix string, floor int, sentence string) {
	best := -1
	for i, f := range floors {
		if (path == f.prefix || strings.HasPrefix(path, f.prefix+"/")) && (best < 0 || len(f.prefix) > len(floors[best].prefix)) {
			best = i
		}
	}
	if best < 0 {
		return "", -1, ""
	}
	return floors[best].prefix, floors[best].floor, floors[best].sentence
}

// impure is what a pure package may not import, with what it would let in.
var impure = map[string]string{
	"net": "sockets", "net/http": "sockets", "os": "files", "context": "contexts", "log": "loggers",
	"log/slog": "loggers", "syscall": "the system", "os/exec": "processes", "crypto/tls": "sockets",
}

func TestImportsOnlyGoDown(t *testing.T) {
	for _, p := range packages(t) {
		mine, floor, sentence := floorOf(p.ImportPath)
		if floor < 0 {
			t.Errorf("%s stands on no floor: add it to the table", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			if bad := forbidden(p.ImportPath, mine, floor, imp); bad != "" {
				t.Errorf("%s imports %s (%s): %s", p.ImportPath, imp, bad, sentence)
			}
		}
	}
}

func forbidden(importer, mine string, floor int, imp string) string {
	if imp == "enclave" || strings.HasPrefix(imp, "enclave/") {
		theirs, f, _ := floorOf(imp)
		switch {
		case f > floor:
			return "a higher floor"
		case f == floor && floor == 3 && theirs != mine:
			return "another mode"
		}
		return ""
	}
	if floor > 1 {
		return ""
	}
	if what, bad := impure[imp]; bad && !(strings.HasPrefix(importer, "enclave/wire/svid") && imp == "crypto/tls") {
		return "lets in " + what
	}
	// The language is goja's: its parser, tree and compiler read text and touch nothing.
	if importer == "enclave/sandbox/script" && strings.HasPrefix(imp, "github.com/dop251/goja") {
		return ""
	}
	outside := strings.Contains(strings.SplitN(imp, "/", 2)[0], ".")
	if outside && !strings.HasPrefix(imp, "golang.org/x/crypto/") {
		return "outside the standard library"
	}
	return ""
}

// clockCalls are what pure code would need to know the time without being told.
var clockCalls = regexp.MustCompile(`\btime\.(Now|Since|Until|Sleep|After|AfterFunc|Tick|NewTimer|NewTicker)\(`)

func TestPureCodeIsToldTheTime(t *testing.T) {
	for _, p := range packages(t) {
		if _, floor, _ := floorOf(p.ImportPath); floor > 1 {
			continue
		}
		for _, name := range p.GoFiles {
			src, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if m := clockCalls.Find(src); m != nil {
				t.Errorf("%s/%s calls %s: take now as an argument", p.ImportPath, name, m)
			}
		}
	}
}

func TestForbiddenSeesEachRule(t *testing.T) {
	for _, tc := range []struct{ importer, imp string }{
		{"enclave/wire", "enclave/control/policy"},
		{"enclave/wire", "github.com/spf13/cobra"},
		{"enclave/agent/filter", "os"},
		{"enclave/agent/link", "enclave/agent"},
		{"enclave/agent", "enclave/relay"},
		{"enclave/tui", "enclave/cli"},
	} {
		mine, floor, _ := floorOf(tc.importer)
		if forbidden(tc.importer, mine, floor, tc.imp) == "" {
			t.Errorf("%s may import %s", tc.importer, tc.imp)
		}
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) == 0 {
			continue
		}
		prefix := "Package " + p.Name + " "
		if p.Name == "main" {
			prefix = "Command "
		}
		if !strings.HasPrefix(p.Doc, prefix) {
			t.Errorf("%s: the package comment does not begin with %q", p.ImportPath, prefix)
		}
		if n := packageComments(t, p); n != 1 {
			t.Errorf("%s has %d package comments, want 1", p.ImportPath, n)
		}
	}
}
