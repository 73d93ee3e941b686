package audit

import (
	"bytes"
	"os"
	"strconv"
	"testing"
)

// BenchmarkVerify verifies an export of 100,000 records, or of as many as
// ENCLAVE_AUDIT_RECORDS says, with their details opened and compared.
func BenchmarkVerify(b *testing.B) {
	n := 100_000
	if k, err := strconv.Atoi(os.Getenv("ENCLAVE_AUDIT_RECORDS")); err == nil {
		n = k
	}
	l := newLog(b, n)
	file := l.export(b, 1, int64(n))
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		v, err := NewVerifier(l.public, nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		if err := v.File(bytes.NewReader(file)); err != nil || v.Report().Finding != nil {
			b.Fatal(err, v.Report().Finding)
		}
	}
	b.ReportMetric(float64(b.N)*float64(n)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkSum is the hash of a record.
func BenchmarkSum(b *testing.B) {
	l := newLog(b, 10)
	r := &l.records[9]
	_, buf := r.Sum(testOrg, nil)
	b.ReportAllocs()
	for b.Loop() {
		_, buf = r.Sum(testOrg, buf)
	}
}

// BenchmarkTreeAppend grows the tree by a record.
func BenchmarkTreeAppend(b *testing.B) {
	l := newLog(b, 10)
	var t Tree
	b.ReportAllocs()
	for b.Loop() {
		t.Append(l.records[0].Hash)
	}
}

// BenchmarkSealDetail seals a detail under the key of its record.
func BenchmarkSealDetail(b *testing.B) {
	l := newLog(b, 10)
	r, clear := l.records[9], []byte(`{"tool":"users:list","outcome":"ok"}`)
	b.ReportAllocs()
	for b.Loop() {
		r.Detail = SealDetail(RecordKey(l.subject, testOrg, r.Seq), testOrg, &r, clear)
	}
}
