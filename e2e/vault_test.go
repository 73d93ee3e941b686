package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"enclave/cli/client"
	"enclave/store/seal"
	"enclave/wire"
)

// killsVariable is how many rounds the kills take: a few by default, 100 in `make long`.
const killsVariable = "ENCLAVE_KILLS"

func rounds(t *testing.T) int {
	n := 10
	if text := os.Getenv(killsVariable); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// admin is a client of the API, for loads that separate processes would not make.
func (l *lab) admin() *client.Client {
	l.t.Helper()
	token, err := os.ReadFile(l.up.TokenFile)
	if err != nil {
		l.t.Fatal(err)
	}
	c, err := client.New(client.Config{URL: l.up.URL, Token: strings.TrimSpace(string(token)), Fingerprint: l.up.Fingerprint})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(c.Close)
	return c
}

// TestKilledUnderLoad kills control and relay at random instants under 50 changes a
// second. What was acknowledged is there after each restart, and the audit trail is whole.
func TestKilledUnderLoad(t *testing.T) {
	l := newLab(t)
	u, _ := url.Parse(l.up.URL)
	acknowledged := map[wire.Tag]bool{}
	var restarts []time.Duration
	lost, n := 0, rounds(t)
	for round := range n {
		c := l.admin()
		ctx, stop := context.WithCancel(t.Context())
		var load sync.WaitGroup
		var mu sync.Mutex
		for worker := range 5 { // 10 a second each
			load.Go(func() {
				beat := time.NewTicker(100 * time.Millisecond)
				defer beat.Stop()
				for i := 0; ; i++ {
					select {
					case <-ctx.Done():
						return
					case <-beat.C:
					}
					tag := wire.Tag(fmt.Sprintf("r%d-w%d-%d", round, worker, i))
					if _, err := c.SetTag(ctx, string(tag), nil, "n"); err != nil {
						return // killed
					}
					mu.Lock()
					acknowledged[tag] = true
					mu.Unlock()
				}
			})
		}
		time.Sleep(time.Duration(300+rand.IntN(900)) * time.Millisecond) // any instant
		l.upProcess.kill()
		stop()
		load.Wait()
		began := time.Now()
		l.startUp(u.Host)
		c = l.admin()
		list, err := c.Tags(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		restarts = append(restarts, time.Since(began))
		there := map[wire.Tag]bool{}
		for _, tag := range list {
			there[tag.Name] = true
		}
		for tag := range acknowledged {
			if !there[tag] {
				lost++
				t.Errorf("round %d: acknowledged tag %s is lost", round, tag)
			}
		}
		// One change of each worker may have been made without its acknowledgement.
		if extra := len(there) - len(acknowledged); extra > 5*(round+1) {
			t.Errorf("round %d: %d tags that nobody was told of", round, extra)
		}
	}
	h, err := l.admin().Health(t.Context(), true)
	if err != nil || h.PagesErr+h.IntegrErr+h.ChainErr != "" {
		t.Errorf("%+v, %v", h, err)
	}
	slices.Sort(restarts)
	t.Logf("%d kills under load, %d changes acknowledged, %d lost; restart to first answer %v (median), %v (p99); %d audit records verified",
		n, len(acknowledged), lost, restarts[len(restarts)/2].Round(time.Millisecond), restarts[len(restarts)*99/100].Round(time.Millisecond), h.Records)
}

// pair is a lab with a service that a policy lets one agent reach.
func (l *lab) pair() (reach func() error) {
	l.t.Helper()
	socks := freePort(l.t)
	l.agent("web", "--expose", "8080="+greeter(l.t, "still here"))
	l.agent("laptop", "--socks", socks)
	l.connected(2)
	l.introduce("tcp/8080")
	l.ok("waitfor", "web", "--state", l.path("laptop"), "--timeout", "1m")
	reach = func() error {
		_, body, err := fetch(through("socks5h://"+socks), "http://web.enclave:8080/")
		if err == nil && body != "still here" {
			err = errors.New("another answer: " + body)
		}
		return err
	}
	if err := reach(); err != nil {
		l.t.Fatal(err)
	}
	return reach
}

// TestLockWithAgents: a locked control plane serves nothing, connected systems go on, and
// it opens again without a restart.
func TestLockWithAgents(t *testing.T) {
	l := newLab(t)
	reach := l.pair()
	state := []string{"--state", l.path("up")}
	l.ok(append([]string{"seal", "lock"}, state...)...)
	for range 5 {
		if err := reach(); err != nil {
			t.Errorf("while locked: %v", err)
		}
	}
	for _, args := range [][]string{{"status"}, {"system", "list"}, {"policy", "disable", "p"}, {"seal", "rotate"}, {"backup", "create", l.path("no.backup")}} {
		if args[0] != "status" && args[0] != "system" && args[0] != "policy" {
			args = append(args, "--url", l.up.URL)
		}
		l.refused(6, "sealed", args...)
	}
	if _, err := os.Stat(l.path("no.backup")); err == nil {
		t.Error("a refused backup left a file")
	}
	var s struct{ Running string }
	l.decode(&s, append([]string{"seal", "status"}, state...)...)
	if s.Running != "locked" {
		t.Errorf("status says %q", s.Running)
	}
	l.ok(append([]string{"seal", "unlock"}, state...)...)
	l.connected(2)
	if err := reach(); err != nil {
		t.Errorf("after it: %v", err)
	}
	l.ok("policy", "disable", "p", "--wait")
	if reach() == nil {
		t.Error("a change after it is not in force")
	}
}

// TestRecipientsWhileItRuns changes who opens a state under a running control plane: what
// was let in unlocks it, what was taken out does not.
func TestRecipientsWhileItRuns(t *testing.T) {
	l := newLab(t)
	state := []string{"--state", l.path("up")}
	id, text, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	mine := l.secret("operator.txt", text)
	l.ok(append([]string{"seal", "add", id.Recipient.String()}, state...)...)
	l.refused(2, "mixed_recipients", append([]string{"seal", "add", "passphrase", "--new-passphrase-file", l.secret("pass", "correct horse battery staple")}, state...)...)
	var now struct{ Recipients []struct{ Recipient string } }
	l.decode(&now, append([]string{"seal", "status"}, state...)...)
	if len(now.Recipients) != 2 {
		t.Fatalf("%+v", now)
	}
	old := now.Recipients[0].Recipient
	l.ok(append([]string{"seal", "remove", old}, state...)...)
	l.refused(1, "last_recipient", append([]string{"seal", "remove", id.Recipient.String()}, state...)...)
	l.ok(append([]string{"seal", "rotate"}, state...)...)
	l.ok(append([]string{"seal", "lock"}, state...)...)
	l.refused(4, "wrong_identity", append([]string{"seal", "unlock"}, state...)...)
	l.ok(append([]string{"seal", "unlock", "--identity", mine}, state...)...)
	var records []struct{ Action string }
	if l.decode(&records, "audit", "list", "--action", "seal.recipients"); len(records) != 2 {
		t.Errorf("%+v", records)
	}
}

// TestWipeAndRestore loses the machine: a backup brings control back, and the agents find
// it again as they are.
func TestWipeAndRestore(t *testing.T) {
	l := newLab(t)
	reach := l.pair()
	u, _ := url.Parse(l.up.URL)
	identity, file := l.path("operator.txt"), l.path("a.backup")
	raw, err := os.ReadFile(filepath.Join(l.path("up"), "identity.age.txt"))
	if err != nil || os.WriteFile(identity, raw, 0o600) != nil {
		t.Fatal(err)
	}
	l.ok("backup", "create", file)
	l.ok("tag", "add", "web", "later") // after it: gone
	l.upProcess.kill()
	if err := os.RemoveAll(l.path("up")); err != nil {
		t.Fatal(err)
	}
	l.env = nil
	l.ok("backup", "verify", file, "--identity", identity)
	l.ok("backup", "restore", file, "--identity", identity, "--state", l.path("up"))
	fingerprint := l.up.Fingerprint
	l.serve(l.start("up", "up", "--json", "--state", l.path("up"), "--listen", u.Host, "--stun", "127.0.0.1:0", "--identity", identity))
	if l.up.Fingerprint != fingerprint {
		t.Errorf("another root: %s, was %s", l.up.Fingerprint, fingerprint)
	}
	for _, s := range l.connected(2) {
		if slices.Contains(s.Tags, "later") {
			t.Error("what came after the backup is there")
		}
	}
	if err := reach(); err != nil {
		t.Errorf("after the restore: %v", err)
	}
	l.ok("policy", "disable", "p", "--wait")
	if reach() == nil {
		t.Error("agents do not follow the restored control plane")
	}
	l.ok("doctor", "--full", "--state", l.path("up"), "--identity", identity)
}

// TestStopsOnDamage flips bytes under a running control plane: it serves none of them and
// ends with exit code 7 and the name of the command that helps.
func TestStopsOnDamage(t *testing.T) {
	l := newLab(t)
	for i := range 40 {
		l.ok("tag", "set", fmt.Sprintf("t%d", i))
		if i == 3 { // one restart writes the log back
			u, _ := url.Parse(l.up.URL)
			l.upProcess.interrupt()
			l.startUp(u.Host)
		}
	}
	path := filepath.Join(l.path("up"), "enclave.db")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, _ := f.Stat()
	for at := int64(4096); at < info.Size(); at += 4096 {
		var b [1]byte
		f.ReadAt(b[:], at+9)
		b[0] ^= 1
		f.WriteAt(b[:], at+9)
	}
	_, errs, exit := l.run("doctor", "--full", "--state", l.path("up"))
	if exit != 7 {
		t.Errorf("doctor: exit %d: %s", exit, errs)
	}
	if exit := l.upProcess.exits(20 * time.Second); exit != 7 || !strings.Contains(l.upProcess.stderr(), "backup restore") {
		t.Errorf("exit %d:\n%s", exit, tail(l.upProcess.stderr(), 600))
	}
}

// TestNoSecretInTheOpen plants secrets and looks for them after a kill -9: in every file,
// in backups, logs, arguments, environments and answers.
func TestNoSecretInTheOpen(t *testing.T) {
	l := emptyLab(t)
	l.serve(l.start("up", "up", "--json", "--state", l.path("up"), "--listen", "127.0.0.1:0", "--stun", "127.0.0.1:0", "--backup-every", "1h"))
	const canary, note = "canary-5b1f0e77", "canary-note-9ad2"
	l.ok("tag", "set", canary, "--notes", note)
	l.ok("key", "create", "--name", canary)
	l.ok("policy", "create", canary, "--from", canary, "--to", canary, "--allow", "tcp/1")
	l.agent(canary)
	l.connected(1)
	l.ok("backup", "create", l.path("by-hand.backup"))
	l.ok("audit", "export", "--out", l.path("open.jsonl"))
	l.ok("audit", "export", "--out", l.path("sealed.jsonl"), "--sealed")
	token, err := os.ReadFile(l.up.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{"planted": canary, "noted": note, "token": strings.TrimSpace(string(token)), "enrolment key": l.up.EnrolmentKey}
	pid := l.upProcess.cmd.Process.Pid
	where := map[string][]byte{}
	for _, name := range []string{"cmdline", "environ"} {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name)); err == nil {
			where["/proc "+name] = b
		}
	}
	for _, args := range [][]string{{"key", "list"}, {"activity"}, {"seal", "status", "--state", l.path("up")}, {"system", "list"}, {"doctor", "--full", "--state", l.path("up")}} {
		where["answer of "+args[0]] = []byte(l.ok(append(args, "--json")...))
	}
	limits, _ := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if len(limits) > 0 && !regexp.MustCompile(`Max core file size +0 +0`).Match(limits) {
		t.Errorf("it may leave a core dump:\n%s", limits)
	}
	l.upProcess.kill()
	where["log"] = []byte(l.upProcess.stderr())
	files, total := 0, 0
	err = filepath.WalkDir(l.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "admin.token" || strings.HasSuffix(d.Name(), ".key") {
			return err
		}
		b, err := os.ReadFile(path)
		where[path], files, total = b, files+1, total+len(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	hits := 0
	for place, b := range where {
		for what, secret := range secrets {
			answer, export := strings.HasPrefix(place, "answer") || place == "log", filepath.Base(place)
			// Names are no secret to whoever may ask or export; details are one in an export
			// that leaves them sealed.
			shown := what == "planted" && (answer || export == "open.jsonl" || export == "sealed.jsonl") ||
				what == "noted" && (answer || export == "open.jsonl")
			if !shown && bytes.Contains(b, []byte(secret)) {
				hits++
				t.Errorf("%s: the %s secret in clear", place, what)
			}
		}
	}
	if !bytes.Contains(where[l.path("open.jsonl")], []byte(note)) || len(where[l.path("sealed.jsonl")]) == 0 {
		t.Error("the exports were not looked at")
	}
	t.Logf("%d hits in %d files of %d bytes and %d other places, after kill -9", hits, files, total, len(where)-files)
}

// TestNothingSecretIsBuiltIn: the executable holds no secret, and two first starts share
// none.
func TestNothingSecretIsBuiltIn(t *testing.T) {
	a, b := newLabs(t)
	raw, err := os.ReadFile(a.bin)
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{`AGE-SECRET-KEY-(PQ-)?1[0-9A-Z]{30,}`, `-----BEGIN [A-Z ]*PRIVATE KEY-----\r?\n[A-Za-z0-9+/]{40}`, `enctok_[a-z0-9]{20,}`} {
		if hit := regexp.MustCompile(pattern).Find(raw); hit != nil {
			t.Errorf("the executable has %.40q", hit)
		}
	}
	files := 0
	for _, name := range []string{"admin.token", "identity.age.txt", "keyring.age", "enclave.db", "relay.json"} {
		x, err := os.ReadFile(filepath.Join(a.path("up"), name))
		y, err2 := os.ReadFile(filepath.Join(b.path("up"), name))
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		files++
		if bytes.Equal(x, y) {
			t.Errorf("%s is the same in both", name)
		}
		if bytes.Contains(raw, x[len(x)-min(len(x), 40):]) {
			t.Errorf("%s is in the executable", name)
		}
	}
	if a.up.Fingerprint == b.up.Fingerprint || a.up.EnrolmentKey == b.up.EnrolmentKey {
		t.Error("two installations share a root or a key")
	}
	t.Logf("%d bytes of executable, %d files of two installations: nothing shared", len(raw), files)
}

func newLabs(t *testing.T) (a, b *lab) {
	a = newLab(t)
	dir, err := os.MkdirTemp("", "enclave-lab-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b = &lab{t: t, bin: a.bin, dir: dir}
	b.startUp("127.0.0.1:0")
	return a, b
}
