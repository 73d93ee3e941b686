package audit

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func TestWholeLogVerifies(t *testing.T) {
	l := newLog(t, 700)
	r := verify(t, l.public, []Witnessed{{Name: "w", Checkpoint: l.at(t, 300)}}, l.export(t, 1, 700))
	if r.Finding != nil || r.Proven != 700 || r.Records != 700 || r.Sealed != 0 || r.Root != l.at(t, 700).Root.String() || !r.Witnessed[0].Matches {
		t.Errorf("%+v", r)
	}
	// In three files, at places that are no powers of anything.
	r = verify(t, l.public, nil, l.export(t, 1, 257), l.export(t, 258, 333), l.export(t, 334, 700))
	if r.Finding != nil || r.Proven != 700 || r.First != 1 {
		t.Errorf("%+v", r)
	}
	// The last of them alone says from where it speaks.
	r = verify(t, l.public, []Witnessed{{Name: "old", Checkpoint: l.at(t, 300)}}, l.export(t, 334, 700))
	if r.Finding != nil || r.First != 334 || !r.Witnessed[0].Skipped {
		t.Errorf("%+v", r)
	}
	for _, files := range [][][]byte{
		{l.export(t, 1, 257), l.export(t, 259, 700)},
		{l.export(t, 1, 257), l.export(t, 257, 700)},
	} {
		if r := verify(t, l.public, nil, files...); r.Finding == nil {
			t.Error("files with a gap between them")
		}
	}
}

