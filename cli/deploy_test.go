package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	execStart = regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/enclave (.*)$`)
	// exampleArgs are the arguments that a unit's comment proposes for its EnvironmentFile.
	exampleArgs = regexp.MustCompile(`(?m)^# (?:ENCLAVE_[A-Z]+, its arguments: )?(--[a-z].*)$`)
	// composeArgs are those of a service of compose.yaml, in either notation.
	composeArgs = regexp.MustCompile(`(?m)^    command:(?: \[(.*)\]|((?:\n      - .*)+))$`)
)

// TestDeployment: the verbs and flags of the units and of compose.yaml are there, no unit is
// started again for what a start cannot mend, and systemd takes them where there is one.
func TestDeployment(t *testing.T) {
	root := (&app{}).root()
	units, err := filepath.Glob("../deploy/*.service")
	if err != nil || len(units) < 4 {
		t.Fatalf("units %v, %v", units, err)
	}
	for _, file := range units {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := string(raw)
		start, examples := execStart.FindStringSubmatch(text), exampleArgs.FindAllStringSubmatch(text, -1)
		if start == nil || len(examples) == 0 {
			t.Errorf("%s: ExecStart %q, examples %q", file, start, examples)
			continue
		}
		line, _, _ := strings.Cut(start[1], "$")
		for _, e := range examples {
			line += " " + e[1]
		}
		if wrong := misspelt(root, line); wrong != "" {
			t.Errorf("%s: %q: %s", file, line, wrong)
		}
		if !regexp.MustCompile(`(?m)^RestartPreventExitStatus=2 (3 4 )?7$`).MatchString(text) {
			t.Errorf("%s starts again what cannot start", file)
		}
		takenBySystemd(t, file, text)
	}
	raw, err := os.ReadFile("../deploy/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	commands := composeArgs.FindAllStringSubmatch(string(raw), -1)
	if len(commands) < 2 {
		t.Errorf("compose.yaml has %d commands", len(commands))
	}
	for _, m := range commands {
		line := strings.ReplaceAll(m[1], ",", "") + strings.ReplaceAll(m[2], "\n      - ", " ")
		if wrong := misspelt(root, strings.ReplaceAll(line, "=", " ")); wrong != "" {
			t.Errorf("compose.yaml: %q: %s", line, wrong)
		}
	}
}

// takenBySystemd asks systemd about a unit, with a program in it that is there.
func takenBySystemd(t *testing.T, file, text string) {
	analyse, err := exec.LookPath("systemd-analyze")
	if err != nil {
		return
	}
	copied := filepath.Join(t.TempDir(), filepath.Base(file))
	if err := os.WriteFile(copied, []byte(strings.ReplaceAll(text, "/usr/local/bin/enclave", "/bin/true")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyse, "verify", copied).CombinedOutput(); err != nil || strings.Contains(string(out), filepath.Base(file)) {
		t.Errorf("%s: %v\n%s", file, err, out)
	}
}
