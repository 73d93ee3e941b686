package cli

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"enclave/store"
)

// TestUsage: each mistake at the keyboard is one sentence and exit code 2.
func TestUsage(t *testing.T) {
	s := newShell(t)
	for _, c := range []struct{ line, says string }{
		{"polcy list", "polcy"},
		{"help bogus", "bogus"},
		{"completion ksh", "ksh"},
		{"system lst", "lst"},
		{"system list extra", "no arguments"},
		{"system show", "SYSTEM"},
		{"system list --bogus", "--bogus"},
		{"system list --state-is asleep", "pending, connected"},
		{"tag add web", "TAG"},
		{"tag add web BAD_TAG", "BAD_TAG"},
		{"policy create", "NAME"},
		{"key create", "name"},
		{"key create --name n --approve perhaps", "manual or automatic"},
		{"key create --name n --uses 0", "1 or more"},
		{"key create --name n --uses many", "--uses"},
		{"key create --name n --tag Bad", "Bad"},
		{"key create --name n --expires yesterday", "yesterday"},
		{"key create --name n --expires -1h", "past"},
		{"key create --name n --retention 5m", "--ephemeral"},
		{"key create --name n --ephemeral --relay", "not both"},
		{"trust met web", "REQUIREMENT"},
		{"ping", "NAME"},
		{"ping web --count 0", "--count"},
		{"waitfor web --timeout soon", "soon"},
		{"system list --url gopher://x", "gopher"},
		{"system list --url http://192.0.2.1:1", "loopback"},
		{"system show --url http://127.0.0.1:1 " + strings.Repeat("a", 100_000), "too long"},
		{"audit tail --url http://127.0.0.1:1 --actor " + strings.Repeat("a", 100_000), "too long"},
		{"policy eval /nonexistent/questions", "/nonexistent/questions"},
		{"audit verify /nonexistent/trail --key-file /nonexistent/key", "/nonexistent/key"},
		{"version extra", "no arguments"},
		{"agent", "--control"},
		{"agent --control http://127.0.0.1:1 --ca-fingerprint x --name a", "https"},
		{"agent --control https://127.0.0.1:1 --ca-fingerprint sha256:12 --name a", "64 hex digits"},
		{"agent --expose http", "--expose"},
		{"agent --expose 0=127.0.0.1:80", "--expose"},
		{"agent --forward 127.0.0.1:1", "--forward"},
		{"agent --socks nowhere", "--socks"},
		{"agent --socks 0.0.0.0:1080", "act as this system"},
		{"agent --http-proxy [::]:1080", "act as this system"},
		{"agent --proxy-auth-file /nonexistent/secret", "/nonexistent/secret"},
		{"agent --name a --state /" + strings.Repeat("long/", 30), "at most"},
		{"up --listen bogus", "host:port"},
		{"up --listen 127.0.0.1:99999", "host:port"},
		{"up --listen 0.0.0.0:0", "--advertise"},
		{"up --listen 0.0.0.0:0 --advertise nowhere", "--advertise"},
		{"up --listen [fe80::1%lo]:0", "link-local"},
		{"up --listen 127.0.0.1:0 --advertise https://[fe80::1%25lo]:443", "--advertise"},
		{"relay --listen [fe80::1%lo]:0", "link-local"},
		{"relay --listen 127.0.0.1:0 --advertise [fe80::1%lo]:443", "--advertise"},
		{"up --listen 192.0.2.1:0", "192.0.2.1"},
		{"up --listen 127.0.0.1:0 --stun bogus", "--stun"},
		{"up --listen 127.0.0.1:0 --advertise-stun bogus", "--advertise-stun"},
		{"control --listen bogus", "host:port"},
		{"relay --listen bogus", "host:port"},
		{"relay --listen 0.0.0.0:0", "--advertise"},
		{"relay --listen 127.0.0.1:0 --advertise-stun bogus", "--advertise-stun"},
	} {
		if strings.HasPrefix(c.line, "system list --url") {
			s.env["ENCLAVE_TOKEN"] = "t"
		}
		r := s.refused(exitUsage, strings.Fields(c.line)...)
		if !strings.Contains(r.Message+r.Hint, c.says) {
			t.Errorf("enclave %s: %+v does not say %q", c.line, r, c.says)
		}
	}
	if r := s.refused(exitUsage, "policy", "delete", ""); !strings.Contains(r.Message, "POLICY is empty") {
		t.Errorf("an empty argument is not named: %+v", r)
	}
	if r := s.refused(exitUsage, "systm", "list"); !strings.Contains(r.Hint, `"enclave system"`) {
		t.Errorf("a typo is not recognised: %+v", r)
	}
}

