package cli

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"enclave/agent/uplink"
	"enclave/cli/node"
	"enclave/control/admin"
	"enclave/control/enrol"
	"enclave/store"
	"enclave/store/audit"
	"enclave/wire"
	"enclave/wire/svid"
)

// shell runs commands in this process, with an environment of its own.
type shell struct {
	t   *testing.T
	env map[string]string
	in  string

	terminal bool // as if at one
}

func newShell(t *testing.T) *shell {
	dir := privateDir(t)
	return &shell{t: t, env: map[string]string{"ENCLAVE_STATE": dir, "XDG_STATE_HOME": dir}}
}

// privateDir is a directory that a state may live in, with a path short enough for a
// socket.
func privateDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "enclave-cli-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (s *shell) run(args ...string) (stdout, stderr string, exit int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	exit = Main(ctx, args, Streams{In: strings.NewReader(s.in), Out: &out, Err: &errs, Getenv: func(k string) string { return s.env[k] },
		Terminal: s.terminal, TerminalIn: s.terminal})
	return out.String(), errs.String(), exit
}

func (s *shell) ok(args ...string) string {
	s.t.Helper()
	out, errs, exit := s.run(args...)
	if exit != exitOK || errs != "" {
		s.t.Fatalf("enclave %s: exit %d\n%s%s", strings.Join(args, " "), exit, out, errs)
	}
	return out
}

// refusal is an error as scripts see it.
type refusal struct {
	Code, Message, Hint string
	Problems            []wire.Problem
	Finding             *audit.Finding
}

// refused runs a command that must fail with this exit code: once for people, who
// get one line and a hint, once for scripts, who get one object and nothing else.
func (s *shell) refused(exit int, args ...string) refusal {
	s.t.Helper()
	line := "enclave " + strings.Join(args, " ")
	out, errs, got := s.run(args...)
	if got != exit || out != "" || !strings.HasPrefix(errs, "enclave: ") || !strings.HasSuffix(errs, "\n") {
		s.t.Errorf("%s: exit %d, want %d, stdout %q, stderr %q", line, got, exit, out, errs)
	}
	out, errs, got = s.run(append(args, "--json")...)
	var r refusal
	d := json.NewDecoder(strings.NewReader(errs))
	if err := d.Decode(&r); err != nil || d.More() || out != "" || got != exit || r.Code == "" || r.Message == "" {
		s.t.Errorf("%s --json: exit %d, want %d, stdout %q, stderr %q", line, got, exit, out, errs)
	}
	return r
}

// site is a control plane of this process and a shell that is signed in to it.
type site struct {
	*shell
	dir, url, fingerprint string
	first                 *node.First
	log                   lockedText
}

// lockedText is what several goroutines write.
type lockedText struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *lockedText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// newSite starts a control plane. seed may put into the store what the API refuses.
func newSite(t *testing.T, seed func(*store.Store, store.Change)) *site {
	t.Helper()
	s := &site{shell: newShell(t)}
	s.dir = s.env["ENCLAVE_STATE"]
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "https://" + l.Addr().String()
	cfg := node.ControlConfig{Dir: s.dir, URL: s.url, Listener: l, Logger: slog.New(slog.NewTextHandler(&s.log, nil))}
	open := func() *node.Control {
		c, err := node.OpenControl(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open()
	s.first, s.fingerprint = c.First(), c.Fingerprint()
	if seed != nil {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		st, err := store.Open(t.Context(), s.dir)
		if err != nil {
			t.Fatal(err)
		}
		by := store.Change{By: "test", At: time.Now()}
		seed(st, by)
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		c = open()
	}
	if err := writeFile(filepath.Join(s.dir, tokenFile), []byte(s.first.Token+"\n")); err != nil {
		t.Fatal(err)
	}
	if err := writeContext(s.dir, apiContext{URL: s.url, TokenFile: tokenFile, Fingerprint: s.fingerprint}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("control: %v", err)
		}
	})
	return s
}

// enrol enrols a system of no process: the other half of the tests' world.
func (s *site) enrol(name string, host wire.Host, at time.Time) (*wire.EnrolResponse, error) {
	_, identity, _ := ed25519.GenerateKey(nil)
	var wg wire.WireGuardKey
	var disco wire.DiscoKey
	rand.Read(wg[:])
	rand.Read(disco[:])
	return uplink.Enrol(s.t.Context(), uplink.Endpoint{URL: s.url, Fingerprint: s.fingerprint}, wire.EnrolRequest{
		Version: wire.Version, Now: at, Secret: s.first.EnrolmentKey, Name: name, Host: host, Keys: svid.SignKeys(identity, wg, disco)})
}

