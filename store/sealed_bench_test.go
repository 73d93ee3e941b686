package store

import (
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// BenchmarkSealCost makes the same small change in a sealed store and in one in
// clear, in turns, so that both meet the same disk. Each is one commit and one sync.
func BenchmarkSealCost(b *testing.B) {
	sides := []struct {
		name string
		s    *Store
		took []time.Duration
		sum  time.Duration
	}{{name: "sealed", s: made(b, stateDir(b), InitParams{})}, {name: "clear", s: made(b, stateDir(b), InitParams{}, inClear)}}
	for n := 0; b.Loop(); n++ {
		for i := range sides {
			side := &sides[(i+n)%2]
			began := time.Now()
			if err := side.s.Record(b.Context(), by(start), "x.y", "z", nil); err != nil {
				b.Fatal(err)
			}
			d := time.Since(began)
			side.took, side.sum = append(side.took, d), side.sum+d
		}
	}
	for _, side := range sides {
		slices.Sort(side.took)
		b.ReportMetric(float64(len(side.took))/side.sum.Seconds(), side.name+"-commits/s")
		b.ReportMetric(float64(side.took[len(side.took)*99/100].Microseconds()), side.name+"-p99-µs")
	}
	b.ReportMetric(float64(sides[1].sum)/float64(sides[0].sum), "sealed/clear")
}

// BenchmarkSealedOpen is a start with the state of 10,000 systems, every page
// deciphered and checked, beside the same in clear.
func BenchmarkSealedOpen(b *testing.B) {
	for _, side := range []struct {
		name string
		opts []Option
	}{{"sealed", nil}, {"clear", []Option{inClear}}} {
		b.Run(side.name, func(b *testing.B) {
			dir := stateDir(b)
			s := made(b, dir, InitParams{}, side.opts...)
			fill(b, s, 10_000)
			var pages int
			if err := s.read.QueryRow("PRAGMA page_count").Scan(&pages); err != nil {
				b.Fatal(err)
			}
			s.Close()
			for b.Loop() {
				s, err := Open(b.Context(), dir, side.opts...)
				if err != nil {
					b.Fatal(err)
				}
				s.Close()
			}
			b.ReportMetric(float64(pages)*float64(b.N)/b.Elapsed().Seconds(), "pages/s")
		})
	}
}

// BenchmarkRotate encrypts the state of 10,000 systems again.
func BenchmarkRotate(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "state")
	s := made(b, dir, InitParams{})
	fill(b, s, 10_000)
	s.Close()
	var pages int64
	for b.Loop() {
		r, err := Rotate(b.Context(), dir, by(start))
		if err != nil {
			b.Fatal(err)
		}
		pages = r.Pages
	}
	b.ReportMetric(float64(pages)*float64(b.N)/b.Elapsed().Seconds(), "pages/s")
}
