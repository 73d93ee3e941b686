package agent

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"enclave/wire/svid"
)

func privateKey(s *state) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(s.Identity) }

func readAll(r *http.Request) []byte { b, _ := io.ReadAll(r.Body); return b }

func TestStateRoundTrip(t *testing.T) {
	now := time.Now()
	var k MemoryKeeper
	s := newOrg(t, now).enrolled(now)
	s.Seen, s.Map, s.MapAt = 7, json.RawMessage(`{"revision":7}`), now.UTC().Round(0)
	if err := s.save(&k); err != nil {
		t.Fatal(err)
	}
	back, fresh, err := loadState(&k)
	if err != nil || fresh {
		t.Fatalf("fresh %v, %v", fresh, err)
	}
	a, _ := json.Marshal(s)
	b, _ := json.Marshal(back)
	if !bytes.Equal(a, b) {
		t.Fatalf("wrote %s\nread %s", a, b)
	}
}

// TestKeysAreKeptBeforeTheyAreUsed: an agent that dies while it enrols asks again with
// the same identity, and so uses up one enrolment.
func TestKeysAreKeptBeforeTheyAreUsed(t *testing.T) {
	now := time.Now()
	s := &script{org: newOrg(t, now)}
	b := newBench(t, s, nil)
	first := b.keys
	b.make(t)
	if b.keys.Identity != first.Identity || b.keys.WireGuard != first.WireGuard || b.keys.Disco != first.Disco {
		t.Fatal("the second start has other keys")
	}
	if err := svid.CheckKeys(&b.keys); err != nil {
		t.Fatal(err)
	}
}

// TestBadConfigLeavesNothing: who mistypes a flag has not made an identity.
func TestBadConfigLeavesNothing(t *testing.T) {
	var k MemoryKeeper
	_, err := New(Config{Name: "Not A Name", Control: "http://plain", Fingerprint: "md5:", Keeper: &k, MTU: 10})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"name", "https://host:port", "Network", "MTU 10"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %q", err, want)
		}
	}
	if _, err := k.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("a state was written")
	}
	if _, err := New(Config{}); err == nil {
		t.Fatal("a config without a keeper is accepted")
	}
}

func TestDamagedState(t *testing.T) {
	now := time.Now()
	o := newOrg(t, now)
	foreign := newOrg(t, now).enrolled(now)
	for name, tc := range map[string]struct {
		spoil func(*state)
		says  string
	}{
		"newer":               {func(s *state) { s.Version = stateVersion + 1 }, "newer version"},
		"no version":          {func(s *state) { s.Version = 0 }, "version 0"},
		"short identity":      {func(s *state) { s.Identity = s.Identity[1:] }, "size"},
		"short wireguard key": {func(s *state) { s.WireGuard = nil }, "size"},
		"no certificate":      {func(s *state) { s.SVID = nil }, "no certificate"},
		"empty certificate":   {func(s *state) { s.SVID = [][]byte{{}} }, "SVID"},
		"foreign certificate": {func(s *state) { s.SVID = foreign.SVID }, "somebody else"},
		"other system":        {func(s *state) { s.System = "bbbbb" }, "somebody else"},
		"odd system":          {func(s *state) { s.System = "../../" }, "system ID"},
		"no roots":            {func(s *state) { s.Roots = nil }, "root"},
		"leaf as root":        {func(s *state) { s.Roots = s.SVID }, "CA"},
		"one root more":       {func(s *state) { s.Roots = append(s.Roots, newOrg(t, now).ca.Roots()...) }, "not the one"},
	} {
		s := o.enrolled(now)
		tc.spoil(s)
		raw, _ := json.Marshal(s)
		_, err := parseState(raw)
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v, want ErrDamaged saying %q", name, err, tc.says)
		}
	}
	for _, text := range []string{"", "{", "null", "[]", `{"version":1}`, `{"version":9,"shiny":true}`, `{"version":1,"version":1}`, "{} {}"} {
		_, err := parseState([]byte(text))
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%q: got %v", text, err)
		}
		if strings.Contains(text, "shiny") && !strings.Contains(err.Error(), "newer version") {
			t.Errorf("a newer state is told as %v", err)
		}
	}
}