// TestAnAgentsStateIsNoWayToTheAPI, and whoever uses it as one hears what there is instead.
func TestAnAgentsStateIsNoWayToTheAPI(t *testing.T) {
	s := newShell(t)
	dir := privateDir(t)
	if r := s.refused(exitUsage, "explain", "a", "b", "tcp/1", "--state", dir); !strings.Contains(r.Message, contextFile) {
		t.Errorf("an empty state: %+v", r)
	}
	if err := os.WriteFile(filepath.Join(dir, agentFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := s.refused(exitUsage, "explain", "a", "b", "tcp/1", "--state", dir); !strings.Contains(r.Message, "state of an agent") || !strings.Contains(r.Hint, "agent status") {
		t.Errorf("an agent's state: %+v", r)
	}
}

// TestAllMistakesOfAPolicy: they are said at once, each with its place.
func TestAllMistakesOfAPolicy(t *testing.T) {
	s := newShell(t)
	r := s.refused(exitUsage, "policy", "create", "p", "--from", "A B", "--to", "b", "--allow", "ftp/2", "--allow", "tcp/99999", "--allow", "icmp/8",
		"--hours", "mon 0800", "--hours", "mon 08:00-08:00 Europe/Nowhere", "--expires", "5x")
	var said []string
	for _, p := range r.Problems {
		said = append(said, p.Error())
	}
	all := strings.Join(said, "\n")
	for _, want := range []string{"--from: tag \"A B\"", "--allow: rule \"ftp/2\"", "--allow: rule \"tcp/99999\"", "acls[0].ports: icmp", "--hours: hours \"mon 0800\"", "Europe/Nowhere", "start equals end", "--expires: time \"5x\""} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not said:\n%s", want, all)
		}
	}
	if _, errs, _ := s.run("policy", "create", "p", "--from", "A B", "--allow", "ftp/2"); strings.Count(errs, "\n  ") != 2 {
		t.Errorf("for people: %s", errs)
	}
}

// TestNobodyAnswers: what is not there may come, so scripts may try again.
func TestNobodyAnswers(t *testing.T) {
	s := newShell(t)
	s.env["ENCLAVE_TOKEN"] = "t"
	if r := s.refused(exitTryAgain, "system", "list", "--url", "https://127.0.0.1:1"); r.Code != "unreachable" || r.Hint == "" {
		t.Errorf("no server: %+v", r)
	}
	for _, verb := range [][]string{{"ping", "web"}, {"agent", "status"}, {"waitfor", "web", "--timeout", "150ms"}} {
		if r := s.refused(exitTryAgain, verb...); r.Code != "no_agent" || r.Hint == "" {
			t.Errorf("%v without an agent: %+v", verb, r)
		}
	}
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, line := range []string{"up --stun 127.0.0.1:0", "control", "sandbox serve"} {
		if r := s.refused(exitTryAgain, append(strings.Fields(line), "--listen", other.Addr().String())...); r.Code != "port_taken" || r.Hint == "" {
			t.Errorf("%s on a port that is taken: %+v", line, r)
		}
	}
}

// TestSignIn: without a token that counts it is 3, whatever is wrong with it.
func TestSignIn(t *testing.T) {
	s := newSite(t, nil)
	signedOut := func(what string) {
		t.Helper()
		if r := s.refused(exitSignIn, "system", "list"); r.Code != "unauthorised" || !strings.Contains(r.Hint, "ENCLAVE_TOKEN_FILE") {
			t.Errorf("%s: %+v", what, r)
		}
	}
	s.env["ENCLAVE_TOKEN"] = "enctok_wrong"
	signedOut("a wrong token")
	delete(s.env, "ENCLAVE_TOKEN")
	if err := os.Remove(filepath.Join(s.dir, tokenFile)); err != nil {
		t.Fatal(err)
	}
	signedOut("no token file")
	s.env = map[string]string{"ENCLAVE_STATE": privateDir(t), "ENCLAVE_URL": s.url}
	signedOut("no token")
	delete(s.env, "ENCLAVE_URL")
	if r := s.refused(exitUsage, "system", "list"); !strings.Contains(r.Hint, "enclave login") {
		t.Errorf("no address: %+v", r)
	}
}

// TestWhatIsNotThere: 5 for what is unknown, 2 for a name that fits several.
func TestWhatIsNotThere(t *testing.T) {
	s := newSite(t, nil)
	for _, line := range []string{"system show nobody", "system approve nobody", "tag add nobody x", "policy show none", "policy enable none", "key disable none", "trust met nobody mfa"} {
		if r := s.refused(exitNotFound, strings.Fields(line)...); r.Code != "not_found" || !strings.Contains(r.Hint, " list") {
			t.Errorf("%s: %+v", line, r)
		}
	}
	a, b := s.mustEnrol("twin"), s.mustEnrol("twin")
	if r := s.refused(exitUsage, "system", "show", "twin"); r.Code != "ambiguous" || !strings.Contains(r.Message, string(a)) || !strings.Contains(r.Message, string(b)) {
		t.Errorf("an ambiguous name: %+v", r)
	}
	if r := s.refused(exitRefused, "system", "approve", string(a)); r.Code != "conflict" {
		t.Errorf("approving twice: %+v", r)
	}
}

