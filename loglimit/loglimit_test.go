package loglimit

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLinesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		log := New(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})))
		part := log.With("part", "x").WithGroup("g")
		for i := range 10_000 {
			part.Info("refused", "n", i)
		}
		if n := strings.Count(b.String(), "\n"); n != Burst {
			t.Fatalf("%d lines, want %d", n, Burst)
		}
		log.Warn("shares the bound")
		log.Debug("was asked for")
		if n := strings.Count(b.String(), "\n"); n != Burst+1 || !strings.Contains(b.String(), "was asked for") {
			t.Fatalf("%d lines, want %d and the one of debug", n, Burst)
		}
		b.Reset()
		time.Sleep(Every)
		log.Info("again")
		log.Info("and not yet")
		if want := fmt.Sprintf("msg=again left_out=%d\n", 10_000-Burst+1); !strings.HasSuffix(b.String(), want) {
			t.Errorf("%q, want one line that ends in %q", b.String(), want)
		}
	})
}

func ExampleLogger() {
	log := New(slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})))
	log.Info("connection refused", "from", "192.0.2.1")
	// Output: level=INFO msg="connection refused" from=192.0.2.1
}
