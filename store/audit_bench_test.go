package store

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"enclave/store/audit"
)

// BenchmarkAuditAppend is what a record costs: one by one, each with its own wait for the
// disk, and from many callers at once, who share it; with and without the seal.
func BenchmarkAuditAppend(b *testing.B) {
	for _, seal := range []struct {
		name string
		opts []Option
	}{{"sealed", nil}, {"plain", []Option{inClear}}} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/callers=%d", seal.name, callers), func(b *testing.B) {
				s := made(b, stateDir(b), InitParams{}, seal.opts...)
				detail := map[string]string{"tool": "users:list", "outcome": "ok"}
				b.ReportAllocs()
				b.ResetTimer()
				var wg sync.WaitGroup
				for c := range callers {
					wg.Go(func() {
						for i := c; i < b.N; i += callers {
							if err := s.Record(context.Background(), by(start), "run.call", "run:k3j9x", detail); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

// BenchmarkAuditProof proves records and consistency in a trail of 100,000.
func BenchmarkAuditProof(b *testing.B) {
	s, ctx := made(b, stateDir(b), InitParams{}), context.Background()
	var wg sync.WaitGroup
	const n = 100_000
	for c := range maxGroup {
		wg.Go(func() {
			for i := c; i < n; i += maxGroup {
				if err := s.Record(ctx, by(start.Add(time.Duration(i))), "run.call", "run:k3j9x", map[string]int{"i": i}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.Run("record", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := s.ProveRecord(ctx, int64(1+i*7919%n), n); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("consistency", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := s.ProveConsistency(ctx, int64(1+i*7919%n), n); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("checkpoint", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.AuditHead(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.VerifyAudit(ctx, nil); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "records/s")
	})
	b.Run("export", func(b *testing.B) {
		var out bytes.Buffer
		for b.Loop() {
			out.Reset()
			if _, err := s.ExportAudit(ctx, &out, ExportQuery{}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "records/s")
		b.ReportMetric(float64(out.Len())/n, "B/record")
	})
	var out bytes.Buffer
	if h, err := s.ExportAudit(ctx, &out, ExportQuery{}); err != nil || h.Last < n {
		b.Fatal(err)
	} else if v, err := audit.NewVerifier(h.Key, nil, nil); err != nil || v.File(&out) != nil || v.Report().Finding != nil {
		b.Error(v.Report().Finding)
	}
}