// lines is an export that tests can cut up: line i+1 of lines is record i+1, as long as
// there are no checkpoints before.
func cut(b []byte) []string { return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") }

func join(lines []string) []byte { return []byte(strings.Join(lines, "\n") + "\n") }

// TestTamperMatrix does to an export everything that can be done to one, at several
// places, and wants the first record that is wrong named.
func TestTamperMatrix(t *testing.T) {
	const n = 200
	l := newLog(t, n)
	whole := cut(l.export(t, 1, n))
	rehash := func(records []Record, from int) { // makes the chain anew
		for i := from; i < len(records); i++ {
			if i > 0 {
				records[i].Prev = records[i-1].Hash
			}
			records[i].Hash, _ = records[i].Sum(testOrg, nil)
		}
	}
	line := func(r *Record) string { return string(AppendLine(nil, r, nil, nil)) }
	matrix := []struct {
		name string
		do   func(lines []string, k int) []string
		kind string
		off  int // of the record that is named, from k
	}{
		{"a byte of the actor", func(x []string, k int) []string { x[k] = strings.Replace(x[k], "token:ci", "token:cj", 1); return x }, Changed, 0},
		{"a byte of the time", func(x []string, k int) []string { x[k] = strings.Replace(x[k], "2023", "2022", 1); return x }, Changed, 0},
		{"a byte of the detail", func(x []string, k int) []string { x[k] = strings.Replace(x[k], `{"n":`, `{"m":`, 1); return x }, Changed, 0},
		{"the outcome", func(x []string, k int) []string { x[k] = strings.Replace(x[k], `"ok"`, `"denied"`, 1); return x }, Changed, 0},
		{"a hash", func(x []string, k int) []string {
			i := strings.Index(x[k], `"hash":"`) + 8
			x[k] = x[k][:i] + map[bool]string{true: "0", false: "1"}[x[k][i] != '0'] + x[k][i+1:]
			return x
		}, Changed, 0},
		{"a blank", func(x []string, k int) []string { x[k] = strings.Replace(x[k], ",", ", ", 1); return x }, Changed, 0},
		{"an empty line", func(x []string, k int) []string { x[k] = ""; return x }, Changed, 0},
		{"half a line", func(x []string, k int) []string { x[k] = x[k][:len(x[k])/2]; return x }, Changed, 0},
		{"its key taken away", func(x []string, k int) []string { x[k] = line(&l.records[k-1]); return x }, "", 0}, // a detail may stay sealed
		{"a clear detail without its key", func(x []string, k int) []string {
			x[k] = strings.Replace(line(&l.records[k-1]), `"detail":null`, `"detail":{"n":0}`, 1)
			return x
		}, Changed, 0},
		{"missing", func(x []string, k int) []string { return slices.Delete(x, k, k+1) }, Missing, 0},
		{"two missing", func(x []string, k int) []string { return slices.Delete(x, k, k+2) }, Missing, 0},
		{"swapped", func(x []string, k int) []string { x[k], x[k+1] = x[k+1], x[k]; return x }, Reordered, 0},
		{"moved back", func(x []string, k int) []string {
			moved := x[k]
			return slices.Insert(slices.Delete(x, k, k+1), k+3, moved)
		}, Reordered, 0},
		{"twice", func(x []string, k int) []string { return slices.Insert(x, k, x[k]) }, Duplicated, 0},
		{"twice, later", func(x []string, k int) []string { return slices.Insert(x, k+4, x[k]) }, Duplicated, 0},
		{"truncated", func(x []string, k int) []string { return x[:k] }, Truncated, 0},
		{"rewritten, the hash with it", func(x []string, k int) []string {
			r := l.records[k-1]
			r.Object = "other"
			r.Hash, _ = r.Sum(testOrg, nil)
			x[k] = line(&r)
			return x
		}, Rewritten, 0},
		{"rewritten to the end", func(x []string, k int) []string {
			forged := slices.Clone(l.records)
			forged[k-1].Object = "other"
			rehash(forged, k-1)
			for i := k; i <= n; i++ {
				x[i] = line(&forged[i-1])
			}
			return x
		}, Rewritten, -1 << 30}, // no hash of the old is left; a checkpoint says up to where
		{"one more at the end", func(x []string, k int) []string {
			r := l.records[n-1]
			r.Seq, r.Prev = n+1, r.Hash
			r.Hash, _ = r.Sum(testOrg, nil)
			return append(x, line(&r))
		}, Beyond, 1 << 30},
	}
	for _, tc := range matrix {
		for _, k := range []int{1, 6, 64, 65, 127, n - 5} {
			if k == 1 && (tc.name == "the outcome" || strings.Contains(tc.name, "key")) {
				continue // the first format has none
			}
			r := verify(t, l.public, nil, join(tc.do(slices.Clone(whole), k)))
			if tc.kind == "" {
				if r.Finding != nil || r.Sealed != 1 {
					t.Errorf("%s: record %d: %+v", tc.name, k, r.Finding)
				}
				continue
			}
			want := int64(k + tc.off)
			switch tc.off {
			case -1 << 30:
				want = 1
			case 1 << 30:
				want = n + 1
			}
			if tc.off == 1<<30 && k > 1 {
				continue
			}
			if r.Finding == nil || r.Finding.Kind != tc.kind || r.Finding.Seq != want {
				t.Errorf("%s: record %d: %+v", tc.name, k, r.Finding)
			}
		}
	}
	t.Logf("%d kinds of tampering, at 6 places each", len(matrix))
}

// TestEveryByte changes each byte of an export and wants it found; nothing is outside of
// what is proved.
func TestEveryByte(t *testing.T) {
	l := newLog(t, 12)
	whole := l.export(t, 1, 12)
	v, err := NewVerifier(l.public, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	fresh := *v
	header := bytes.IndexByte(whole, '\n')
	records := make([]int, 0, 12) // where each ends
	for i := header + 1; i < len(whole); i++ {
		if whole[i] == '\n' {
			records = append(records, i)
		}
	}
	for i := range whole {
		for k, mask := range []byte{0x01, 0x20, 0x80} {
			if testing.Short() && i%3 != k {
				continue // each reads all that is before the byte
			}
			spoilt := slices.Clone(whole)
			spoilt[i] ^= mask
			*v = fresh
			err := v.File(bytes.NewReader(spoilt))
			f := v.Report().Finding
			want, _ := slices.BinarySearch(records, i)
			switch {
			case err == nil && f == nil && i == len(whole)-1: // the last end of line
			case err == nil && f == nil:
				t.Fatalf("byte %d of %d, mask %#x: not found (%q)", i, len(whole), mask, spoilt[max(0, i-20):i+10])
			case i > header && (err != nil || f.Seq != int64(want)+1):
				t.Fatalf("byte %d, mask %#x, of record %d: %+v, %v", i, mask, want+1, f, err)
			}
		}
	}
	t.Logf("changes of %d bytes found", len(whole))
}

// TestRewrittenIsNarrowedDown has checkpoints inside the export.
func TestRewrittenIsNarrowedDown(t *testing.T) {
	const n = 3*CheckpointEvery + 10
	l := newLog(t, n)
	forged := &testLog{secret: l.secret, public: l.public, subject: l.subject}
	for _, r := range l.records {
		if r.Seq == 600 {
			r.Object = "other"
		}
		if r.Seq >= 600 {
			r.Prev = forged.records[r.Seq-2].Hash
			r.Hash, _ = r.Sum(testOrg, nil)
		}
		forged.add(r)
	}
	// The forger has no key: the checkpoints are the old ones.
	true_, false_ := cut(l.export(t, 1, n)), cut(forged.export(t, 1, n))
	for i := range false_ {
		if strings.HasPrefix(true_[i], `{"checkpoint"`) || i == 0 {
			false_[i] = true_[i]
		}
	}
	r := verify(t, l.public, nil, join(false_))
	if r.Finding == nil || r.Finding.Kind != Rewritten || r.Finding.Seq != 513 || r.Finding.Until != 768 || r.Proven != 512 {
		t.Errorf("%+v", r.Finding)
	}
	// One who has the key is found by whoever remembers a checkpoint.
	whole := forged.export(t, 1, n)
	if r := verify(t, l.public, nil, whole); r.Finding != nil {
		t.Errorf("%+v", r.Finding)
	}
	known := []Witnessed{{Name: "a", Checkpoint: l.at(t, 590)}, {Name: "b", Checkpoint: l.at(t, 610)}}
	r = verify(t, l.public, known, whole)
	if r.Finding == nil || r.Finding.Kind != Forked || r.Finding.Seq != 513 || r.Finding.Until != 610 || !r.Witnessed[0].Matches || r.Witnessed[1].Matches {
		t.Errorf("%+v, %+v", r.Finding, r.Witnessed)
	}
	r = verify(t, l.public, []Witnessed{{Name: "c", Checkpoint: l.at(t, n)}}, l.export(t, 1, n-20))
	if r.Finding == nil || r.Finding.Kind != RolledBack || r.Finding.Seq != n-19 || r.Finding.Until != n {
		t.Errorf("%+v", r.Finding)
	}
	_, other, err := NewKey(testOrg)
	if err != nil {
		t.Fatal(err)
	}
	if r := verify(t, other, nil, whole); r.Finding == nil || r.Finding.Kind != Unsigned {
		t.Errorf("%+v", r.Finding)
	}
}

func TestJudge(t *testing.T) {
	l, other := newLog(t, 100), newLog(t, 100)
	proof := func(old, now int64) []tlog.Hash {
		p, err := tlog.ProveTree(now, old, l)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, tc := range []struct {
		name     string
		old, now Checkpoint
		proof    []tlog.Hash
		want     error
	}{
		{"grown", l.at(t, 37), l.at(t, 100), proof(37, 100), nil},
		{"the same", l.at(t, 37), l.at(t, 37), nil, nil},
		{"from nothing", Checkpoint{Origin: Origin(testOrg)}, l.at(t, 37), nil, nil},
		{"shorter", l.at(t, 38), l.at(t, 37), nil, ErrRollback},
		{"two of one size", l.at(t, 37), other.at(t, 37), nil, ErrFork},
		{"another history", l.at(t, 37), other.at(t, 100), proof(37, 100), ErrFork},
		{"no proof", l.at(t, 37), l.at(t, 100), nil, ErrFork},
		{"another log", l.at(t, 37), Checkpoint{Origin: "enclave/x", Size: 100}, nil, ErrCheckpoint},
		{"a proof beyond measure", l.at(t, 37), l.at(t, 100), make([]tlog.Hash, MaxProof+1), ErrCheckpoint},
	} {
		if err := Judge(tc.old, tc.now, tc.proof); !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// TestTreeIsTheOneOfTheRFC compares with package tlog at every size.
func TestTreeIsTheOneOfTheRFC(t *testing.T) {
	l := newLog(t, 130)
	var tree Tree
	for n := int64(0); n <= 130; n++ {
		if want := l.at(t, n).Root; tree.Root() != want {
			t.Fatalf("size %d: %v, want %v", n, tree.Root(), want)
		}
		tops, err := l.ReadHashes(TopIndexes(n))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := TreeOf(n, tops); err != nil || again.Root() != tree.Root() {
			t.Fatalf("size %d: continued: %v", n, err)
		}
		if n < 130 {
			tree.Append(l.records[n].Hash)
		}
	}
	if _, err := TreeOf(3, nil); err == nil {
		t.Error("a tree of 3 without subtrees")
	}
}

func TestDetailOpensInOnePlaceOnly(t *testing.T) {
	subject := NewSubjectKey()
	r := Record{Format: Current, Seq: 7, Subject: "system:aaaaa", Key: 3}
	key := RecordKey(subject, testOrg, 7)
	r.Detail = SealDetail(key, testOrg, &r, []byte("{}"))
	if b, err := OpenDetail(key, testOrg, &r); err != nil || string(b) != "{}" {
		t.Fatal(b, err)
	}
	for name, f := range map[string]func(*Record){
		"another record":  func(r *Record) { r.Seq++ },
		"another subject": func(r *Record) { r.Subject = "system:bbbbb" },
		"another number":  func(r *Record) { r.Key++ },
		"a bit":           func(r *Record) { r.Detail = slices.Clone(r.Detail); r.Detail[len(r.Detail)-1] ^= 1 },
		"the commitment":  func(r *Record) { r.Detail = slices.Clone(r.Detail); r.Detail[0] ^= 1 },
		"nothing":         func(r *Record) { r.Detail = nil },
	} {
		x := r
		f(&x)
		if _, err := OpenDetail(key, testOrg, &x); !errors.Is(err, ErrDetail) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := OpenDetail(RecordKey(subject, testOrg, 8), testOrg, &r); !errors.Is(err, ErrDetail) {
		t.Error("another record's key", err)
	}
	if _, err := OpenDetail(key, "other", &r); !errors.Is(err, ErrDetail) {
		t.Error("another organisation", err)
	}
}

func TestCheckpointsAreStrict(t *testing.T) {
	l := newLog(t, 9)
	note := l.sign(t, 9)
	if c, err := OpenCheckpoint(note, l.public); err != nil || c != l.at(t, 9) {
		t.Fatalf("%+v, %v", c, err)
	}
	if note != l.sign(t, 9) {
		t.Error("signed twice, to other bytes")
	}
	for i := range note {
		b := []byte(note)
		b[i] ^= 1
		if c, err := OpenCheckpoint(string(b), l.public); err == nil {
			t.Errorf("byte %d changed: %+v", i, c)
		}
	}
	if _, err := OpenCheckpoint(strings.Repeat(note, 50), l.public); !errors.Is(err, ErrCheckpoint) {
		t.Error(err)
	}
	end := strings.LastIndexByte(note, '=') - 1 // two bits of this character mean nothing
	for loose := byte(1); loose < 4; loose++ {
		b := []byte(note)
		b[end] = alphabet[strings.IndexByte(alphabet, b[end])+int(loose)]
		if _, err := OpenCheckpoint(string(b), l.public); err == nil {
			t.Errorf("the signature is spelt %q and %q", note[end:], b[end:])
		}
	}
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

// TestSignedIsNotEnough: what the right key has signed is a checkpoint only in its one
// spelling, of this log, and within bounds.
func TestSignedIsNotEnough(t *testing.T) {
	l := newLog(t, 9)
	signer, err := note.NewSigner(l.secret)
	if err != nil {
		t.Fatal(err)
	}
	c := l.at(t, 9)
	text := c.Text()
	root := strings.Split(text, "\n")[2]
	for name, spelt := range map[string]string{
		"another log":    strings.Replace(text, c.Origin, "enclave/other", 1),
		"a leading zero": strings.Replace(text, "\n9\n", "\n09\n", 1),
		"a sign":         strings.Replace(text, "\n9\n", "\n+9\n", 1),
		"below zero":     strings.Replace(text, "\n9\n", "\n-9\n", 1),
		"a short root":   strings.Replace(text, root, root[:4], 1),
		"no end":         text + strings.Repeat("x", MaxCheckpoint) + "\n",
	} {
		signed, err := note.Sign(&note.Note{Text: spelt}, signer)
		if err != nil {
			t.Fatal(name, err)
		}
		if c, err := OpenCheckpoint(string(signed), l.public); !errors.Is(err, ErrCheckpoint) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

// TestWhatIsSaidOfForgery: the finding is what was done, and not what follows of it.
func TestWhatIsSaidOfForgery(t *testing.T) {
	const n = CheckpointEvery + 9
	l, other := newLog(t, n), newLog(t, n)
	whole := cut(l.export(t, 1, n))
	middle := slices.IndexFunc(whole, func(s string) bool { return strings.HasPrefix(s, `{"checkpoint"`) })
	change := func(i int, old, new string) []byte {
		x := slices.Clone(whole)
		if x[i] = strings.Replace(x[i], old, new, 1); x[i] == whole[i] {
			t.Fatalf("line %d has no %s", i, old)
		}
		return join(x)
	}
	quoted := func(note string) string { return strings.Trim(fmt.Sprintf("%q", note), `"`) }
	theirs := quoted(other.sign(t, CheckpointEvery))
	for name, tc := range map[string]struct {
		files [][]byte
		kind  string
	}{
		"a checkpoint of another key":    {[][]byte{change(middle, quoted(l.sign(t, CheckpointEvery)), theirs)}, Unsigned},
		"the last one of another key":    {[][]byte{change(0, quoted(l.sign(t, n)), quoted(other.sign(t, n)))}, Unsigned},
		"a checkpoint of another place":  {[][]byte{change(middle, quoted(l.sign(t, CheckpointEvery)), quoted(l.sign(t, 7)))}, Reordered},
		"a header that ends before":      {[][]byte{change(0, fmt.Sprintf(`"last":%d`, n), fmt.Sprintf(`"last":%d`, n-1))}, Truncated},
		"a file left out":                {[][]byte{l.export(t, 1, 9), l.export(t, 12, n)}, Missing},
		"a file twice":                   {[][]byte{l.export(t, 1, 9), l.export(t, 1, 9)}, Duplicated},
		"a file of another log's middle": {[][]byte{l.export(t, 1, 9), resigned(t, other, l, 10, n)}, Rewritten},
	} {
		if r := verify(t, l.public, nil, tc.files...); r.Finding == nil || r.Finding.Kind != tc.kind {
			t.Errorf("%s: %+v", name, r.Finding)
		}
	}
}

// resigned is a part of a log with the key of another: what one who has the key can make.
func resigned(t *testing.T, log, key *testLog, first, last int64) []byte {
	forged := *log
	forged.secret, forged.public = key.secret, key.public
	return forged.export(t, first, last)
}

func FuzzParseLine(f *testing.F) {
	l := newLog(f, 8)
	for _, line := range cut(l.export(f, 1, 8))[1:] {
		f.Add([]byte(line))
	}
	f.Add(appendCheckpoint(nil, l.sign(f, 8)))
	r := l.records[7]
	r.Actor = "ä\"\\\u2028<"
	f.Add(AppendLine(nil, &r, nil, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var x Line
		if ParseLine(slices.Clone(b), &x) != nil {
			return
		}
		var again []byte
		if x.Note != "" || bytes.HasPrefix(b, []byte(`{"checkpoint"`)) {
			again = appendCheckpoint(nil, x.Note)
		} else {
			key, clear := x.Open, x.Clear
			if len(key) == 0 {
				key = nil
			}
			again = AppendLine(nil, &x.Record, key, clear)
			// A detail is compared with what was sealed by the verifier and not here.
			i, j := bytes.LastIndex(b, []byte(`,"detail":`)), bytes.LastIndex(again, []byte(`,"detail":`))
			if i > 0 && j > 0 {
				b, again = b[:min(i, j)], again[:min(i, j)]
			}
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%q is read and written as %q", b, again)
		}
	})
}

func FuzzOpenCheckpoint(f *testing.F) {
	l := newLog(f, 8)
	f.Add(l.sign(f, 8))
	f.Add("enclave/x\n1\n\n— x y\n")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := OpenCheckpoint(s, l.public)
		if err == nil && c != l.at(t, 8) {
			t.Errorf("%q is signed", s)
		}
		if c, err := parseCheckpoint(s); err == nil && !strings.HasPrefix(s, c.Text()) {
			t.Errorf("%q is read as %q", s, c.Text())
		}
	})
}

// FuzzVerify never takes another history for true, and never panics.
func FuzzVerify(f *testing.F) {
	l := newLog(f, 20)
	whole := l.export(f, 1, 20)
	f.Add(whole)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 8 {
		b := slices.Clone(whole)
		b[rng.IntN(len(b))] ^= byte(1 << rng.IntN(8))
		f.Add(b)
	}
	want := fmt.Sprint(l.at(f, 20).Root)
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := NewVerifier(l.public, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.File(bytes.NewReader(b)); err != nil {
			return
		}
		if r := v.Report(); r.Finding == nil && r.Root != want {
			t.Errorf("root %s of %q", r.Root, b)
		}
	})
}