// TestWrongFingerprint: somebody may be in between, so nothing is sent.
func TestWrongFingerprint(t *testing.T) {
	s := newSite(t, nil)
	wrong := "sha256:" + strings.Repeat("0", 64)
	if r := s.refused(exitUsage, "agent", "--state", privateDir(t), "--control", s.url, "--ca-fingerprint", wrong, "--name", "a", "--key-file", s.secret(s.first.EnrolmentKey)); r.Code != "wrong_fingerprint" || r.Hint == "" {
		t.Errorf("agent: %+v", r)
	}
	if r := s.refused(exitUsage, "relay", "--listen", "127.0.0.1:0", "--state", privateDir(t), "--control", s.url, "--ca-fingerprint", wrong, "--key-file", s.secret(s.first.EnrolmentKey)); r.Code != "wrong_fingerprint" {
		t.Errorf("relay: %+v", r)
	}
	s.env["ENCLAVE_CA_FINGERPRINT"] = wrong
	if r := s.refused(exitUsage, "system", "list"); r.Code != "wrong_fingerprint" {
		t.Errorf("a verb: %+v", r)
	}
}

// TestStateDirectory: who else can read it, who else runs on it, and what is damaged.
func TestStateDirectory(t *testing.T) {
	s := newShell(t)
	modes := map[string][]string{
		"up":      {"up", "--listen", "127.0.0.1:0", "--stun", "127.0.0.1:0"},
		"control": {"control", "--listen", "127.0.0.1:0"},
		"agent":   {"agent", "--control", "https://127.0.0.1:1", "--ca-fingerprint", "sha256:" + strings.Repeat("0", 64), "--name", "a"},
		"relay":   {"relay", "--listen", "127.0.0.1:0", "--control", "https://127.0.0.1:1", "--ca-fingerprint", "sha256:" + strings.Repeat("0", 64)},
	}
	file := map[string]string{"up": "enclave.db", "control": "enclave.db", "agent": agentFile, "relay": relayFile}
	lock := map[string]string{"up": "", "control": "", "agent": "agent", "relay": "relay"}
	for name, line := range modes {
		dir := privateDir(t)
		line = append(line, "--state", dir)
		if err := os.Chmod(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		if r := s.refused(exitUsage, line...); r.Code != "open_to_others" || !strings.Contains(r.Message, dir) {
			t.Errorf("%s on a directory open to others: %+v", name, r)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}

		release := hold(t, dir, lock[name])
		if r := s.refused(exitTryAgain, line...); r.Code != "locked" || !strings.Contains(r.Message, dir) {
			t.Errorf("a second %s: %+v", name, r)
		}
		release()

		damaged := filepath.Join(dir, file[name])
		junk := []byte(`{"version":1,"identity":"AAAA`)
		if err := os.WriteFile(damaged, junk, 0o600); err != nil {
			t.Fatal(err)
		}
		os.Remove(damaged + "-wal")
		os.Remove(damaged + "-shm")
		if r := s.refused(exitDamaged, line...); r.Code != "damaged" || !strings.Contains(r.Message, damaged) || r.Hint == "" {
			t.Errorf("%s with damaged state: %+v", name, r)
		}
		if read(t, damaged) != string(junk) {
			t.Errorf("%s wrote to its damaged state", name)
		}
	}

	dir := privateDir(t)
	if err := os.WriteFile(filepath.Join(dir, contextFile), []byte(`{"url":"https://127.0`), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := s.refused(exitDamaged, "system", "list", "--state", dir); r.Code != "damaged" || !strings.Contains(r.Message, contextFile) || r.Hint == "" {
		t.Errorf("a truncated context file: %+v", r)
	}

	// Whoever empties the database gets no other organisation in its place.
	for _, name := range []string{"up", "control"} {
		dir := privateDir(t)
		if err := writeContext(dir, apiContext{URL: "https://127.0.0.1:1", TokenFile: tokenFile, Fingerprint: "sha256:" + strings.Repeat("0", 64)}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // gone, and empty
			if r := s.refused(exitDamaged, append(modes[name], "--state", dir)...); r.Code != "damaged" || !strings.Contains(r.Message, "empty or gone") {
				t.Errorf("%s without its database: %+v", name, r)
			}
			if _, err := os.Stat(filepath.Join(dir, "keyring.age")); err == nil {
				t.Errorf("%s makes something in its place", name)
			}
			if err := os.WriteFile(filepath.Join(dir, store.DatabaseName), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// hold runs on a state directory as another process would.
func hold(t *testing.T, dir, name string) func() {
	t.Helper()
	if name == "" {
		st, err := store.Open(context.Background(), dir)
		if err != nil {
			t.Fatal(err)
		}
		return func() { st.Close() }
	}
	l, err := store.LockDir(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	return func() { l.Close() }
}
