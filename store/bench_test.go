package store

import (
	"fmt"
	"testing"

	"enclave/wire"
)

// BenchmarkCommit is the smallest change: one record, one sync to the disk.
func BenchmarkCommit(b *testing.B) {
	s := made(b, stateDir(b), InitParams{})
	for b.Loop() {
		if err := s.Record(b.Context(), by(start), "x.y", "z", nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

func BenchmarkEnrol(b *testing.B) {
	s := made(b, stateDir(b), InitParams{})
	if _, err := s.CreateKey(b.Context(), by(start), KeyParams{Secret: SecretHash{1}, Automatic: true, Tags: []wire.Tag{"a", "b"}}); err != nil {
		b.Fatal(err)
	}
	n := 0
	for b.Loop() {
		n++
		if _, _, err := s.Enrol(b.Context(), start, EnrolParams{Secret: SecretHash{1}, Name: "box", Keys: keys32(n)}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "enrolments/s")
}

func BenchmarkSetSeen(b *testing.B) {
	s := made(b, stateDir(b), InitParams{})
	id, at := fill(b, s, 1), start
	for b.Loop() {
		at = at.Add(1) // SQLite does not write a row that stays the same
		if err := s.SetSeen(b.Context(), id, at, 1); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSnapshot10000 loads the whole state of a large organisation.
func BenchmarkSnapshot10000(b *testing.B) {
	s := made(b, stateDir(b), InitParams{})
	fill(b, s, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		snap, err := s.Snapshot(b.Context())
		if err != nil || len(snap.Systems) != 10_000 {
			b.Fatal(len(snap.Systems), err)
		}
	}
}

// BenchmarkOpen10000 is a start with that state, quick_check included.
func BenchmarkOpen10000(b *testing.B) {
	dir := stateDir(b)
	s := made(b, dir, InitParams{})
	fill(b, s, 10_000)
	s.Close()
	for b.Loop() {
		s, err := Open(b.Context(), dir)
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

// fill enrols n systems in one transaction, because it is the reading that is
// measured; with certificates of the usual size and a policy each hundred.
func fill(b testing.TB, s *Store, n int) (last wire.SystemID) {
	b.Helper()
	ctx := b.Context()
	if _, err := s.CreateKey(ctx, by(start), KeyParams{Secret: SecretHash{7}, Automatic: true, Tags: []wire.Tag{"a", "b"}}); err != nil {
		b.Fatal(err)
	}
	svid := append([]byte{0x30, 0x82, 0x01, 0xc0}, make([]byte, 0x1c0)...)
	_, err := s.change(ctx, "fill", by(start), func(w *writing) error {
		for i := range n {
			id, err := w.enrol(ctx, EnrolParams{Secret: SecretHash{7}, Name: "box", Keys: keys32(i + 1)})
			if err != nil {
				return err
			}
			last = wire.SystemID(id)
			if _, err := w.ExecContext(ctx, "UPDATE systems SET svid = ? WHERE org_id = ? AND id = ?", svid, w.org, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	for i := range n / 100 {
		doc := wire.Policy{Name: fmt.Sprint("p", i), Kind: wire.Direct, Enabled: true, SenderTags: []wire.Tag{"a"}, ReceiverTags: []wire.Tag{"b"},
			ACLs: []wire.ACL{{Proto: wire.TCP, Ports: wire.Ports{{Lo: 22, Hi: 22}}}}}
		if _, _, err := s.CreatePolicy(ctx, by(start), doc); err != nil {
			b.Fatal(err)
		}
	}
	return last
}
