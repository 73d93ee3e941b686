package audit

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

func TestHashesAreTheInverseOfBytes(t *testing.T) {
	list := []tlog.Hash{{1}, {2, 31: 9}}
	if back, err := Hashes(Bytes(list)); err != nil || !slices.Equal(back, list) {
		t.Errorf("%v, %v", back, err)
	}
	for name, bad := range map[string][][]byte{"a short hash": {make([]byte, 31)}, "too many": slices.Repeat([][]byte{make([]byte, 32)}, MaxProof+1)} {
		if _, err := Hashes(bad); !errors.Is(err, ErrCheckpoint) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRecordsBeginAtOne(t *testing.T) {
	good := Record{Format: Current, Seq: 1, Actor: "admin:a", Action: "x.y", Object: "system:s", Subject: "system:s", Outcome: Done}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for _, seq := range []int64{0, -1} {
		bad := good
		bad.Seq = seq
		if err := bad.Check(); !errors.Is(err, ErrRecord) {
			t.Errorf("number %d: %v", seq, err)
		}
	}
}

func TestWhomARecordIsAbout(t *testing.T) {
	for _, c := range [][3]string{
		{"admin:ann", "system:k3j9x", "system:k3j9x"},
		{"admin:ann", "policy:p1", "admin:ann"},
		{"admin:ann", "system:", "admin:ann"},
		{"stranger:192.0.2.1", "policy:p1", "stranger"},
	} {
		if got := Subject(c[0], c[1]); got != c[2] {
			t.Errorf("%s does something to %s: about %s, want %s", c[0], c[1], got, c[2])
		}
	}
}

// TestStringsEnd: a line that stops inside a string is refused, with an escape or without.
func TestStringsEnd(t *testing.T) {
	for _, line := range []string{`"abc`, `"a\`, `"a\"`, `"`, ``, `abc"`} {
		p := parser{rest: []byte(line)}
		if got := p.str(); p.err == nil || got != "" {
			t.Errorf("%s is %q", line, got)
		}
	}
}
