package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// lab is the executable as an operator has it: separate processes on loopback.
type lab struct {
	t         *testing.T
	bin       string
	dir       string
	up        firstLine
	upProcess *process
	env       []string
}

type firstLine struct {
	URL          string `json:"url"`
	TokenFile    string `json:"token_file"`
	Fingerprint  string `json:"ca_fingerprint"`
	EnrolmentKey string `json:"enrolment_key"`
}

// newLab starts `enclave up` on free ports.
func newLab(t *testing.T) *lab {
	t.Helper()
	l := emptyLab(t)
	l.startUp(freePort(t))
	return l
}

// emptyLab has the executable and a directory.
func emptyLab(t *testing.T) *lab {
	t.Helper()
	if testing.Short() {
		t.Skip("starts real processes")
	}
	t.Parallel() // labs share nothing, and mostly wait
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "enclave-lab-") // short: sockets live in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &lab{t: t, bin: bin, dir: dir}
}

// startUp runs `up` and reads its first line.
func (l *lab) startUp(listen string) {
	l.t.Helper()
	l.serve(l.start("up", "up", "--json", "--state", l.path("up"), "--listen", listen, "--stun", "127.0.0.1:0"))
}

// serve reads the first line of up or control.
func (l *lab) serve(p *process) {
	l.t.Helper()
	line := p.line(10 * time.Second)
	l.up = firstLine{}
	if err := json.Unmarshal([]byte(line), &l.up); err != nil {
		l.t.Fatalf("first line of %s: %v\n%s\n%s", p.name, err, line, p.stderr())
	}
	l.upProcess = p
	l.env = []string{"ENCLAVE_URL=" + l.up.URL, "ENCLAVE_TOKEN_FILE=" + l.up.TokenFile}
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

// run is a verb to its end.
func (l *lab) run(args ...string) (stdout, stderr string, exit int) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.bin, args...)
	cmd.Env = append(os.Environ(), l.env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // the exit code says it
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// ok is run that must succeed.
func (l *lab) ok(args ...string) string {
	l.t.Helper()
	out, errs, exit := l.run(args...)
	if exit != 0 {
		l.t.Fatalf("enclave %s: exit %d\n%s%s", strings.Join(args, " "), exit, out, errs)
	}
	return out
}

// decode is ok with --json.
func (l *lab) decode(v any, args ...string) {
	l.t.Helper()
	out := l.ok(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		l.t.Fatalf("enclave %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// refused is a verb that must fail: with this exit code, one object on stderr that
// has this code, and nothing on stdout.
func (l *lab) refused(exit int, code string, args ...string) string {
	l.t.Helper()
	out, errs, got := l.run(append(args, "--json")...)
	var e struct{ Code, Message string }
	if err := json.Unmarshal([]byte(errs), &e); err != nil || got != exit || e.Code != code || out != "" {
		l.t.Errorf("enclave %s: exit %d, want %d %s\nstdout %s\nstderr %s", strings.Join(args, " "), got, exit, code, out, errs)
	}
	return e.Message
}

// connected waits until so many systems are.
func (l *lab) connected(n int) []listed {
	l.t.Helper()
	var systems []listed
	until(l.t, 40*time.Second, fmt.Sprintf("%d systems connect", n), func() bool {
		l.decode(&systems, "system", "list", "--state-is", "connected")
		return len(systems) == n
	})
	return systems
}

// introduce has the policy p let the system laptop open to the system web what the rules
// say, and waits until that is in effect.
func (l *lab) introduce(rules ...string) {
	l.t.Helper()
	l.ok("tag", "add", "web", "servers")
	l.ok("tag", "add", "laptop", "laptops")
	args := []string{"policy", "create", "p", "--from", "laptops", "--to", "servers", "--wait"}
	for _, r := range rules {
		args = append(args, "--allow", r)
	}
	l.ok(args...)
}

// expires lets a policy end soon, and later where this machine takes longer than that to
// say so: an end that has passed is refused.
func (l *lab) expires(policy string, soon time.Duration, layout string) time.Time {
	l.t.Helper()
	for {
		end := time.Now().Add(soon).UTC()
		_, errs, exit := l.run("policy", "update", policy, "--expires", end.Format(layout), "--wait")
		if exit == 0 {
			return end
		}
		if time.Now().Before(end.Add(-time.Second)) || soon > patience {
			l.t.Fatalf("policy %s: exit %d: %s", policy, exit, errs)
		}
		soon *= 2
	}
}

// key creates an enrolment key and returns the file of its secret.
func (l *lab) key(args ...string) (file string) {
	l.t.Helper()
	var k struct{ ID, Secret string }
	l.decode(&k, append([]string{"key", "create", "--name", "k"}, args...)...)
	return l.secret(k.ID+".key", k.Secret)
}

// enrolling starts an agent with a key of its own.
func (l *lab) enrolling(name, keyFile string, more ...string) *process {
	l.t.Helper()
	return l.start(name, append([]string{"agent", "--state", l.path(name), "--control", l.up.URL, "--ca-fingerprint", l.up.Fingerprint, "--name", name, "--key-file", keyFile}, more...)...)
}

// secret keeps a secret in a file, as commands take it.
func (l *lab) secret(name, value string) string {
	l.t.Helper()
	file := l.path(name)
	if err := os.WriteFile(file, []byte(value+"\n"), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return file
}

// agent starts an agent with the first enrolment key.
func (l *lab) agent(name string, more ...string) *process {
	l.t.Helper()
	args := append([]string{"agent", "--state", l.path(name), "--control", l.up.URL, "--ca-fingerprint", l.up.Fingerprint, "--name", name}, more...)
	if l.up.EnrolmentKey != "" {
		args = append(args, "--key-file", l.secret("first.key", l.up.EnrolmentKey))
	}
	return l.start(name, args...)
}

type listed struct {
	ID, Name, State string
	Tags            []string
	IPv4            string
}
