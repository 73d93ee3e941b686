package terminal

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// binary builds the executable once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "enclave-terminal-")
	if err != nil {
		return "", err
	}
	built.dir = dir
	bin := filepath.Join(dir, "enclave")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", bin, ".")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %v\n%s", err, out)
	}
	return bin, nil
})

// built is where; written once, by binary.
var built struct{ dir string }

func removeBinary() {
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
}

// run starts the executable on a terminal, with an environment of its own.
func run(t *testing.T, w, h int, args ...string) *Terminal {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, args...)
	state := filepath.Join(t.TempDir(), "state")
	must(t, os.Mkdir(state, 0o700))
	cmd.Env = []string{"TERM=xterm-256color", "LANG=C.UTF-8", "HOME=" + state, "ENCLAVE_STATE=" + state, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + t.TempDir()}
	term, err := Start(cmd, w, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { term.Close() })
	return term
}

// must ends the test with what went wrong.
func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// soon is how long anything on the screen may take, on a machine with much else to do.
const soon = 2 * time.Minute
