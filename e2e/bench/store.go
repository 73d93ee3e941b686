package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"enclave/store"
)

// Store measures what the seal costs: the same small change, each with its audit record
// and its sync, in a sealed state and in one in clear, in turns on one disk. Then what a
// rotation and a backup of the sealed one take while it is in use.
func Store(ctx context.Context, cfg Config) (res Result, err error) {
	res = Result{Bench: "store", Rounds: cfg.Rounds, Each: cfg.Each, CPUs: runtime.NumCPU()}
	dir, err := os.MkdirTemp("", "enclave-bench-")
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	sealed, err := newState(ctx, filepath.Join(dir, "sealed"))
	if err != nil {
		return res, err
	}
	defer sealed.Close()
	clear, err := newState(ctx, filepath.Join(dir, "clear"), store.WithoutSeal())
	if err != nil {
		return res, err
	}
	defer clear.Close()
	rounds := make(map[string][]float64)
	add := func(name string, v float64) { rounds[name] = append(rounds[name], v) }
	for i := range cfg.Rounds {
		cfg.progress("store", i)
		took := map[*store.Store][]time.Duration{}
		sums := map[*store.Store]time.Duration{}
		for n := 0; sums[sealed] < cfg.Each || n < 100; n++ {
			pair := []*store.Store{sealed, clear}
			if n%2 == 1 {
				slices.Reverse(pair)
			}
			for _, s := range pair {
				began := time.Now()
				if err := s.Record(ctx, store.Change{By: "bench", At: began}, "bench.commit", "bench:1", n); err != nil {
					return res, err
				}
				d := time.Since(began)
				took[s], sums[s] = append(took[s], d), sums[s]+d
			}
		}
		for name, s := range map[string]*store.Store{"sealed": sealed, "clear": clear} {
			slices.Sort(took[s])
			add(name+" commits", float64(len(took[s]))/sums[s].Seconds())
			add(name+" p99", float64(took[s][len(took[s])*99/100].Microseconds()))
		}
		began := time.Now()
		r, err := sealed.Rotate(ctx, store.Change{By: "bench", At: began}, nil)
		if err != nil {
			return res, err
		}
		add("rotate", float64(r.Pages)/time.Since(began).Seconds())
		add("pause", float64(r.Pause.Microseconds()))
		began = time.Now()
		var size counter
		if _, err := sealed.Backup(ctx, &size, store.BackupConfig{Made: began}); err != nil {
			return res, err
		}
		add("backup", float64(size)/1e6/time.Since(began).Seconds())
	}
	plain, plainTail := figure("changes in clear", "/s", rounds["clear commits"]), figure("changes in clear, p99", "µs", rounds["clear p99"])
	res.Figures = []Figure{plain, figure("changes, sealed", "/s", rounds["sealed commits"]).of(plain),
		plainTail, figure("changes, sealed, p99", "µs", rounds["sealed p99"]).of(plainTail),
		figure("rotation", "pages/s", rounds["rotate"]), figure("rotation, writers wait", "µs", rounds["pause"]),
		figure("backup", "MB/s", rounds["backup"])}
	return res, nil
}

type counter int64

func (c *counter) Write(b []byte) (int, error) { *c += counter(len(b)); return len(b), nil }

var _ io.Writer = (*counter)(nil)

func newState(ctx context.Context, dir string, opts ...store.Option) (*store.Store, error) {
	s, err := store.Open(ctx, dir, opts...)
	if err != nil {
		return nil, err
	}
	_, err = s.Init(ctx, store.Change{By: "bench", At: time.Now()}, store.InitParams{ID: "01arz3ndektsv4rrffq69g5fav", Name: "bench",
		CACert: bytes.Repeat([]byte{1}, 300), CAKey: bytes.Repeat([]byte{2}, 48), TicketKey: bytes.Repeat([]byte{3}, 32)})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bench: %w", err), s.Close())
	}
	return s, nil
}