// TestDamagedFileStays: what cannot be read is not overwritten.
func TestDamagedFileStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.json")
	if err := os.WriteFile(path, []byte("half a sta"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &script{org: newOrg(t, time.Now())}
	_, err := New(Config{Name: "me", Control: "https://c", Fingerprint: s.org.ca.Fingerprint(), Keeper: FileKeeper(path), Network: s})
	if !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "half a sta" {
		t.Fatalf("the file is now %q", b)
	}
}

func TestFileKeeper(t *testing.T) {
	dir := t.TempDir()
	k := FileKeeper(filepath.Join(dir, "agent.json"))
	if _, err := k.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, text := range []string{"one, longer than two", "two"} {
		if err := k.Save([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if b, err := k.Load(); err != nil || string(b) != text {
			t.Fatalf("%q, %v", b, err)
		}
	}
	if all, _ := os.ReadDir(dir); len(all) != 1 {
		t.Errorf("left behind: %v", all)
	}
	info, err := os.Stat(string(k))
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: the keys are open to others", info.Mode())
	}
}

// TestSaveIsWholeOrNothing: a reader of any moment finds the old state or the new, and
// a save that fails leaves the old one and nothing else.
func TestSaveIsWholeOrNothing(t *testing.T) {
	dir := t.TempDir()
	k := FileKeeper(filepath.Join(dir, "agent.json"))
	a, b := bytes.Repeat([]byte("a"), 1<<16), bytes.Repeat([]byte("b"), 1<<17)
	if err := k.Save(a); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	torn := make(chan int, 1)
	go func() {
		defer close(torn)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if got, err := k.Load(); err != nil || !bytes.Equal(got, a) && !bytes.Equal(got, b) {
				torn <- len(got)
				return
			}
		}
	}()
	for i := range 50 {
		if err := k.Save([][]byte{b, a}[i%2]); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	if n, ok := <-torn; ok {
		t.Fatalf("a reader found %d bytes of neither", n)
	}
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := FileKeeper(filepath.Join(dir, "taken")).Save(a); err == nil {
		t.Fatal("a directory was replaced")
	}
	if all, _ := os.ReadDir(dir); len(all) != 2 {
		t.Errorf("left behind: %v", all)
	}
}

func TestStateOfAnotherOrganisation(t *testing.T) {
	now := time.Now()
	s := &script{org: newOrg(t, now)}
	var k MemoryKeeper
	if err := newOrg(t, now).enrolled(now).save(&k); err != nil {
		t.Fatal(err)
	}
	_, err := New(Config{Name: "me", Control: "https://c", Fingerprint: s.org.ca.Fingerprint(), Keeper: &k, Network: s})
	if !errors.Is(err, svid.ErrFingerprint) {
		t.Fatal(err)
	}
	// Enrolled, it knows where it belongs.
	a, err := New(Config{Name: "me", Keeper: &k, Network: s})
	if err != nil || a.cfg.Control != "https://control.test" {
		t.Fatalf("%v", err)
	}
}

func FuzzState(f *testing.F) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := newOrg(f, now).enrolled(now)
	for _, spoil := range []func(){func() {}, func() { s.Map = json.RawMessage(`{"peers":[]}`) }, func() { s.SVID = nil }, func() { s.System = "" }} {
		spoil()
		raw, _ := json.Marshal(s)
		f.Add(raw)
	}
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		k := &MemoryKeeper{b: raw}
		a, err := New(Config{Name: "me", Control: "https://c", Fingerprint: "sha256:" + strings.Repeat("0", 64), Keeper: k, Network: &script{}})
		if err != nil {
			return
		}
		if a.st.System != "" && a.renewIn(now) == 0 {
			t.Skip() // it has a certificate: that is what is asked
		}
		var again MemoryKeeper
		if err := a.st.save(&again); err != nil {
			t.Fatal(err)
		}
		if _, _, err := loadState(&again); err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
	})
}
