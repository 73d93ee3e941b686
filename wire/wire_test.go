package wire_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"enclave/wire"
)

func TestParseTag(t *testing.T) {
	for _, good := range []string{"a", "developers", "k8s.prod-1", "0", strings.Repeat("a", 64)} {
		if _, err := wire.ParseTag(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "A", "a-", "-a", "a--b", "a.-b", "a_b", "ä", "a b", "a\n", strings.Repeat("a", 65)} {
		if _, err := wire.ParseTag(bad); !errors.Is(err, wire.ErrBadTag) {
			t.Errorf("%q was accepted (%v)", bad, err)
		}
	}
}

func TestParsePorts(t *testing.T) {
	for _, good := range []string{"22", "22,80,8000-8100", "1-65535", "80,80"} {
		p, err := wire.ParsePorts(good)
		if err != nil || p.String() != good {
			t.Errorf("%q: %v, %v", good, p, err)
		}
	}
	for bad, want := range map[string]string{
		"": "want a number", "0": "want a number", "65536": "want a number", "-1": "want a number",
		"+1": "want a number", "080": "want a number", "90-80": "reversed: write 80-90", "1,": "want a number",
		"1-2-3": "want a number", strings.Repeat("1,", 300) + "1": "at most 256",
	} {
		if _, err := wire.ParsePorts(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", bad, err, want)
		}
	}
}

func TestGrantIsHalfOpen(t *testing.T) {
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	g := wire.Grant{NotBefore: from, NotAfter: from.Add(time.Hour)}
	for d, want := range map[time.Duration]bool{-1: false, 0: true, time.Hour - 1: true, time.Hour: false} {
		if g.ActiveAt(from.Add(d)) != want {
			t.Errorf("at start%+v: %v", d, !want)
		}
	}
	if !(&wire.Grant{}).ActiveAt(from) {
		t.Error("an unbounded grant does not count")
	}
}

func TestApplyNeverGoesBack(t *testing.T) {
	m := wire.Map{Revision: 5, Peers: []wire.Peer{{ID: "aaaaa"}, {ID: "ccccc"}}}
	if err := m.Apply(&wire.Delta{Since: 5, Revision: 4}); !errors.Is(err, wire.ErrOldRevision) {
		t.Errorf("an older revision: %v", err)
	}
	if err := m.Apply(&wire.Delta{Since: 4, Revision: 6}); !errors.Is(err, wire.ErrGap) {
		t.Errorf("a gap: %v", err)
	}
	if m.Revision != 5 || len(m.Peers) != 2 {
		t.Fatalf("a refused delta changed the map: %+v", m)
	}
	d := wire.Delta{Since: 5, Revision: 6, Gone: []wire.SystemID{"aaaaa", "zzzzz"}, Upsert: []wire.Peer{{ID: "bbbbb"}}}
	if err := m.Apply(&d); err != nil {
		t.Fatal(err)
	}
	if len(m.Peers) != 2 || m.Peers[0].ID != "bbbbb" || m.Peers[1].ID != "ccccc" || m.Revision != 6 {
		t.Errorf("got %+v", m)
	}
}

func TestKeysReadBack(t *testing.T) {
	k := wire.WireGuardKey{1, 2, 3}
	text, _ := k.MarshalText()
	var got wire.WireGuardKey
	if err := got.UnmarshalText(text); err != nil || got != k {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "AQID", strings.Repeat("A", 44), string(text[:43]) + "!"} {
		if got.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q was accepted as a key", bad)
		}
	}
}

func TestNewIDReadsAloud(t *testing.T) {
	seen := make(map[string]bool)
	for range 100 {
		id := wire.NewID(5)
		if _, err := wire.ParseSystemID(id); err != nil || strings.ContainsAny(id, "ilou") {
			t.Fatalf("%q: %v", id, err)
		}
		seen[id] = true
	}
	if len(seen) < 99 {
		t.Errorf("only %d of 100 IDs differ", len(seen))
	}
}