func (s *site) mustEnrol(name string) wire.SystemID {
	s.t.Helper()
	r, err := s.enrol(name, wire.Host{}, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	return r.System
}

// secret keeps a secret in a file.
func (s *shell) secret(secret string) string {
	s.t.Helper()
	file := filepath.Join(privateDir(s.t), "key")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// TestSession types what the README types, and wants one JSON document of each verb.
func TestSession(t *testing.T) {
	s := newSite(t, nil)
	for _, list := range []string{"system list", "tag list", "policy list", "relays list"} {
		if got := s.ok(append(strings.Fields(list), "--json")...); got != "[]\n" {
			t.Errorf("%s --json of nothing prints %q", list, got)
		}
	}
	web := string(s.mustEnrol("web"))
	s.mustEnrol("laptop")
	for _, line := range [][]string{
		{"tag", "add", "web", "servers", "blue"},
		{"tag", "add", "laptop", "laptops"},
		{"tag", "remove", "web", "blue"},
		{"tag", "list"},
		{"policy", "create", "Web for laptops", "--from", "laptops", "--to", "servers", "--allow", "tcp/8080", "--hours", "mon-sun 00:00-24:00 UTC", "--wait"},
		{"policy", "list"},
		{"policy", "show", "Web for laptops"},
		{"policy", "disable", "Web for laptops", "--wait"},
		{"policy", "enable", "Web for laptops"},
		{"policy", "delete", "Web for laptops"},
		{"system", "list", "--tag", "servers", "--state-is", "disconnected"},
		{"system", "show", web},
		{"system", "disable", web},
		{"system", "enable", "web"},
		{"trust", "met", "web", "mfa", "--until", "1h"},
		{"trust", "unmet", "web", "mfa"},
		{"system", "revoke", "web"},
		{"system", "delete", web},
		{"key", "create", "--name", "n", "--tag", "laptops", "--uses", "2", "--approve", "automatic", "--expires", "7d"},
		{"key", "list"},
		{"relays", "list"},
		{"status"},
		{"activity"},
		{"audit", "list"},
		{"audit", "checkpoint"},
		{"audit", "key"},
		{"audit", "subjects"},
		{"audit", "prove", "1"},
		{"audit", "verify"},
		{"version"},
	} {
		out := s.ok(append(line, "--json")...)
		var v any
		d := json.NewDecoder(strings.NewReader(out))
		if err := d.Decode(&v); err != nil || d.More() || v == nil {
			t.Errorf("%v --json: %v: %q", line, err, out)
		}
		if path := null(v); path != "" && path != "[].uses" && path != ".uses" && path != "[].detail.uses" { // which is unlimited
			t.Errorf("%v --json has a null at %s: %s", line, path, out)
		}
	}
	if out := s.ok("system", "list"); !strings.HasPrefix(out, "ID") || !strings.Contains(out, "laptops") || strings.Contains(out, web) {
		t.Errorf("system list: %s", out)
	}
}

// TestHostileHostname: what a machine says of itself never reaches the terminal as
// anything but text.
func TestHostileHostname(t *testing.T) {
	s := newSite(t, nil)
	if _, err := s.enrol("evil", wire.Host{Hostname: "\x1b]0;owned\x07\x1b[2J\u202e", Platform: "a\tb\nc"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	out := s.ok("system", "show", "evil") + s.ok("system", "list") + s.ok("activity")
	if i := strings.IndexFunc(out, func(r rune) bool { return r != '\n' && (r < ' ' || r == 0x7f || r == 0x202e) }); i >= 0 {
		t.Errorf("a control character reaches the terminal: %q", out[max(0, i-20):])
	}
	if host := s.ok("system", "show", "evil"); strings.Count(host, "\n") != strings.Count(s.ok("system", "show", string(s.mustEnrol("plain"))), "\n") {
		t.Errorf("the hostname makes lines of its own: %s", host)
	}
}

// TestScopes: a token may do what it was made for.
func TestScopes(t *testing.T) {
	reader := admin.NewToken()
	s := newSite(t, func(st *store.Store, c store.Change) {
		if _, err := st.CreateToken(t.Context(), c, store.TokenParams{Name: "reader", Scopes: []string{string(admin.Read)}, Secret: reader.Hash()}); err != nil {
			t.Fatal(err)
		}
	})
	s.env["ENCLAVE_TOKEN"] = string(reader)
	s.ok("system", "list")
	if r := s.refused(exitForbidden, "policy", "create", "p", "--from", "a", "--to", "b", "--allow", "any"); r.Code != "forbidden" || !strings.Contains(r.Message, "policies") {
		t.Errorf("a reader creates a policy: %+v", r)
	}
}

// TestKeysThatDoNotEnrol: an agent with such a key ends with the reason.
func TestKeysThatDoNotEnrol(t *testing.T) {
	expired, one := enrol.NewSecret(), 1
	s := newSite(t, func(st *store.Store, c store.Change) {
		c.At = c.At.Add(-time.Hour)
		if _, err := st.CreateKey(t.Context(), c, store.KeyParams{Name: "old", Uses: &one, Expires: store.End{At: c.At.Add(time.Minute)}, Secret: expired.Hash()}); err != nil {
			t.Fatal(err)
		}
	})
	create := func(args ...string) (id, file string) {
		var k struct{ ID, Secret string }
		if err := json.Unmarshal([]byte(s.ok(append([]string{"key", "create", "--json", "--name", "k"}, args...)...)), &k); err != nil {
			t.Fatal(err)
		}
		return k.ID, s.secret(k.Secret)
	}
	_, usedUp := create("--uses", "1")
	s.first.EnrolmentKey = strings.TrimSpace(read(t, usedUp))
	s.mustEnrol("first")
	s.ok("key", "create", "as others are")
	s.says(s.ok("key", "list"), "as others are")
	s.refused(exitUsage, "key", "create")
	s.refused(exitUsage, "key", "create", "one", "two")
	s.refused(exitUsage, "key", "create", "one", "--name", "two")
	if out := s.ok("key", "create", "--name", "tried", "--dry-run") + s.ok("key", "list"); !strings.Contains(out, "0 gained") || strings.Contains(out, "tried") {
		t.Errorf("a dry run: %s", out)
	}
	off, disabled := create()
	for _, verb := range []string{"disable", "delete"} {
		s.ok("key", verb, off, "--dry-run")
	}
	s.ok("key", "disable", off)
	gone, deleted := create()
	s.ok("key", "delete", gone)
	_, relays := create("--relay")
	for _, c := range []struct{ name, file, code string }{
		{"used up", usedUp, "key_used_up"},
		{"expired", s.secret(string(expired)), "key_expired"},
		{"disabled", disabled, "key_unknown"},
		{"deleted", deleted, "key_unknown"},
		{"never made", s.secret(string(enrol.NewSecret())), "key_unknown"},
		{"for relays", relays, "key_unknown"},
	} {
		out, errs, exit := s.run("agent", "--json", "--state", privateDir(t), "--control", s.url, "--ca-fingerprint", s.fingerprint, "--name", "late", "--key-file", c.file)
		var r refusal
		lines := strings.Split(strings.TrimSpace(errs), "\n")
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil || exit != exitRefused || r.Code != c.code || out != "" || r.Hint == "" {
			t.Errorf("%s: exit %d, %q %s", c.name, exit, out, errs)
		}
	}
	if r := s.refused(exitUsage, "agent", "--state", privateDir(t), "--control", s.url, "--ca-fingerprint", s.fingerprint, "--name", "late", "--key-file", s.secret("no secret at all")); r.Code != "invalid" {
		t.Errorf("a key that is none: %+v", r)
	}
}

// TestClockIsOff: a machine more than five minutes off learns both times.
func TestClockIsOff(t *testing.T) {
	s := newSite(t, nil)
	for _, off := range []time.Duration{-time.Hour, time.Hour} {
		_, err := s.enrol("late", wire.Host{}, time.Now().Add(off))
		if err == nil {
			t.Fatalf("%s off: enrolled", off)
		}
		if f := explain(err); f.exit != exitTryAgain || f.Code != "clock_skew" || !strings.Contains(f.Message, "the control plane's, which says") || f.Hint == "" {
			t.Errorf("%s off: %+v", off, f)
		}
	}
	if _, err := s.enrol("near", wire.Host{}, time.Now().Add(-4*time.Minute)); err != nil {
		t.Errorf("4 minutes off: %v", err)
	}
}

// null finds a null in a document: lists and objects are empty instead.
func null(v any) string {
	switch v := v.(type) {
	case nil:
		return "."
	case []any:
		for _, e := range v {
			if p := null(e); p != "" {
				return "[]" + strings.TrimSuffix(p, ".")
			}
		}
	case map[string]any:
		for k, e := range v {
			if p := null(e); p != "" {
				return "." + k + strings.TrimSuffix(p, ".")
			}
		}
	}
	return ""
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
