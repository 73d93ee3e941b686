package audit

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"enclave/wire"
)

const testOrg = wire.OrgID("01J0000000000000000000TEST")

// testLog is a log in memory, as store keeps one on disk.
type testLog struct {
	secret, public string
	subject        []byte
	records        []Record
	hashes         []tlog.Hash
}

func newLog(t testing.TB, n int) *testLog {
	t.Helper()
	l := &testLog{subject: NewSubjectKey()}
	var err error
	if l.secret, l.public, err = NewKey(testOrg); err != nil {
		t.Fatal(err)
	}
	for range n {
		l.append(fmt.Sprintf(`{"n":%d}`, len(l.records)+1))
	}
	return l
}

// append adds a record; the first five are of the first format.
func (l *testLog) append(detail string) {
	n := int64(len(l.records)) + 1
	r := Record{Format: Current, Seq: n, At: time.Unix(0, 1_700_000_000_000_000_000+n*1e9).UTC(), Actor: "token:ci", Action: "x.y",
		Object: fmt.Sprintf("system:%05d", n), Revision: wire.Revision(n), Outcome: Done, Request: "q", Subject: "token:ci", Key: 1}
	if n > 1 {
		r.Prev = l.records[n-2].Hash
	}
	if n <= 5 {
		r.Format, r.Outcome, r.Request, r.Subject, r.Key, r.Detail = Activity, "", "", "", 0, []byte(detail)
	} else {
		r.Detail = SealDetail(RecordKey(l.subject, testOrg, n), testOrg, &r, []byte(detail))
	}
	r.Hash, _ = r.Sum(testOrg, nil)
	l.add(r)
}

func (l *testLog) add(r Record) {
	h, err := tlog.StoredHashesForRecordHash(int64(len(l.records)), Leaf(r.Hash), l)
	if err != nil {
		panic(err)
	}
	l.records, l.hashes = append(l.records, r), append(l.hashes, h...)
}

// ReadHashes implements tlog.HashReader.
func (l *testLog) ReadHashes(places []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(places))
	for i, p := range places {
		out[i] = l.hashes[p]
	}
	return out, nil
}

func (l *testLog) at(t testing.TB, size int64) Checkpoint {
	t.Helper()
	root, err := tlog.TreeHash(size, l)
	if err != nil {
		t.Fatal(err)
	}
	return Checkpoint{Origin(testOrg), size, root}
}

func (l *testLog) sign(t testing.TB, size int64) string {
	t.Helper()
	c := l.at(t, size)
	note, err := c.Sign(l.secret)
	if err != nil {
		t.Fatal(err)
	}
	return note
}

// export writes records first to last as lines.
func (l *testLog) export(t testing.TB, first, last int64) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b)
	h := Header{Version: ExportVersion, Org: testOrg, Key: l.public, First: first, Last: last, Tops: []tlog.Hash{}, Checkpoint: l.sign(t, last)}
	var prev Hash
	if first > 1 {
		prev = l.records[first-2].Hash
		h.Tops, _ = l.ReadHashes(TopIndexes(first - 1))
	}
	h.Prev = fmt.Sprintf("%x", prev)
	if err := w.Header(&h); err != nil {
		t.Fatal(err)
	}
	for i := first; i <= last; i++ {
		r := &l.records[i-1]
		var key, clear []byte
		if r.Format != Activity {
			key = RecordKey(l.subject, testOrg, i)
			var err error
			if clear, err = OpenDetail(key, testOrg, r); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Record(r, key, clear); err != nil {
			t.Fatal(err)
		}
		if i%CheckpointEvery == 0 && i != last {
			if err := w.Checkpoint(l.sign(t, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func verify(t testing.TB, key string, known []Witnessed, files ...[]byte) Report {
	t.Helper()
	v, err := NewVerifier(key, known, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := v.File(bytes.NewReader(f)); err != nil {
			t.Fatal(err)
		}
	}
	return v.Report()
}
