package audit

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// TestTheLayoutIsThatOfItsPage makes by hand what docs/format/audit.md says is hashed and
// sealed, as a stranger would who verifies without this program.
func TestTheLayoutIsThatOfItsPage(t *testing.T) {
	text := func(s string) string { return string([]byte{0, 0, 0, byte(len(s))}) + s }
	r := Record{Format: Current, Seq: 2, At: time.Unix(0, 3).UTC(), Actor: "token:ci", Action: "policy.create", Object: "policy:p", Revision: 4,
		Outcome: Done, Request: "q1", Subject: "system:s", Key: 5, Prev: Hash{6}}
	subject := []byte(strings.Repeat("k", 32))

	key, _ := hkdf.Expand(sha256.New, subject, "enclave audit detail key v1\x00"+string(testOrg)+"\x00\x00\x00\x00\x00\x00\x00\x00\x02", 32)
	if got := RecordKey(subject, testOrg, 2); string(got) != string(key) {
		t.Errorf("the record's key is %x, want %x", got, key)
	}
	block, _ := aes.NewCipher(key)
	gcm, _ := cipher.NewGCM(block)
	commitment := sha256.Sum256([]byte("enclave audit detail commitment v1\x00" + string(key)))
	bound := string(testOrg) + "\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x05system:s"
	r.Detail = append(commitment[:], gcm.Seal(nil, make([]byte, 12), []byte(`{"a":1}`), []byte(bound))...)
	if got, err := OpenDetail(key, testOrg, &r); err != nil || string(got) != `{"a":1}` {
		t.Errorf("what was sealed by hand: %s, %v", got, err)
	}
	for name, spoilt := range map[string][]byte{
		"another commitment": append([]byte{r.Detail[0] ^ 1}, r.Detail[1:]...), "half a commitment": r.Detail[:16], "a commitment alone": r.Detail[:32], "nothing": nil,
	} {
		bad := r
		bad.Detail = spoilt
		if got, err := OpenDetail(key, testOrg, &bad); !errors.Is(err, ErrDetail) {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if got, err := OpenDetail(key[:16], testOrg, &r); !errors.Is(err, ErrDetail) {
		t.Errorf("half a key: %s, %v", got, err)
	}
	if got := SealDetail(key, testOrg, &r, []byte(`{"a":1}`)); string(got) != string(r.Detail) {
		t.Errorf("sealed %x, want %x", got, r.Detail)
	}

	if one, two := NewSubjectKey(), NewSubjectKey(); string(one) == string(two) {
		t.Error("two subjects with one key")
	}

	body := "\x06" + strings.Repeat("\x00", 31) + "\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x04" +
		text(string(testOrg)) + text("token:ci") + text("policy.create") + text("policy:p")
	for format, want := range map[uint8]string{
		Current:  "enclave audit v2\x00" + body + text("ok") + text("q1") + text("system:s") + "\x00\x00\x00\x05" + text(string(r.Detail)),
		Activity: "enclave activity v1\x00" + body + text(string(r.Detail)),
	} {
		r.Format = format
		if sum, _ := r.Sum(testOrg, nil); sum != sha256.Sum256([]byte(want)) {
			t.Errorf("format %d hashes\n%q, want\n%q", format, r.Append(nil, testOrg), want)
		}
	}
}

// TestRecordsFitTheirLimits to the byte; of the first format nothing is said that it has no
// place for, since its hash would not cover it.
func TestRecordsFitTheirLimits(t *testing.T) {
	word, token := strings.Repeat("w", MaxWord), strings.Repeat("t", MaxToken)
	for name, c := range map[string]struct {
		change func(*Record)
		ok     bool
	}{
		"the largest": {func(r *Record) {
			r.Actor, r.Object, r.Subject, r.Action, r.Outcome, r.Request, r.Detail = word, word, word, token, token, token, make([]byte, MaxSealed)
		}, true},
		"actor":          {func(r *Record) { r.Actor = word + "w" }, false},
		"object":         {func(r *Record) { r.Object = word + "w" }, false},
		"subject":        {func(r *Record) { r.Subject = word + "w" }, false},
		"action":         {func(r *Record) { r.Action = token + "t" }, false},
		"outcome":        {func(r *Record) { r.Outcome = token + "t" }, false},
		"request":        {func(r *Record) { r.Request = token + "t" }, false},
		"detail":         {func(r *Record) { r.Detail = make([]byte, MaxSealed+1) }, false},
		"no text":        {func(r *Record) { r.Object = "\xff" }, false},
		"format 0":       {func(r *Record) { r.Format = 0 }, false},
		"format 3":       {func(r *Record) { r.Format = 3 }, false},
		"first":          {func(r *Record) { r.Format = Activity }, true},
		"first, outcome": {func(r *Record) { r.Format, r.Outcome = Activity, Done }, false},
		"first, request": {func(r *Record) { r.Format, r.Request = Activity, "q" }, false},
		"first, subject": {func(r *Record) { r.Format, r.Subject = Activity, "s" }, false},
		"first, key":     {func(r *Record) { r.Format, r.Key = Activity, 1 }, false},
		"first, no text": {func(r *Record) { r.Format, r.Detail = Activity, []byte("\xff") }, false},
		"first, long":    {func(r *Record) { r.Format, r.Detail = Activity, make([]byte, MaxSealed+1) }, true},
	} {
		r := Record{Format: Current, Seq: 1, Actor: "admin:a", Action: "x.y", Object: "system:s"}
		c.change(&r)
		if err := r.Check(); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestProofsShowOneRecord of one log and nothing else.
func TestProofsShowOneRecord(t *testing.T) {
	l, other := newLog(t, 20), newLog(t, 20)
	path, err := tlog.ProveRecord(20, 6, l)
	if err != nil {
		t.Fatal(err)
	}
	r := &l.records[6]
	key := RecordKey(l.subject, testOrg, 7)
	line := string(AppendLine(nil, r, key, []byte(`{"n":7}`)))
	good := Proof{Version: ProofVersion, Org: testOrg, Key: l.public, Record: line, Path: Bytes(path), Checkpoint: l.sign(t, 20)}
	text, _ := json.Marshal(&good)
	p, err := ParseProof(text)
	if err != nil {
		t.Fatal(err)
	}
	if got, size, err := p.Check(l.public); err != nil || size != 20 || got.Seq != 7 || string(got.Clear) != `{"n":7}` {
		t.Errorf("%+v of %d, %v", got.Record, size, err)
	}
	forged := *r
	forged.Object = "other"
	forged.Hash, _ = forged.Sum(testOrg, nil)
	for name, spoil := range map[string]func(*Proof){
		"another organisation":      func(p *Proof) { p.Org = "01J0000000000000000000ELSE" },
		"a checkpoint of another":   func(p *Proof) { p.Checkpoint = other.sign(t, 20) },
		"another state":             func(p *Proof) { p.Checkpoint = l.sign(t, 19) },
		"no line":                   func(p *Proof) { p.Record = "{}" },
		"a checkpoint for a record": func(p *Proof) { p.Record = string(appendCheckpoint(nil, l.sign(t, 20))) },
		"a changed record":          func(p *Proof) { p.Record = strings.Replace(line, "token:ci", "token:cj", 1) },
		"a record that is not in":   func(p *Proof) { p.Record = string(AppendLine(nil, &forged, nil, nil)) },
		"another detail":            func(p *Proof) { p.Record = strings.Replace(line, `{"n":7}`, `{"n":8}`, 1) },
		"a detail without its key": func(p *Proof) {
			p.Record = strings.Replace(string(AppendLine(nil, r, nil, nil)), `"detail":null`, `"detail":{"n":7}`, 1)
		},
		"another's path":   func(p *Proof) { p.Path = p.Path[1:] },
		"half a hash":      func(p *Proof) { p.Path = append([][]byte{p.Path[0][:16]}, p.Path[1:]...) },
		"no end of hashes": func(p *Proof) { p.Path = make([][]byte, MaxProof+1) },
	} {
		p := good
		spoil(&p)
		if got, _, err := p.Check(l.public); err == nil {
			t.Errorf("%s: proves %+v", name, got.Record)
		}
	}
	for name, bad := range map[string]string{
		"nothing":        "",
		"another kind":   `{"enclave_audit_export":1}`,
		"a later one":    strings.Replace(string(text), `"enclave_audit_proof":1`, `"enclave_audit_proof":2`, 1),
		"one field more": strings.Replace(string(text), `{`, `{"more":1,`, 1),
		"too long":       string(text) + strings.Repeat(" ", MaxProofFile),
	} {
		if _, err := ParseProof([]byte(bad)); !errors.Is(err, ErrExport) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAHeaderIsNotBelieved: it is not signed, so what it says is compared or refused.
func TestAHeaderIsNotBelieved(t *testing.T) {
	l, other := newLog(t, 20), newLog(t, 20)
	for name, c := range map[string]struct {
		spoil func(*Header)
		kind  string // of the finding; none is an ErrExport
	}{
		"as it was":               {func(*Header) {}, "fine"},
		"a later version":         {func(h *Header) { h.Version++ }, ""},
		"no hash before":          {func(h *Header) { h.Prev = "xyz" }, ""},
		"half a hash before":      {func(h *Header) { h.Prev = h.Prev[:32] }, ""},
		"before the first":        {func(h *Header) { h.First, h.Tops = 0, nil }, ""},
		"an end before its start": {func(h *Header) { h.Last = h.First - 2 }, ""},
		"trees that do not fit":   {func(h *Header) { h.Tops = h.Tops[1:] }, ""},
		"another organisation":    {func(h *Header) { h.Org = "01J0000000000000000000ELSE" }, ""},
		"another key":             {func(h *Header) { h.Key = other.public }, Unsigned},
		"another's checkpoint":    {func(h *Header) { h.Checkpoint = other.sign(t, 20) }, Unsigned},
		"less than was signed":    {func(h *Header) { h.Last-- }, Truncated},
		"another record before":   {func(h *Header) { h.Prev = strings.Repeat("0", 64) }, Rewritten},
		"another tree before":     {func(h *Header) { h.Tops = []tlog.Hash{{1}, {2}} }, Rewritten},
		"one record later":        {func(h *Header) { h.First, h.Tops = 12, append(h.Tops, h.Tops[0]) }, Missing},
		"one record earlier":      {func(h *Header) { h.First, h.Tops = 10, append(h.Tops, h.Tops[0])[:2] }, Duplicated},
	} {
		first, second := l.export(t, 1, 10), l.export(t, 11, 20)
		head, rest, _ := strings.Cut(string(second), "\n")
		var h Header
		if err := json.Unmarshal([]byte(head), &h); err != nil {
			t.Fatal(err)
		}
		c.spoil(&h)
		spoilt, _ := json.Marshal(&h)
		v, err := NewVerifier(l.public, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.File(strings.NewReader(string(first))); err != nil {
			t.Fatal(err)
		}
		err = v.File(strings.NewReader(string(spoilt) + "\n" + rest))
		f := v.Report().Finding
		switch {
		case c.kind == "fine" && (err != nil || f != nil || v.Report().Proven != 20),
			c.kind == "" && !errors.Is(err, ErrExport),
			c.kind != "" && c.kind != "fine" && (err != nil || f == nil || f.Kind != c.kind):
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
	for name, c := range map[string]func(string) string{
		"one field more": func(s string) string { return strings.Replace(s, `{`, `{"more":1,`, 1) },
		"blanks":         func(s string) string { return strings.Replace(s, `,`, `, `, 1) },
		"no JSON":        func(s string) string { return s[1:] },
		"nothing":        func(string) string { return "" },
	} {
		v, _ := NewVerifier(l.public, nil, nil)
		if err := v.File(strings.NewReader(c(string(l.export(t, 1, 20))))); !errors.Is(err, ErrExport) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewVerifier("no key", nil, nil); err == nil {
		t.Error("a verifier without a key")
	}
	if _, err := TreeOf(-1, make([]tlog.Hash, 64)); !errors.Is(err, ErrTree) {
		t.Error("a tree of less than nothing")
	}
}
