package cli

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"enclave/agent"
	"enclave/cli/node"
	"enclave/store"
	"enclave/store/seal"
)

// stopped makes a state that no process runs on.
func stopped(t *testing.T, dir string, opts ...store.Option) {
	t.Helper()
	s, err := store.Open(t.Context(), dir, opts...)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil || d.More() {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

func TestSeal(t *testing.T) {
	s := newShell(t)
	dir := s.env["ENCLAVE_STATE"]
	if r := s.refused(exitNotFound, "seal", "status"); r.Code != "no_state" {
		t.Errorf("got %+v", r)
	}
	stopped(t, dir)
	beside := filepath.Join(dir, seal.IdentityName)
	st := decode[node.SealState](t, s.ok("seal", "status", "--pages", "--json"))
	if st.Root != 1 || !st.Beside || st.Unfinished || len(st.Recipients) != 1 || st.Recipients[0].Kind != "hybrid" || st.Pages == nil || *st.Pages < 10 {
		t.Fatalf("status %+v", st)
	}
	if out := s.ok("seal", "status"); !strings.Contains(out, "hybrid") || !strings.Contains(out, seal.IdentityName) {
		t.Errorf("status says\n%s", out)
	}

	// Another identity takes the place of the one beside the state.
	id, text, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	mine := s.secret(text)
	out := s.ok("seal", "add", id.Recipient.String(), "--only")
	if !strings.Contains(out, "1 can open") || !strings.Contains(out, beside+" opens nothing any more") {
		t.Errorf("add says\n%s", out)
	}
	if r := s.refused(exitUsage, "seal", "status"); r.Code != "wrong_identity" || !strings.Contains(r.Message, "unseal: ") {
		t.Errorf("got %+v", r)
	}
	if err := os.Remove(beside); err != nil {
		t.Fatal(err)
	}
	if r := s.refused(exitUsage, "up", "--listen", "127.0.0.1:0", "--stun", "127.0.0.1:0"); r.Code != "no_identity" || !strings.Contains(r.Message, "open store") {
		t.Errorf("got %+v", r)
	}
	s.env["ENCLAVE_IDENTITY_FILE"] = mine
	st = decode[node.SealState](t, s.ok("seal", "status", "--json"))
	if st.Beside || st.Recipients[0].Recipient != id.Recipient.String() {
		t.Errorf("status %+v", st)
	}

	// A second one of its kind, then the first goes.
	other, otherText, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	s.ok("seal", "add", other.Recipient.String())
	if r := s.refused(exitUsage, "seal", "remove", "age1pq1"); r.Code != "ambiguous" {
		t.Errorf("got %+v", r)
	}
	if r := s.refused(exitNotFound, "seal", "remove", "age1nobodyatall"); r.Code != "not_found" {
		t.Errorf("got %+v", r)
	}
	offered := func(args ...string) (words []string) {
		t.Helper()
		out, _, _ := s.run(append([]string{"__complete", "seal", "remove"}, args...)...)
		for line := range strings.Lines(out) {
			if word, _, ok := strings.Cut(line, "\t"); ok {
				words = append(words, word)
			}
		}
		return words
	}
	words := offered("")
	for _, r := range []seal.Recipient{id.Recipient, other.Recipient} {
		if !slices.ContainsFunc(words, func(w string) bool {
			one, err := match([]seal.Recipient{id.Recipient, other.Recipient}, w)
			return err == nil && one.String() == r.String() && len(w) < 40
		}) {
			t.Errorf("%.20s… is not offered: %q", r, words)
		}
	}
	if words := offered(id.Recipient.String()[:100]); len(words) != 1 || words[0] != id.Recipient.String()[:100] {
		t.Errorf("more typed: %q", words)
	}
	if words := offered(id.Recipient.String(), ""); len(words) != 0 {
		t.Errorf("a second argument: %q", words)
	}
	changed := decode[sealChanged](t, s.ok("seal", "remove", id.Recipient.String()[:80], "--json"))
	if changed.Recipient != id.Recipient.String() || changed.Recipients != 1 {
		t.Errorf("remove says %+v", changed)
	}
	if r := s.refused(exitUsage, "seal", "rotate"); r.Code != "wrong_identity" {
		t.Errorf("got %+v", r)
	}
	delete(s.env, "ENCLAVE_IDENTITY_FILE")
	s.in = "# from a pipe\n" + otherText + "\n"
	out = s.ok("seal", "rotate", "--identity", "-")
	if !strings.Contains(out, "root 2") {
		t.Errorf("rotate says %s", out)
	}
	s.in = otherText
	if r := s.refused(exitRefused, "seal", "remove", other.Recipient.String(), "--identity", "-"); r.Code != "last_recipient" {
		t.Errorf("got %+v", r)
	}
	s.in = text
	if r := s.refused(exitUsage, "seal", "status", "--identity", "-"); r.Code != "wrong_identity" {
		t.Errorf("got %+v", r)
	}
	s.in = otherText

	// A passphrase stands alone; an SSH key comes after it.
	pass := s.secret("correct horse battery staple")
	if r := s.refused(exitUsage, "seal", "add", "passphrase", "--new-passphrase-file", pass, "--identity", "-"); r.Code != "mixed_recipients" {
		t.Errorf("got %+v", r)
	}
	s.ok("seal", "add", "passphrase", "--new-passphrase-file", pass, "--only", "--identity", "-")
	s.env["ENCLAVE_PASSPHRASE_FILE"] = pass
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	s.ok("seal", "add", string(ssh.MarshalAuthorizedKey(sshPub)), "--only")
	delete(s.env, "ENCLAVE_PASSPHRASE_FILE")
	st = decode[node.SealState](t, s.ok("seal", "status", "--pages", "--json", "--identity", s.secret(string(pem.EncodeToMemory(block)))))
	if st.Root != 2 || st.Recipients[0].Kind != "ssh" || *st.Pages < 10 {
		t.Errorf("status %+v", st)
	}
}

func TestSealOfBrokenState(t *testing.T) {
	s := newShell(t)
	dir := s.env["ENCLAVE_STATE"]
	stopped(t, dir)
	db := filepath.Join(dir, store.DatabaseName)
	whole, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	spoilt := bytes.Clone(whole)
	spoilt[len(spoilt)-9] ^= 1
	if err := os.WriteFile(db, spoilt, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := s.refused(exitDamaged, "seal", "status", "--pages"); r.Code != "damaged" || !strings.Contains(r.Message, "page ") {
		t.Errorf("got %+v", r)
	}
	if err := os.WriteFile(filepath.Join(dir, seal.KeyringName), []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := s.refused(exitDamaged, "seal", "status"); r.Code != "damaged" {
		t.Errorf("got %+v", r)
	}
	if err := os.Remove(filepath.Join(dir, seal.KeyringName)); err != nil {
		t.Fatal(err)
	}
	for _, verb := range [][]string{{"seal", "status"}, {"seal", "rotate"}, {"up", "--listen", "127.0.0.1:0", "--stun", "127.0.0.1:0"}} {
		if r := s.refused(exitDamaged, verb...); r.Code != "no_keyring" {
			t.Errorf("%v: %+v", verb, r)
		}
	}
}

// TestSealOfAgent keeps an agent's state, rotates it and damages it.
func TestSealOfAgent(t *testing.T) {
	s := newShell(t)
	dir := s.env["ENCLAVE_STATE"]
	file := filepath.Join(dir, agentFile)
	clear := []byte(`{"secret":"in clear, of an older version"}`)
	if err := os.WriteFile(file, clear, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := s.refused(exitRefused, "seal", "status"); r.Code != "in_clear" {
		t.Errorf("got %+v", r)
	}
	keeper := func() *node.Keeper { return &node.Keeper{Dir: dir, File: agentFile, Damaged: agent.ErrDamaged} }
	load := func() ([]byte, error) { return keeper().Load() }
	if b, err := load(); err != nil || !bytes.Equal(b, clear) {
		t.Fatalf("loaded %q, %v", b, err)
	}
	if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, clear) {
		t.Errorf("reading changed it to %q, %v", b, err)
	}
	if err := keeper().Settle(); err != nil {
		t.Fatal(err)
	}
	sealed, err := os.ReadFile(file)
	if err != nil || bytes.Contains(sealed, []byte("secret")) {
		t.Fatalf("still in clear: %q, %v", sealed, err)
	}
	for _, name := range []string{"agent", "relay", "sandbox"} { // each may write under the keys that a rotation drops
		lock, err := store.LockDir(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		if _, errs, exit := s.run("seal", "rotate"); exit == exitOK {
			t.Errorf("rotated beside a running %s: %s", name, errs)
		}
		if err := lock.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s.ok("seal", "rotate")
	if b, err := load(); err != nil || !bytes.Equal(b, clear) {
		t.Fatalf("after a rotation: %q, %v", b, err)
	}
	if again, err := os.ReadFile(file); err != nil || bytes.Equal(again, sealed) {
		t.Error("the rotation left it", err)
	}
	if err := os.WriteFile(file, sealed, 0o600); err != nil { // of the root that is gone
		t.Fatal(err)
	}
	if _, err := load(); err == nil || !strings.Contains(err.Error(), agent.ErrDamaged.Error()) {
		t.Errorf("got %v", err)
	}
	if r := s.refused(exitDamaged, "agent", "--control", "https://127.0.0.1:1", "--ca-fingerprint", "sha256:"+strings.Repeat("A", 43), "--name", "x"); r.Code != "damaged" || !strings.Contains(r.Message, file) {
		t.Errorf("got %+v", r)
	}
}

// TestRotationBesideOthers: whatever keeps its state in the directory of a control plane
// opens after a rotation, also when it runs on meanwhile and saves again.
func TestRotationBesideOthers(t *testing.T) {
	s := newShell(t)
	dir := s.env["ENCLAVE_STATE"]
	stopped(t, dir)
	for _, file := range []string{agentFile, relayFile, sandboxFile} {
		keeper := func() *node.Keeper { return &node.Keeper{Dir: dir, File: file, Damaged: agent.ErrDamaged} }
		running := keeper()
		if err := running.Save([]byte("before")); err != nil {
			t.Fatal(err)
		}
		s.ok("seal", "rotate")
		if b, err := keeper().Load(); err != nil || string(b) != "before" {
			t.Errorf("%s after a rotation: %q, %v", file, b, err)
		}
		if err := running.Save([]byte("after")); err != nil {
			t.Fatal(err)
		}
		if b, err := keeper().Load(); err != nil || string(b) != "after" {
			t.Errorf("%s, saved after a rotation: %q, %v", file, b, err)
		}
	}
}

// TestRotationInTheSameInstant: a process that saves while another rotates. What it saved
// last is there afterwards, and opens.
func TestRotationInTheSameInstant(t *testing.T) {
	dir := privateDir(t)
	keeper := func() *node.Keeper { return &node.Keeper{Dir: dir, File: agentFile, Damaged: agent.ErrDamaged} }
	saves, loads := keeper(), keeper()
	if err := saves.Save([]byte("0")); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		for range 40 {
			k, _, err := seal.Unseal(dir, nil) // as another process would
			if err == nil {
				_, err = k.RotateFiles(t.Context(), dir, time.Now())
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for n := 1; ; n++ {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
		want := strconv.Itoa(n)
		if err := saves.Save([]byte(want)); err != nil {
			t.Fatal(err)
		}
		b, err := loads.Load()
		if err != nil || string(b) != want {
			t.Errorf("saved %s, loaded %q, %v", want, b, err)
		}
	}
}
