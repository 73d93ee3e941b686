//go:build unix

package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhomAStateMayBelongTo(t *testing.T) {
	const alice, bob, nobody = 1000, 1001, 65534
	for _, tc := range []struct {
		name  string
		me    runner
		owner uint32
		want  bool
	}{
		{"my own", runner{uid: alice, sudoer: -1}, alice, true},
		{"root's, of a user", runner{uid: alice, sudoer: -1}, 0, true},
		{"another's", runner{uid: alice, sudoer: -1}, bob, false},
		{"root's, of root", runner{uid: 0, sudoer: -1}, 0, true},
		{"a user's, as root", runner{uid: 0, sudoer: -1}, alice, false},
		{"mine, under sudo", runner{uid: 0, sudoer: alice}, alice, true},
		{"another's, under sudo", runner{uid: 0, sudoer: alice}, bob, false},
		{"another's, SUDO_UID left over", runner{uid: alice, sudoer: bob}, bob, false},
		{"nobody's, where nobody is a user", runner{uid: 0, sudoer: -1}, nobody, false},
		{"nobody's, in a namespace", runner{uid: 0, sudoer: -1, hidden: nobody}, nobody, true},
		{"another's, in a namespace", runner{uid: 0, sudoer: -1, hidden: nobody}, alice, false},
		{"my own, that is not mapped", runner{uid: nobody, sudoer: -1, hidden: nobody}, nobody, true},
	} {
		if got := tc.me.trusts(tc.owner); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
	for ids, want := range map[string]bool{
		"         0          0 4294967295\n":        true,
		"         0       1000          1\n":        false,
		"0 1000 1\n1 100000 65536\n":                false,
		"0 0 4294967294\n4294967294 4294967294 1\n": false,
		"": false,
		"         0          0 4294967295\n 1 2 3\n":             false,
		"         0     100000 4294967295\n":                     false,
		strings.Repeat("         0          0 4294967295\n", 50): false,
	} {
		if mapsAll(ids) != want {
			t.Errorf("%q: %v", ids, !want)
		}
	}
}

// TestAStateOfAnotherUser gives the directory, then a file in it, to somebody else.
func TestAStateOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	t.Setenv("SUDO_UID", "")
	const alice = 54321
	dir := stateDir(t)
	if err := made(t, dir, InitParams{}).Close(); err != nil {
		t.Fatal(err)
	}
	refused := func(what string) {
		t.Helper()
		if err := CheckOwner(dir); !errors.Is(err, ErrNotOurs) || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), "54321") {
			t.Errorf("%s: %v", what, err)
		}
	}
	give := func(path string, to int) {
		t.Helper()
		if err := os.Chown(path, to, -1); errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrInvalid) {
			t.Skip("the namespace has no other users")
		} else if err != nil {
			t.Fatal(err)
		}
	}
	give(dir, alice)
	refused(dir)
	t.Setenv("SUDO_UID", "54321") // alice's own, under sudo
	if err := CheckOwner(dir); err != nil {
		t.Error(err)
	}
	t.Setenv("SUDO_UID", "")
	give(dir, 0)
	keyring := filepath.Join(dir, "keyring.age")
	give(keyring, alice)
	refused(keyring)
	give(keyring, 0)
	if err := errors.Join(CheckOwner(dir), CheckOwner(filepath.Join(dir, "nothing"))); err != nil {
		t.Error(err)
	}
}
