package e2e

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"enclave/store"
)

// TestFullDisk puts the state on a small disk and fills that: changes are refused with a
// code of their own, reading and connected systems go on, and with room it heals by itself.
func TestFullDisk(t *testing.T) {
	l := emptyLab(t)
	if err := os.Mkdir(l.path("up"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", l.path("up"), "tmpfs", 0, "size=8m,mode=0700"); err != nil {
		t.Skipf("no small disk without root: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(l.path("up"), unix.MNT_DETACH) })
	l.startUp("127.0.0.1:0")
	reach := l.pair()
	refused, healed := 0, 0
	for round := range 3 {
		filler := filepath.Join(l.path("up"), "filler")
		f, err := os.Create(filler)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(f, zeros{}); err == nil {
			t.Fatal("it is not full")
		}
		f.Close()
		for i := range 40 {
			_, errs, exit := l.run("tag", "set", fmt.Sprintf("full-%d-%d", round, i), "--json")
			if exit == 0 {
				continue // there was room in the log
			}
			if refused++; exit != 6 || !strings.Contains(errs, `"code":"disk_full"`) {
				t.Errorf("exit %d: %s", exit, errs)
			}
			if i > 30 || refused > 3*(round+1) {
				break
			}
		}
		l.ok("system", "list")
		l.ok("status")
		if err := reach(); err != nil {
			t.Errorf("while the disk is full: %v", err)
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		l.ok("tag", "set", fmt.Sprintf("room-%d", round))
		healed++
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
	if h, err := l.admin().Health(t.Context(), true); err != nil || h.PagesErr+h.IntegrErr+h.ChainErr != "" {
		t.Errorf("%+v, %v", h, err)
	}
	t.Logf("%d changes refused with disk_full, %d of 3 healed by themselves", refused, healed)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestLockedMemory looks through the memory of a control plane for the keys of its state,
// before and after it is locked.
func TestLockedMemory(t *testing.T) {
	l := newLab(t)
	identity, err := os.ReadFile(filepath.Join(l.path("up"), "identity.age.txt"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(identity)), "\n")
	text := lines[len(lines)-1]
	needles := map[string][]byte{"identity": []byte(text)}
	id, err := age.ParseHybridIdentity(text)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := os.Open(filepath.Join(l.path("up"), "keyring.age"))
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	r, err := age.Decrypt(ring, id)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ Roots []struct{ Root []byte } }
	if err := json.NewDecoder(r).Decode(&doc); err != nil || len(doc.Roots) == 0 {
		t.Fatal(err)
	}
	root := doc.Roots[len(doc.Roots)-1].Root
	for _, role := range []string{"database", "write-ahead log"} { // the expanded keys of AES begin with the key
		both := subkey(t, root, "sectors of "+role, 64)
		needles["data key of the "+role], needles["tweak key of the "+role] = both[:32], both[32:]
	}
	needles["key of rows"] = subkey(t, root, "rows", 32)
	pad := subkey(t, root, "page mac", 32)
	for i := range pad {
		pad[i] ^= 0x36 // as HMAC keeps it
	}
	needles["key of page MACs"] = pad
	needles["root"], needles["root in the keyring's text"] = root, []byte(base64.StdEncoding.EncodeToString(root))
	needles["CA key"], needles["ticket key"] = organisationKeys(t, l.path("up"))
	before, err := scanMemory(l.upProcess.cmd.Process.Pid, needles)
	if err != nil {
		t.Skipf("this user may not look into a process that holds keys, which is as it should be: %v", err)
	}
	if before["root"] == 0 || before["data key of the database"] == 0 || before["CA key"] == 0 {
		t.Error("keys are not found while they are in use: the search is blind")
	}
	l.ok("seal", "lock", "--state", l.path("up"))
	after, err := scanMemory(l.upProcess.cmd.Process.Pid, needles)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("copies in memory, open: %v; locked: %v", before, after)
	for what, n := range after {
		if n > 0 && what != "identity" { // age made copies that only time overwrites
			t.Errorf("%d copies of the %s are still in memory", n, what)
		}
	}
}

// organisationKeys reads the secrets of an organisation out of a copy of its state.
func organisationKeys(t *testing.T, dir string) (ca, ticket []byte) {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"enclave.db", "enclave.db-wal", "keyring.age", "identity.age.txt"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || os.WriteFile(filepath.Join(to, name), b, 0o600) != nil {
			t.Fatal(err)
		}
	}
	st, err := store.Open(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	org, err := st.Org(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(org.CAKey)
	if err != nil {
		t.Fatal(err)
	}
	return key.(ed25519.PrivateKey).Seed(), org.TicketKey
}

// subkey derives a key as docs/format/sealed-file.md says.
func subkey(t *testing.T, root []byte, purpose string, size int) []byte {
	t.Helper()
	k, err := hkdf.Expand(sha256.New, root, "enclave seal v1: "+purpose, size)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// scanMemory counts needles in the memory of a process.
func scanMemory(pid int, needles map[string][]byte) (map[string]int, error) {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	defer maps.Close()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	found := map[string]int{}
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		const step, overlap = 4 << 20, 256
		for at := from; at < to; at += step {
			b := make([]byte, min(step+overlap, to-at))
			n, _ := mem.ReadAt(b, int64(at)) // holes read as less
			for what, needle := range needles {
				found[what] += bytes.Count(b[:min(n, step)], needle)
			}
		}
	}
	return found, lines.Err()
}
